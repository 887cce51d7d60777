"""Events are durable before they are acknowledged.

Batches that arrive while others are being written wait, and are then checked together and written
in one commit: both cost milliseconds a time, whether for one event or for a thousand.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import polars as pl

from api.bodies_told import EventRow
from api.clock import now_us
from api.errors import ApiError
from features.event_checks import check_events, parse_times
from features.events import MAX_CLOCK_SKEW_US, CheckedRows, EventType
from features.store import Store

MAX_WAITING = 50_000  # events; some seconds of writing, then callers are told to come back

_COLUMNS = {
    name: pl.Float64() if name == "value" else pl.String() for name in EventRow.model_fields
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one event: `verdict` is accepted, duplicate, or rejected with a reason."""

    verdict: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: Sequence[EventRow]
    fates: "asyncio.Future[list[Fate]]"


class EventLog:
    """The order of arrival is the order of writing; one commit at a time."""

    def __init__(
        self, store: Store, event_types: Sequence[EventType], *, max_waiting: int = MAX_WAITING
    ) -> None:
        self._store = store
        self._event_types = event_types
        self._max_waiting = max_waiting
        self._waiting: list[_Batch] = []
        self._n_unwritten = 0
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return self._n_unwritten

    @property
    def is_full(self) -> bool:
        return self._n_unwritten >= self._max_waiting

    async def drained(self) -> None:
        """Return when nothing waits any more, whoever has left before hearing of it."""
        if self._writer is not None:
            await self._writer

    async def append(self, rows: Sequence[EventRow]) -> list[Fate]:
        """On return the accepted rows are on disk. ApiError 429 when too many are waiting."""
        if not rows:
            return []
        if self._n_unwritten + len(rows) > self._max_waiting:
            raise ApiError(
                429,
                f"{self._n_unwritten:,} events wait to be written, at most {self._max_waiting:,} "
                "may. Nothing of this batch was kept: send it again after Retry-After seconds.",
            )
        batch = _Batch(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(batch)
        self._n_unwritten += len(rows)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
        return await batch.fates

    async def _write_waiting(self) -> None:
        while self._waiting:
            batches, self._waiting = self._waiting, []
            await self._write(batches)
        self._writer = None

    async def _write(self, batches: list[_Batch]) -> None:
        rows = [row for batch in batches for row in batch.rows]
        try:
            fates = iter(await asyncio.to_thread(self._checked_and_stored, rows))
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            for batch in batches:
                if not batch.fates.done():
                    batch.fates.set_exception(error)
        else:
            for batch in batches:
                own = list(islice(fates, len(batch.rows)))
                if not batch.fates.done():  # else its caller has gone
                    batch.fates.set_result(own)
        finally:
            self._n_unwritten -= len(rows)

    def _checked_and_stored(self, rows: Sequence[EventRow]) -> list[Fate]:
        now = now_us()
        checked = check_events(_table(rows, now), now_us=now, event_types=self._event_types)
        is_new = self._store.append_events(checked.accepted, received_at_us=now)
        return list(_fates(len(rows), checked, is_new.tolist()))


def _table(rows: Sequence[EventRow], now: int) -> pl.DataFrame:
    """The rows as `check_events` takes them, their times read."""
    columns = {name: [getattr(row, name) for row in rows] for name in _COLUMNS}
    frame = pl.DataFrame(columns, schema=_COLUMNS)
    times = parse_times(frame["event_time"])
    # Rows without a time get the last microseconds before now, one each, to keep their order.
    arrived = now - len(frame) + pl.int_range(pl.len())
    # A browser's clock may run ahead, but nothing happens later than it arrives; and the next
    # answer must see it.
    time, ahead = pl.col("event_time_us"), now + MAX_CLOCK_SKEW_US
    settled = pl.when(time <= ahead).then(pl.min_horizontal(time, pl.lit(now))).otherwise(time)
    return frame.hstack(times).with_columns(
        event_time_us=pl.when(pl.col("event_time").is_null()).then(arrived).otherwise(settled)
    )


def _fates(n_rows: int, checked: CheckedRows, is_new: list[bool]) -> Iterator[Fate]:
    reasons = dict(checked.rejected.iter_rows())
    new = iter(is_new)
    for row in range(n_rows):
        if row in reasons:
            yield Fate("rejected", reasons[row])
        else:
            yield Fate("accepted" if next(new) else "duplicate")
