"""Events are durable before they are acknowledged; batches that arrive together share a commit."""

import asyncio
from dataclasses import dataclass

import numpy as np
import polars as pl

from api.clock import now_us
from api.errors import ApiError
from features.arrays import BoolArray
from features.store import Store

MAX_WAITING = 50_000  # events; some seconds of writing, then callers are told to come back


@dataclass(frozen=True, slots=True)
class _Batch:
    events: pl.DataFrame
    is_new: "asyncio.Future[BoolArray]"


class EventLog:
    """The order of arrival is the order of writing: a commit takes all that waits."""

    def __init__(self, store: Store, *, max_waiting: int = MAX_WAITING) -> None:
        self._store = store
        self._max_waiting = max_waiting
        self._waiting: list[_Batch] = []
        self._n_unwritten = 0
        self._writer: asyncio.Task[None] | None = None

    async def append(self, events: pl.DataFrame) -> BoolArray:
        """(n,) False for a duplicate; on return they are on disk. ApiError 429 when behind."""
        if not len(events):
            return np.zeros(0, np.bool_)
        if self._n_unwritten + len(events) > self._max_waiting:
            raise ApiError(
                429,
                f"{self._n_unwritten:,} events wait to be written, at most {self._max_waiting:,} "
                "may. Nothing of this batch was kept: send it again after Retry-After seconds.",
            )
        batch = _Batch(events, asyncio.get_running_loop().create_future())
        self._waiting.append(batch)
        self._n_unwritten += len(events)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
        return await batch.is_new

    async def _write_waiting(self) -> None:
        while self._waiting:
            batches, self._waiting = self._waiting, []
            await self._write(batches)
        self._writer = None

    async def _write(self, batches: list[_Batch]) -> None:
        events = pl.concat([batch.events for batch in batches])
        try:
            is_new = await asyncio.to_thread(
                self._store.append_events, events, received_at_us=now_us()
            )
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            for batch in batches:
                if not batch.is_new.done():
                    batch.is_new.set_exception(error)
        else:
            parts = np.split(is_new, np.cumsum([len(batch.events) for batch in batches])[:-1])
            for batch, part in zip(batches, parts, strict=True):
                if not batch.is_new.done():  # its caller has gone
                    batch.is_new.set_result(part)
        finally:
            self._n_unwritten -= len(events)
