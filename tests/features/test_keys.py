from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from features.keys import KeyRecord
from features.store import Store

KEY = KeyRecord(
    key_id="k1",
    name="the shop's pages",
    role="browser",
    secret_hash="0" * 64,
    origins=("https://shop.example", "https://m.shop.example"),
    rate_per_s=12.5,
    burst=40,
    max_body_bytes=64_000,
    created_at_us=5,
)


def test_keys_come_back_as_they_were_made_in_their_order(url: str) -> None:
    older = replace(KEY, key_id="z", origins=(), created_at_us=4, expires_at_us=9)
    with Store.open(url) as store:
        assert store.keys.all() == []
        store.keys.add(KEY)
        store.keys.add(older)
    with Store.open(url) as store:
        assert store.keys.all() == [older, KEY]


def test_a_key_is_revoked_once(url: str) -> None:
    with Store.open(url) as store:
        store.keys.add(KEY)
        assert store.keys.revoke("k1", at_us=7)
        assert not store.keys.revoke("k1", at_us=8)
        assert not store.keys.revoke("unknown", at_us=8)
        assert store.keys.all() == [replace(KEY, revoked_at_us=7)]


def test_a_key_id_is_given_once(url: str) -> None:
    with Store.open(url) as store:
        store.keys.add(KEY)
        with pytest.raises(IntegrityError):
            store.keys.add(replace(KEY, name="another"))
        assert store.keys.all() == [KEY]
