"""Releases come, go and break while shoppers are being served."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.live import LiveRelease
from recsys.recommender import Recommender
from tests.api.conftest import Client, Shop, item, items, open_client, until
from tests.api.fake_recommender import FakeRecommender, load_fake

OTHER_ITEMS = [f"n{n}" for n in range(20)]


def _fake(client: Client) -> FakeRecommender:
    serving = client.day.live.serving
    assert serving is not None
    assert isinstance(serving.recommender, FakeRecommender)
    return serving.recommender


def test_releases_change_under_load_without_a_failed_request(shop: Shop, client: Client) -> None:
    stop = threading.Event()
    seen: set[tuple[int, str]] = set()

    def shop_on() -> None:
        while not stop.is_set():
            answer = client.post("/v1/recommend", json={"k": 5})
            seen.add((answer.status_code, answer.json().get("release_id", "none")))

    with ThreadPoolExecutor(3) as pool:
        shoppers = [pool.submit(shop_on) for _ in range(3)]
        try:
            for release_id in ("r2", "r3", "r4"):
                shop.publish(release_id)
                until(lambda now=release_id: (200, now) in seen)  # type: ignore[misc]
        finally:
            stop.set()
    for shopper in shoppers:
        shopper.result()
    assert {status for status, _ in seen} == {200}
    assert client.day.live.n_swaps == 4


def test_rolling_back_is_moving_the_pointer(shop: Shop, client: Client) -> None:
    shop.publish("r2", OTHER_ITEMS)
    until(lambda: client.serves("r2"))
    assert client.shown(k=1) == ["n19"]
    shop.releases.activate("r1")
    until(lambda: client.serves("r1"))
    assert client.shown(k=1) == ["i19"]


def test_a_tampered_release_is_refused_once_and_the_old_one_serves(
    shop: Shop, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    shop.publish("r2", OTHER_ITEMS)
    until(lambda: client.serves("r2"))
    damaged = shop.releases.path("r1") / "items.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with caplog.at_level(logging.ERROR):
        _point_at(shop, "r1")
        until(lambda: client.day.live.n_refused == 1)
        time.sleep(5 * shop.settings.poll_interval_s)
    assert client.day.live.n_refused == 1
    assert [r for r in caplog.records if "release_refused" in r.message] == caplog.records
    ready = client.get("/readyz").json()
    assert ready["release_id"] == "r2"
    assert [r["release_id"] for r in ready["refused"]] == ["r1"]
    assert "items.parquet" in ready["refused"][0]["reason"]
    assert client.shown(k=1) == ["n19"]


def test_a_release_that_answers_nothing_is_refused(shop: Shop, client: Client) -> None:
    shop.publish("r2", answers=False)
    until(lambda: client.day.live.n_refused == 1)
    assert client.serves("r1")
    shop.publish("r3")
    until(lambda: client.serves("r3"))


def test_a_first_release_that_is_broken_is_the_reason_of_503(
    shop: Shop, early_client: Client
) -> None:
    shop.publish("r1", answers=False)
    until(lambda: early_client.day.live.n_refused == 1)
    refused = early_client.get("/readyz")
    assert refused.status_code == 503
    assert "r1 was refused" in refused.json()["error"]["message"]


def test_an_empty_catalogue_is_served_empty(shop: Shop, early_client: Client) -> None:
    shop.publish("r1", [])
    until(lambda: early_client.serves("r1"))
    until(lambda: len(early_client.shown(k=100)) == 0)


def test_items_of_another_process_are_followed(shop: Shop, client: Client) -> None:
    shop.store.upsert_items(items(item("other")), updated_at_us=2)
    until(lambda: "other" in client.shown(k=100))
    shop.store.delete_items(["other", "i19"], updated_at_us=3)
    until(lambda: client.shown(k=1) == ["i18"])


def test_a_new_release_knows_what_changed_since_its_night(shop: Shop, client: Client) -> None:
    shop.publish("r2")
    until(lambda: client.serves("r2"))
    client.put("/v1/items/late", json={"title": "Late"})
    client.delete("/v1/items/i19")
    shop.releases.activate("r1")
    until(lambda: client.serves("r1"))
    assert client.shown(k=1) == ["late"]
    assert "i19" not in client.shown(k=100)


def test_a_new_release_has_the_columns_that_filters_ask_of(shop: Shop, client: Client) -> None:
    filtered = {"k": 3, "filter": "price = 10 and nobody_has_this = 1"}
    assert client.post("/v1/recommend", json=filtered).status_code == 200
    shop.publish("r2")
    until(lambda: client.serves("r2"))
    assert _fake(client).catalog.columns == ("price",)


def test_no_request_is_the_first_to_ask_of_what_placements_and_rules_name(
    shop: Shop, client: Client
) -> None:
    cheap = {"then": {"action": "hide", "where": "price > 1000"}, "enabled": False}
    assert client.put("/v1/rules/cheap", json=cheap).status_code == 200
    assert _fake(client).catalog.columns == ("price",)
    assert client.put("/v1/placements/strip", json={"filter": "title != 'x'"}).status_code == 200
    assert sorted(_fake(client).catalog.columns) == ["price", "title"]
    assert client.delete("/v1/placements/strip").status_code == 200
    with open_client(shop) as later:
        assert _fake(later).catalog.columns == ("price",)


def test_items_put_while_a_release_loads_reach_it(shop: Shop) -> None:
    loading, go_on = threading.Event(), threading.Event()
    shop.publish("r1")

    def load_slowly(folder: Path, release_id: str) -> Recommender:
        loaded = load_fake(folder, release_id)
        if release_id == "r2":
            loading.set()
            assert go_on.wait(10)
        return loaded

    with Client(shop.app(load_slowly)) as client:
        until(lambda: client.serves("r1"))
        shop.publish("r2")
        assert loading.wait(10)
        client.put("/v1/items/meanwhile", json={"title": "Meanwhile"})
        assert client.shown(k=1) == ["meanwhile"]
        go_on.set()
        until(lambda: client.serves("r2"))
        assert client.shown(k=1) == ["meanwhile"]


def test_who_asks_while_the_first_release_loads_is_told_to_wait(shop: Shop) -> None:
    go_on = threading.Event()
    shop.publish("r1")

    def load_slowly(folder: Path, release_id: str) -> Recommender:
        assert go_on.wait(10)
        return load_fake(folder, release_id)

    with Client(shop.app(load_slowly)) as client:

        def told() -> str:
            return str(client.get("/readyz").json()["error"]["message"])

        until(lambda: "Release r1 is being loaded: try again in some seconds" in told())
        go_on.set()
        until(lambda: client.serves("r1"))


def test_an_item_put_here_is_embedded_once(client: Client) -> None:
    fake = _fake(client)
    client.put("/v1/items/fresh", json={"title": "Fresh"})
    change = client.day.store.items_changed_after(0)[0]
    live = client.day.live
    until(lambda: live.serving is not None and live.serving.change == change)
    assert fake.n_embedded == 1


def test_an_item_that_another_process_changed_last_ends_as_the_store_has_it(
    shop: Shop, client: Client
) -> None:
    client.put("/v1/items/both", json={"title": "Ours", "tags": ["ours"]})
    shop.store.upsert_items(items(item("both", tags=["theirs"])), updated_at_us=2)
    until(lambda: client.shown(filter="tags = 'theirs'") == ["both"])
    assert client.shown(filter="tags = 'ours'") == []


def test_a_deleted_item_disappears_while_others_are_being_embedded(
    shop: Shop, client: Client
) -> None:
    _fake(client).may_embed.clear()
    shop.store.upsert_items(items(*(item(f"bulk{n}") for n in range(100))), updated_at_us=2)
    time.sleep(3 * shop.settings.poll_interval_s)
    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(client.delete, "/v1/items/i19")
        until(lambda: "i19" not in client.shown(k=100))
        assert "bulk99" not in client.shown(k=100)
        _fake(client).may_embed.set()
        assert deleting.result().status_code == 200
    until(lambda: "bulk99" in client.shown(k=100))


def test_a_pointer_that_cannot_be_read_changes_nothing(shop: Shop, client: Client) -> None:
    (shop.settings.releases_dir / "CURRENT").write_text("../../etc\n")
    time.sleep(3 * shop.settings.poll_interval_s)
    assert client.shown(k=1) == ["i19"]
    shop.publish("r2", OTHER_ITEMS)
    until(lambda: client.serves("r2"))


def test_a_refused_release_is_looked_at_again_after_a_while(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live.RETRY_REFUSED_S", 0.0)
    shop.publish("r1", answers=False)
    live = LiveRelease(shop.store, shop.releases, load_fake)
    for _ in range(2):
        asyncio.run(live.look())
    assert live.n_refused == 2


def _point_at(shop: Shop, release_id: str) -> None:
    """As a person with an editor would: without the check that `activate` makes."""
    (shop.settings.releases_dir / "CURRENT").write_text(f"{release_id}\n")
