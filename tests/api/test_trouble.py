"""The store is slow, full or broken, and the server still says something true."""

import asyncio
import logging
import threading
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from sqlalchemy.exc import OperationalError

from api import slate_log
from api.bodies_told import EventRow
from api.errors import ApiError
from api.event_log import EventLog, Fate
from api.slate_log import SlateLog
from features.arrays import BoolArray
from features.events import DEFAULT_EVENT_TYPES, RecentEvents
from features.pages import PageRecord
from features.slates import SlateRecord
from features.store import Store
from tests.api.conftest import Client, Shop, event, until

LOCKED = OperationalError("INSERT", {}, Exception("database is locked"))


class SlowStore(Store):
    """A store whose writes wait for `go`, and count themselves."""

    def __init__(self, shop: Shop) -> None:
        self.go = threading.Event()
        self.n_writes = 0
        self.failures: list[Exception] = []
        self._real = shop.store

    def append_events(self, new_events: pl.DataFrame, *, received_at_us: int) -> BoolArray:
        self._wait()
        return self._real.append_events(new_events, received_at_us=received_at_us)

    def append_slates(
        self, new_slates: Sequence[SlateRecord], pages: Sequence[PageRecord] = ()
    ) -> int:
        self._wait()
        return self._real.append_slates(new_slates, pages)

    def _wait(self) -> None:
        assert self.go.wait(10)
        self.n_writes += 1
        if self.failures:
            raise self.failures.pop(0)


def _rows(*event_ids: str) -> list[EventRow]:
    return [EventRow.model_validate(event(event_id)) for event_id in event_ids]


def _slate(request_id: str) -> SlateRecord:
    one, wide = np.ones(1, np.float32), np.ones((1, 2), np.float32)
    return SlateRecord(
        request_id=request_id,
        user_id=None,
        session_id=None,
        placement="home",
        shown_at_us=1,
        release_id="r1",
        item_ids=("i00",),
        propensities=one,
        scores=one,
        source_scores=wide,
        features=wide,
    )


def test_batches_that_arrive_together_share_a_commit_and_keep_their_own_verdicts(
    shop: Shop,
) -> None:
    store = SlowStore(shop)

    async def arrive() -> list[list[Fate]]:
        log = EventLog(store, DEFAULT_EVENT_TYPES)
        waiting = [asyncio.create_task(log.append(_rows("first")))]
        await asyncio.sleep(0.05)
        waiting += [
            asyncio.create_task(log.append(_rows(*ids))) for ids in (("a", "b"), ("b",), ("c",))
        ]
        await asyncio.sleep(0.05)
        store.go.set()
        return await asyncio.gather(*waiting)

    new, old = Fate("accepted"), Fate("duplicate")
    assert asyncio.run(arrive()) == [[new], [new, new], [old], [new]]
    assert store.n_writes == 2


def test_too_many_events_waiting_are_told_to_come_back_and_none_is_lost(shop: Shop) -> None:
    store = SlowStore(shop)

    async def arrive() -> int:
        log = EventLog(store, DEFAULT_EVENT_TYPES, max_waiting=2)
        accepted = asyncio.create_task(log.append(_rows("a", "b")))
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError) as refused:
            await log.append(_rows("c"))
        store.go.set()
        await accepted
        assert await log.append(_rows("c")) == [Fate("accepted")]
        return refused.value.status

    assert asyncio.run(arrive()) == 429
    assert shop.store.counts()["events"] == 3


def test_a_failed_commit_is_heard_of_by_everyone_who_waits_and_the_next_one_works(
    shop: Shop,
) -> None:
    store = SlowStore(shop)
    store.failures = [LOCKED]
    store.go.set()

    async def arrive() -> list[object]:
        log = EventLog(store, DEFAULT_EVENT_TYPES)
        both = (log.append(_rows("a")), log.append(_rows("b")))
        failed = await asyncio.gather(*both, return_exceptions=True)
        assert await log.append(_rows("a")) == [Fate("accepted")]
        return [*failed]

    assert asyncio.run(arrive()) == [LOCKED, LOCKED]


def test_a_full_queue_drops_counts_and_never_blocks(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    store = SlowStore(shop)
    log = SlateLog(store, capacity=2)
    log.offer(_slate("taken by the thread"))
    until(lambda: log.counts()["waiting"] == 0)
    with caplog.at_level(logging.ERROR):
        offered = [log.offer(_slate(f"s{number}")) for number in range(5)]
    assert offered == [True, True, False, False, False]
    assert "slates_dropped" in caplog.text
    store.go.set()
    log.close()
    assert log.counts() == {"waiting": 0, "written": 3, "dropped": 3, "lost": 0}


def test_slates_outlive_a_locked_store(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate_log, "RETRY_AFTER_S", (0.01, 0.01))
    store = SlowStore(shop)
    store.failures = [LOCKED, LOCKED]
    store.go.set()
    log = SlateLog(store)
    log.offer(_slate("kept"))
    log.close()
    assert log.counts()["written"] == shop.store.counts()["slates"] == 1


def test_slates_of_a_broken_store_are_counted_as_lost(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slate_log, "RETRY_AFTER_S", (0.01,))
    store = SlowStore(shop)
    store.failures = [LOCKED, LOCKED]
    store.go.set()
    log = SlateLog(store)
    log.offer(_slate("gone"))
    log.close()
    assert log.counts()["lost"] == 1


def test_a_defect_costs_one_batch_of_slates_and_not_the_log(shop: Shop) -> None:
    store = SlowStore(shop)
    store.failures = [OverflowError()]
    store.go.set()
    log = SlateLog(store)
    log.offer(_slate("gone"))
    until(lambda: log.lost == 1)
    log.offer(_slate("kept"))
    log.close()
    assert log.counts() == {"waiting": 0, "written": 1, "dropped": 0, "lost": 1}


def test_without_a_store_to_read_a_shopper_is_answered_as_a_stranger(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Store, **_: object) -> RecentEvents:
        raise LOCKED

    monkeypatch.setattr(Store, "recent_events", fail)
    answer = client.recommend(user_id="u1")
    assert answer["degraded"] == ["recent_events"]
    assert len(answer["items"]) == 10


def test_a_store_that_fails_is_503_and_a_defect_is_500_without_its_innards(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    causes: list[Exception] = [LOCKED, ZeroDivisionError("secret")]

    def fail(self: Store, item_id: str) -> None:
        raise causes.pop(0)

    monkeypatch.setattr(Store, "item", fail)
    broken = client.get("/v1/items/i00")
    assert (broken.status_code, broken.json()["error"]["code"]) == (503, "store_unavailable")
    assert broken.headers["Retry-After"]
    defect = client.get("/v1/items/i00")
    assert (defect.status_code, defect.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in defect.text
    assert "ZeroDivisionError" in caplog.text
    assert defect.headers["X-Request-ID"] == defect.json()["request_id"]
