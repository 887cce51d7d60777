"""POST /v1/events: what shoppers did, each row with its verdict."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers_told import Attribution, EventsAnswer
from api.attribution import Showing, attribution, showings
from api.bodies_told import EventRow, EventsBody, Malformed
from api.day import Day, answered, day, read, request_id
from api.errors import STORE_ERRORS
from api.event_log import Fate
from api.keys import ScopedRoute
from api.live import LiveRelease
from api.logs import line
from api.metrics import Metrics, counted
from api.openapi import documented

log = logging.getLogger(__name__)
router = APIRouter(route_class=ScopedRoute)


@router.post(
    "/v1/events",
    summary="Write down what shoppers did; durable when this answers",
    description="An event with a request_id is checked against the slate it names; its verdict "
    "says so in `attribution`, and it is accepted in any case.",
    **documented(EventsAnswer, 429, 503, takes=EventsBody, scope="events"),
)
async def append_events(request: Request) -> Response:
    rows = (await read(request, EventsBody, beacon=True)).rows
    today = day(request)
    well_formed = [row for row in rows if isinstance(row, EventRow)]
    written = await today.events.append(well_formed)
    told = list(zip(well_formed, written, strict=True))
    kept = [row for row, fate in told if fate.reason is None]
    shown = await _shown(today, kept)
    fates = _aligned(rows, written)
    counts = Counter(fate.verdict for fate in fates)
    _count(counted(request), counts, [row for row, fate in told if fate == NEW], shown)
    return answered(
        {
            "request_id": request_id(request),
            **{verdict: counts[verdict] for verdict in ("accepted", "duplicate", "rejected")},
            "verdicts": [
                _verdict(index, row, fate, shown)
                for index, (row, fate) in enumerate(zip(rows, fates, strict=True))
            ],
            "missing_ids": _missing(today.live, kept),
        }
    )


NEW = Fate("accepted")


async def _shown(today: Day, rows: Sequence[EventRow]) -> Mapping[str, Showing] | None:
    """None if it cannot be read: the events are on disk, and that is what the caller must know."""
    try:
        return await showings(today.store, today.slates, rows)
    except STORE_ERRORS as error:
        log.error(line("attribution_failed", cause=repr(error)))
        return None


def _count(
    metrics: Metrics,
    verdicts: Mapping[str, int],
    new: Sequence[EventRow],
    shown: Mapping[str, Showing] | None,
) -> None:
    metrics.told(verdicts)
    if not shown and not any(row.request_id for row in new):
        return
    for row in new:
        found = _attribution(row, shown)
        if found is not None:
            metrics.attributed(found)
        if found == "ok" and shown and row.request_id:
            metrics.acted_on(shown[row.request_id].placement, row.event_type)


def _aligned(rows: Sequence[EventRow | Malformed], written: Sequence[Fate]) -> list[Fate]:
    """One fate for each row: `written` has those of the well-formed ones."""
    rest = iter(written)
    return [
        Fate("rejected", row.reason) if isinstance(row, Malformed) else next(rest) for row in rows
    ]


def _verdict(
    index: int, row: EventRow | Malformed, fate: Fate, shown: Mapping[str, Showing] | None
) -> dict[str, object]:
    verdict: dict[str, object] = {"index": index, "event_id": row.event_id, "verdict": fate.verdict}
    if fate.reason is not None:
        verdict["reason"] = fate.reason
    elif isinstance(row, EventRow) and (found := _attribution(row, shown)) is not None:
        verdict["attribution"] = found
    return verdict


def _attribution(row: EventRow, shown: Mapping[str, Showing] | None) -> Attribution | None:
    return None if shown is None else attribution(row, shown)


def _missing(live: LiveRelease, rows: Sequence[EventRow]) -> list[str]:
    """Items the release does not know; accepted all the same, for the catalogue may lag."""
    if live.serving is None:
        return []
    catalog = live.serving.recommender.catalog
    return [i for i in dict.fromkeys(row.item_id for row in rows) if catalog.row(i) < 0]
