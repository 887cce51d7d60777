"""GET /healthz: the process answers. GET /readyz: it can recommend."""

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Alive, Ready
from api.clock import now_us
from api.day import Day, answered, day, request_id
from api.errors import STORE_ERRORS, ApiError
from api.keys import ScopedRoute
from api.openapi import documented
from features.errors import NotReady
from features.events import US_PER_SECOND

router = APIRouter(route_class=ScopedRoute)


@router.get("/healthz", summary="Is the process alive?", **documented(Alive, scope="public"))
async def healthz(request: Request) -> Response:
    return answered({"status": "alive", "request_id": request_id(request)})


@router.get(
    "/readyz",
    summary="Can it recommend, from which release?",
    **documented(Ready, 503, scope="public"),
)
async def readyz(request: Request) -> Response:
    today = day(request)
    reasons = await asyncio.to_thread(_reasons, today)
    serving = today.live.serving
    if reasons or serving is None:
        raise ApiError(503, " ".join(reasons), details=reasons)
    refused = today.live.all_refused.items()
    return answered(
        {
            "status": "ready",
            "request_id": request_id(request),
            "release_id": serving.recommender.release_id,
            "release_age_s": (now_us() - serving.created_at_us) / US_PER_SECOND,
            "items": serving.recommender.catalog.n_available,
            "refused": [{"release_id": name, "reason": r.reason} for name, r in refused],
            "unreadable": dict(today.directives.known.unreadable),
            "slates": today.slates.counts(),
            "events_waiting": today.events.waiting,
        }
    )


def _reasons(today: Day) -> list[str]:
    """Why requests should go to another replica; empty if there is none."""
    reasons = []
    try:
        today.live.required()
    except NotReady as error:
        reasons.append(str(error))
    try:
        today.store.cursor("lake.events")
    except STORE_ERRORS as error:
        reasons.append(f"The store cannot be read: {type(error).__name__}.")
    if today.slates.is_full:
        reasons.append("More slates wait for the store than fit into the queue.")
    if today.events.is_full:
        reasons.append("More events wait for the store than may.")
    return reasons
