"""POST /v1/recommend, POST /v1/search and GET /v1/items/{id}/similar: what to show."""

import asyncio
import logging
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from api.answers import SimilarAnswer, SlateAnswer
from api.bodies import MAX_K, Id, RecommendBody, SearchBody, ShopperBody
from api.clock import now_us
from api.day import Day, answered, day, read, request_id
from api.errors import STORE_ERRORS, ApiError
from api.logs import line
from api.openapi import documented
from features.events import RecentEvents
from features.slates import SlateRecord
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.types import Answer, Ask

log = logging.getLogger(__name__)
router = APIRouter()

RECENT_EVENTS = 200  # the models read the last 50; the others still say what was seen before


@router.post(
    "/v1/recommend",
    summary="A slate for a shopper, a session or a stranger",
    **documented(SlateAnswer, 503, takes=RecommendBody),
)
async def recommend(request: Request) -> Response:
    body = await read(request, RecommendBody)
    serving = day(request).live.required()
    ask, degraded = _ask(request, body, body.context_item_ids, serving.policy)
    answer = serving.recommender.recommend(ask)
    return _slate_response(request, body, ask, serving.recommender, answer, degraded)


@router.post(
    "/v1/search",
    summary="Items that match words, in the order this shopper would like",
    **documented(SlateAnswer, 503, takes=SearchBody),
)
async def search(request: Request) -> Response:
    body = await read(request, SearchBody)
    serving = day(request).live.required()
    ask, degraded = _ask(request, body, (), serving.policy)
    answer = serving.recommender.search(body.query, ask)
    return _slate_response(request, body, ask, serving.recommender, answer, degraded)


@router.get(
    "/v1/items/{item_id:path}/similar",
    summary="Items like this one",
    **documented(SimilarAnswer, 404, 422, 503),
)
async def similar(
    request: Request,
    item_id: Annotated[Id, Path()],
    k: Annotated[int, Query(ge=1, le=MAX_K)] = 10,
) -> Response:
    recommender = day(request).live.required().recommender
    stored = await asyncio.to_thread(day(request).store.item, item_id)
    if stored is None or recommender.catalog.row(item_id) < 0:
        raise ApiError(404, f"There is no item {item_id!r}. PUT /v1/items/{{id}} adds one.")
    found = recommender.similar(item_id, k=k)
    return answered(
        {
            "request_id": request_id(request),
            "items": [{"item_id": like, "score": float(score)} for like, score in found],
            "release_id": recommender.release_id,
        }
    )


def _ask(
    request: Request, body: ShopperBody, context: tuple[str, ...], policy: Policy
) -> tuple[Ask, list[str]]:
    """The question with what the store knows at this very moment; what failed on the way."""
    now, degraded = now_us(), []
    try:
        recent = day(request).store.recent_events(
            user_id=body.user_id, session_id=body.session_id, before_us=now, limit=RECENT_EVENTS
        )
    except STORE_ERRORS as error:  # a stranger's answer is better than none
        log.error(line("recent_events_failed", cause=repr(error)))
        recent, degraded = RecentEvents.none(), ["recent_events"]
    ask = Ask(
        request_id=request_id(request),
        now_us=now,
        k=body.k,
        placement=body.placement,
        user_id=body.user_id,
        session_id=body.session_id,
        recent=recent,
        context_item_ids=context,
        exclude_item_ids=body.exclude_item_ids,
        filter=body.filter.to_filter() if body.filter else None,
        explain=body.explain,
        policy=body.policy.applied_to(policy),
    )
    return ask, degraded


def _slate_response(
    request: Request,
    body: ShopperBody,
    ask: Ask,
    recommender: Recommender,
    answer: Answer,
    degraded: list[str],
) -> Response:
    content: dict[str, object] = {
        "request_id": ask.request_id,
        "items": _items(answer),
        "release_id": recommender.release_id,
        "experiments": [],
        "degraded": [*degraded, *answer.degraded],
        "missing_ids": [i for i in ask.context_item_ids if recommender.catalog.row(i) < 0],
    }
    if ask.explain:
        content["removed"] = answer.removed
    timing = ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in answer.stage_ms.items())
    response = answered(content, {"Server-Timing": timing})
    response.background = BackgroundTask(
        partial(_log_slate, day(request), body, ask, recommender.release_id, answer)
    )
    return response


def _items(answer: Answer) -> list[dict[str, object]]:
    scores = answer.slate.scores.tolist()
    items: list[dict[str, object]] = [
        {"item_id": item_id, "score": score, "reasons": reasons}
        for item_id, score, reasons in zip(answer.item_ids, scores, answer.reasons, strict=True)
    ]
    if answer.explanations is not None:
        for item, explanation in zip(items, answer.explanations, strict=True):
            item["explanation"] = explanation
    return items


async def _log_slate(
    today: Day, body: ShopperBody, ask: Ask, release_id: str, answer: Answer
) -> None:
    """Runs when the answer has been sent; `async`, or it would go through the thread pool."""
    if answer.item_ids:
        today.slates.offer(
            SlateRecord(
                request_id=ask.request_id,
                user_id=body.user_id,
                session_id=body.session_id,
                placement=ask.placement,
                shown_at_us=ask.now_us,
                release_id=release_id,
                experiment=None,
                variant=None,
                item_ids=answer.item_ids,
                propensities=answer.slate.propensities,
                scores=answer.slate.scores,
                source_scores=answer.slate.source_scores,
                features=answer.slate.features,
            )
        )
