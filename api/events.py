"""POST /v1/events: what shoppers did, each row with its verdict."""

from collections.abc import Sequence

import polars as pl
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import EventsAnswer
from api.bodies import EventRow, EventsBody, Malformed
from api.clock import now_us
from api.day import answered, day, read, request_id
from api.live import LiveRelease
from api.openapi import documented
from features.arrays import BoolArray
from features.event_checks import check_events, parse_times
from features.events import MAX_CLOCK_SKEW_US, CheckedRows, EventType

router = APIRouter()

_TEXTS = {name: pl.String() for name in EventRow.model_fields if name != "value"}
_COLUMNS = {**_TEXTS, "value": pl.Float64()}


@router.post(
    "/v1/events",
    summary="Write down what shoppers did; durable when this answers",
    **documented(EventsAnswer, 429, 503, takes=EventsBody),
)
async def append_events(request: Request) -> Response:
    rows = (await read(request, EventsBody)).rows
    today = day(request)
    well_formed = [index for index, row in enumerate(rows) if isinstance(row, EventRow)]
    checked = _checked([rows[index] for index in well_formed], now_us(), today.event_types)
    is_new = await today.events.append(checked.accepted)
    verdicts = _verdicts(rows, well_formed, checked, is_new)
    counts = dict.fromkeys(("accepted", "duplicate", "rejected"), 0)
    for verdict in verdicts:
        counts[str(verdict["verdict"])] += 1
    item_ids = checked.accepted["item_id"].unique(maintain_order=True)
    return answered(
        {
            "request_id": request_id(request),
            **counts,
            "verdicts": verdicts,
            "missing_ids": _missing(today.live, item_ids.to_list()),
        }
    )


def _checked(
    rows: Sequence[EventRow | Malformed], now: int, event_types: Sequence[EventType]
) -> CheckedRows:
    frame = pl.DataFrame([dict(row) for row in rows], schema=_COLUMNS)
    times = parse_times(frame["event_time"])
    # Rows without a time get the last microseconds before now, one each, to keep their order.
    served = now - len(frame) + pl.int_range(pl.len())
    # A browser's clock may run ahead, but nothing happened later than it arrived; and the next
    # answer must see it.
    frame = frame.hstack(times).with_columns(
        event_time_us=pl.when(pl.col("event_time").is_null())
        .then(served)
        .when(pl.col("event_time_us") <= now + MAX_CLOCK_SKEW_US)
        .then(pl.min_horizontal("event_time_us", pl.lit(now)))
        .otherwise("event_time_us")
    )
    return check_events(frame.drop("event_time"), now_us=now, event_types=event_types)


def _verdicts(
    rows: Sequence[EventRow | Malformed],
    well_formed: list[int],
    checked: CheckedRows,
    is_new: BoolArray,
) -> list[dict[str, object]]:
    reasons = {i: row.reason for i, row in enumerate(rows) if isinstance(row, Malformed)}
    reasons |= {well_formed[row]: reason for row, reason in checked.rejected.iter_rows()}
    new = iter(is_new.tolist())
    verdicts: list[dict[str, object]] = []
    for index, row in enumerate(rows):
        verdict: dict[str, object] = {"index": index, "event_id": row.event_id}
        if index in reasons:
            verdict |= {"verdict": "rejected", "reason": reasons[index]}
        else:
            verdict["verdict"] = "accepted" if next(new) else "duplicate"
        verdicts.append(verdict)
    return verdicts


def _missing(live: LiveRelease, item_ids: list[str]) -> list[str]:
    """Accepted all the same: the catalogue may lag behind the shop."""
    if live.serving is None:
        return []
    catalog = live.serving.recommender.catalog
    return [item_id for item_id in item_ids if catalog.row(item_id) < 0]
