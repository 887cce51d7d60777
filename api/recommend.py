"""POST /v1/recommend, its next pages, and many slates at once: what to show."""

from dataclasses import replace
from functools import partial

from fastapi import APIRouter
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.requests import Request
from starlette.responses import Response

from api.answers import ManyAnswer, RecommendAnswer, SlateAnswer
from api.asking import (
    EXPLAIN,
    Asked,
    asked_of,
    check_scope,
    first_page,
    placed,
)
from api.assigning import recommended
from api.bodies import ManyBody, NextBody, PageBody, RecommendBody, SlateBody
from api.clock import now_us
from api.day import Day, answered, day, read, request_id
from api.directives import filters
from api.keys import ScopedRoute, caller, charge
from api.live_items import Serving
from api.metrics import Metrics
from api.next_pages import MAX_SHOWN, expired
from api.openapi import documented
from api.shoppers import Shopper, shopper_of
from api.showing import add_descriptions, content, log_slate, missing
from api.warnings import unknown_fields
from recsys.types import Answer

router = APIRouter(route_class=ScopedRoute)


@router.post(
    "/v1/recommend",
    summary="A slate for a shopper, a session or a stranger",
    **documented(RecommendAnswer, 503, takes=RecommendBody, scope="recommend"),
)
async def recommend(request: Request) -> Response:
    body, today = await read(request, RecommendBody), day(request)
    check_scope(request, body)
    serving = today.live.required()
    if body.validate_only:
        return _validated(request, today, serving, body)
    shopper = shopper_of(today, body.user_id, body.session_id, now_us())
    asked = first_page(today, serving, shopper, body, request_id(request))
    answer = _answer_first(request, today, asked)
    return await _response(today, asked, answer)


@router.post(
    "/v1/recommend/next",
    summary="The next page of a slate, for 30 minutes",
    description="Whoever has a slate's request_id may ask for its next page; it has 80 random "
    "bits, so it cannot be guessed. Nothing is repeated, whichever page is named.",
    **documented(SlateAnswer, 404, 503, takes=NextBody, scope="recommend"),
)
async def next_page(request: Request) -> Response:
    body, today = await read(request, NextBody), day(request)
    serving, now = today.live.required(), now_us()
    chain, degraded = await today.pages.find(body.request_id, now)
    # from here to `turn` nothing waits: another next page must see what this one shows
    if len(chain.shown) >= MAX_SHOWN:
        raise expired(f"{MAX_SHOWN:,} items have been shown")
    first = chain.body
    changes = {"k": body.k or first.k, "explain": first.explain and _may_explain(request)}
    page = first.model_copy(update=changes)
    shopper = shopper_of(today, page.user_id, page.session_id, now)
    asked = asked_of(
        *(today, serving, shopper, page, request_id(request)),
        root_id=chain.root_id,
        shown=chain.shown,
    )
    asked = replace(asked, degraded=(*asked.degraded, *degraded))
    answer = recommended(asked.serving.recommender, asked.ask, asked.rival)
    today.pages.turn(chain, asked.ask, answer.item_ids)
    _count(request, asked, answer)
    return await _response(today, asked, answer)


def _may_explain(request: Request) -> bool:
    """A page may be continued with a lesser key than it was begun with; numbers stay behind."""
    return EXPLAIN in caller(request).scopes


@router.post(
    "/v1/recommend/many",
    summary="All slates of a page, without showing an item twice",
    **documented(ManyAnswer, 503, takes=ManyBody, scope="recommend"),
)
async def many(request: Request) -> Response:
    body, today = await read(request, ManyBody), day(request)
    for slate in body.slates:
        check_scope(request, slate)
        placed(today, slate)
    charge(request, len(body.slates))
    serving = today.live.required()
    shopper = shopper_of(today, body.user_id, body.session_id, now_us())
    shown: tuple[str, ...] = ()
    pages: list[tuple[Asked, Answer]] = []
    for number, slate in enumerate(body.slates):
        named = f"{request_id(request)}-{number}"
        asked = first_page(today, serving, shopper, _beside(shopper, slate, shown), named)
        answer = _answer_first(request, today, asked)
        shown += answer.item_ids
        pages.append((asked, answer))
    slates = [content(asked, answer) for asked, answer in pages]
    for (asked, _), slate_shown in zip(pages, slates, strict=True):
        await add_descriptions(today, asked.body, slate_shown)
    response = answered({"request_id": request_id(request), "slates": slates})
    response.background = BackgroundTasks(
        [BackgroundTask(partial(log_slate, today, asked, answer)) for asked, answer in pages]
    )
    return response


def _beside(shopper: Shopper, slate: SlateBody, shown: tuple[str, ...]) -> PageBody:
    """The slate as a request of its own; it was checked when the call was read."""
    fields = {name: getattr(slate, name) for name in SlateBody.model_fields}
    return PageBody.model_construct(
        **fields, user_id=shopper.user_id, session_id=shopper.session_id, shown_beside=shown
    )


def _answer_first(request: Request, today: Day, asked: Asked) -> Answer:
    answer = recommended(asked.serving.recommender, asked.ask, asked.rival)
    if answer.item_ids:
        today.pages.begin(asked.ask, asked.body, answer.item_ids)
    _count(request, asked, answer)
    return answer


def _count(request: Request, asked: Asked, answer: Answer) -> None:
    day(request).directives.count(answer.fired)
    metrics: Metrics = request.app.state.metrics
    metrics.recommended(asked.ask.placement, answer)
    metrics.assigned(asked.assigned)
    metrics.failed(asked.degraded)


async def _response(today: Day, asked: Asked, answer: Answer) -> Response:
    shown = content(asked, answer)
    await add_descriptions(today, asked.body, shown)
    timing = ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in answer.stage_ms.items())
    response = answered(shown, {"Server-Timing": timing})
    response.background = BackgroundTask(partial(log_slate, today, asked, answer))
    return response


def _validated(request: Request, today: Day, serving: Serving, body: RecommendBody) -> Response:
    """The same checks as an answer's; no history is read, nothing counts as shown."""
    placement, catalog = placed(today, body), serving.recommender.catalog
    return answered(
        {
            "request_id": request_id(request),
            "valid": True,
            "placement": placement.name,
            "k": body.k or placement.k,
            "warnings": unknown_fields(catalog, filters(placement, body.filter)),
            "missing_ids": missing(catalog, body.context_item_ids),
        }
    )
