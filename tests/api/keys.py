"""Keys for tests: made, stored, and known to the server at once."""

from typing import Any

from features.key_text import MAX_BODY_BYTES, KeyText, Role, make_key
from features.keys import KeyRecord
from tests.api.conftest import Client

SHOP = "https://shop.example"


def record_of(key: KeyText, role: Role, **values: Any) -> KeyRecord:
    defaults: dict[str, Any] = {
        "key_id": key.key_id,
        "name": "a test's",
        "role": role,
        "secret_hash": key.secret_hash,
        "origins": (),
        "rate_per_s": 10_000.0,
        "burst": 10_000,
        "max_body_bytes": MAX_BODY_BYTES[role],
        "created_at_us": 1,
    }
    return KeyRecord(**{**defaults, **values})


def give(client: Client, role: Role, **values: Any) -> KeyText:
    """A key that the running server knows when this returns."""
    key = make_key(role)
    client.day.store.keys.add(record_of(key, role, **values))
    look(client)
    return key


def look(client: Client) -> None:
    """What the server does every poll interval."""
    assert client.portal is not None
    client.portal.call(client.day.keys.look)


def bearer(key: KeyText) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.full_text}"}
