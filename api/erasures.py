"""DELETE /v1/users/{id} and GET /v1/erasures/{id}: a user is forgotten, with a receipt."""

import asyncio
from typing import Any

import polars as pl
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers_told import ErasureAnswer
from api.clock import now, now_us
from api.day import answered, day, request_id
from api.errors import ApiError
from api.keys import ScopedRoute
from api.openapi import documented
from api.users import UserId
from features.erasures import Erasure
from recsys.experiments.stored import forget

router = APIRouter(route_class=ScopedRoute)

ACCEPTED = 202


def _later(documentation: dict[str, Any]) -> dict[str, Any]:
    """The answer is a promise: 202 in the place of 200."""
    responses = documentation["responses"]
    responses[ACCEPTED] = responses.pop(200)
    return {**documentation, "status_code": ACCEPTED}


@router.delete(
    "/v1/users/{user_id:path}",
    summary="Erase everything of a user",
    description="Attributes, sessions, events and slates are gone from the store, and what the "
    "release learned of the user from this server, when this answers; from other servers within "
    "their poll interval. Closed history and later releases follow with the next night, or with "
    "python -m jobs erase: the receipt says when. A user of whom nothing is stored gets a "
    "receipt too.",
    **_later(documented(ErasureAnswer, 422, 503, scope="erase")),
)
async def erase_user(request: Request, user_id: UserId) -> Response:
    today = day(request)
    await asyncio.to_thread(today.slates.flush)  # what was shown before is erased with the rest
    erasure = await asyncio.to_thread(today.store.people.erase, user_id, requested_at_us=now_us())
    names = {user_id, *erasure.session_ids}
    await asyncio.to_thread(forget, today.store.documents, names, now=now())
    await today.directives.follow()
    today.live.forget(user_id, erasure.session_ids)
    today.pages.forget(user_id)
    return _receipt(request, erasure, ACCEPTED)


@router.get(
    "/v1/erasures/{receipt_id}",
    summary="How far an erasure has come",
    **documented(ErasureAnswer, 404, 422, 503, scope="erase"),
)
async def get_erasure(request: Request, receipt_id: str) -> Response:
    erasure = await asyncio.to_thread(day(request).store.people.erasure, receipt_id)
    if erasure is None:
        raise ApiError(404, f"There is no receipt {receipt_id[:80]!r}.")
    return _receipt(request, erasure, 200)


def _receipt(request: Request, erasure: Erasure, status: int) -> Response:
    is_complete = erasure.completed_at_us is not None
    response = answered(
        {
            "request_id": request_id(request),
            "receipt_id": erasure.receipt_id,
            "status": "complete" if is_complete else "pending",
            "erased": dict(erasure.counts),
            "lake_rows": erasure.lake_rows,
            "requested_at": _written(erasure.requested_at_us),
            "completed_at": _written(erasure.completed_at_us),
        }
    )
    response.status_code = status
    return response


def _written(time_us: int | None) -> str | None:
    at = pl.Series([time_us], dtype=pl.Int64).cast(pl.Datetime("us"))
    written: str | None = at.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")[0]
    return written
