"""POST /v1/events: what shoppers did, each row with its verdict."""

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers_told import EventsAnswer
from api.bodies_told import EventRow, EventsBody, Malformed
from api.day import answered, day, read, request_id
from api.event_log import Fate
from api.live import LiveRelease
from api.openapi import documented

router = APIRouter()


@router.post(
    "/v1/events",
    summary="Write down what shoppers did; durable when this answers",
    **documented(EventsAnswer, 429, 503, takes=EventsBody),
)
async def append_events(request: Request) -> Response:
    rows = (await read(request, EventsBody)).rows
    well_formed = [row for row in rows if isinstance(row, EventRow)]
    written = await day(request).events.append(well_formed)
    fates = _aligned(rows, written)
    counts = Counter(fate.verdict for fate in fates)
    kept = [row for row, fate in zip(well_formed, written, strict=True) if fate.reason is None]
    return answered(
        {
            "request_id": request_id(request),
            **{verdict: counts[verdict] for verdict in ("accepted", "duplicate", "rejected")},
            "verdicts": [
                _verdict(index, row, fate)
                for index, (row, fate) in enumerate(zip(rows, fates, strict=True))
            ],
            "missing_ids": _missing(day(request).live, kept),
        }
    )


def _aligned(rows: Sequence[EventRow | Malformed], written: Sequence[Fate]) -> list[Fate]:
    """One fate for each row: `written` has those of the well-formed ones."""
    rest = iter(written)
    return [
        Fate("rejected", row.reason) if isinstance(row, Malformed) else next(rest) for row in rows
    ]


def _verdict(index: int, row: EventRow | Malformed, fate: Fate) -> dict[str, object]:
    verdict: dict[str, object] = {"index": index, "event_id": row.event_id, "verdict": fate.verdict}
    return verdict if fate.reason is None else {**verdict, "reason": fate.reason}


def _missing(live: LiveRelease, rows: Sequence[EventRow]) -> list[str]:
    """Items the release does not know; accepted all the same, for the catalogue may lag."""
    if live.serving is None:
        return []
    catalog = live.serving.recommender.catalog
    return [i for i in dict.fromkeys(row.item_id for row in rows) if catalog.row(i) < 0]
