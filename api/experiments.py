"""Experiments over HTTP: drafted, started, watched, stopped and decided; each step is logged."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Deleted
from api.assigning import assigned_to
from api.clock import now, now_us
from api.day import Day, answered, day, read, request_id
from api.directives import own_name
from api.errors import ApiError
from api.experiment_answers import (
    ExperimentAnswer,
    ExperimentsAnswer,
    HoldoutAnswer,
    ReportAnswer,
    WouldGetAnswer,
)
from api.experiment_bodies import DecideBody, DesignBody, HoldoutBody, StepBody
from api.keys import ScopedRoute
from api.openapi import documented
from api.shoppers import shopper_of
from features.documents import Documents
from recsys.experiments import lifecycle, stored
from recsys.experiments.experiment import (
    EXPERIMENT,
    REPORT,
    Design,
    Experiment,
    Holdout,
    Key,
)

router = APIRouter(route_class=ScopedRoute)
W = TypeVar("W")

Name = Annotated[Key, Path(description="of the experiment")]
UnitId = Annotated[str, Query(min_length=1, max_length=256, description="a user or session")]


@router.get(
    "/v1/experiments",
    summary="Every experiment and its state",
    **documented(ExperimentsAnswer, scope="experiments"),
)
async def list_experiments(request: Request) -> Response:
    known = day(request).directives.known
    found = [known.experiments[name].model_dump(mode="json") for name in sorted(known.experiments)]
    unreadable = {
        name: why for name, why in known.unreadable.items() if name.startswith(f"{EXPERIMENT}/")
    }
    return answered(
        {"request_id": request_id(request), "experiments": found, "unreadable": unreadable}
    )


@router.get(
    "/v1/experiments/{name}",
    summary="One experiment: its design, state, phases and log",
    **documented(ExperimentAnswer, 404, 422, scope="experiments"),
)
async def get_experiment(request: Request, name: Name) -> Response:
    return _shown(request, _known(day(request), name))


@router.put(
    "/v1/experiments/{name}",
    summary="Draft an experiment, or change one",
    description="A draft may change freely. Of a running one, what decides who sees what begins a "
    "new phase, and the plan is fixed.",
    **documented(ExperimentAnswer, 503, takes=DesignBody, scope="experiments"),
)
async def put_experiment(request: Request, name: Name) -> Response:
    body = await read(request, DesignBody)
    design = Design.model_validate(own_name(body, "name", name))
    documents, releases = _documents(request), day(request).live
    return await _kept(
        request, lambda: stored.put(documents, design, release_ids=releases.stored(), now=now())
    )


@router.delete(
    "/v1/experiments/{name}",
    summary="Forget a draft; what has run stays, so that nobody loses its results",
    **documented(Deleted, 404, 422, 503, scope="experiments"),
)
async def delete_experiment(request: Request, name: Name) -> Response:
    today = day(request)
    await _exists(request, name)
    await _obeyed(today, partial(stored.remove, today.store.documents, name, now=now()))
    return answered({"request_id": request_id(request), "name": name, "deleted": True})


@router.post(
    "/v1/experiments/{name}/start",
    summary="Begin a phase: from the next answer on, units get their variants",
    description="Other processes follow within RECSYS_POLL_INTERVAL_S.",
    **documented(ExperimentAnswer, 404, 503, takes=StepBody, scope="experiments"),
)
async def start(request: Request, name: Name) -> Response:
    body, documents, releases = (
        await read(request, StepBody),
        _documents(request),
        day(request).live,
    )
    await _exists(request, name)
    return await _kept(
        request,
        lambda: stored.start(
            documents, name, reason=body.reason, release_ids=releases.stored(), now=now()
        ),
    )


@router.post(
    "/v1/experiments/{name}/stop",
    summary="End it: everybody is answered as without it",
    **documented(ExperimentAnswer, 404, 503, takes=StepBody, scope="experiments"),
)
async def stop(request: Request, name: Name) -> Response:
    body = await read(request, StepBody)
    return await _step(request, name, lambda e, _: lifecycle.stopped(e, now(), body.reason))


@router.post(
    "/v1/experiments/{name}/decide",
    summary="Write down what was decided, for good; a decision changes no answer by itself",
    **documented(ExperimentAnswer, 404, 503, takes=DecideBody, scope="experiments"),
)
async def decide(request: Request, name: Name) -> Response:
    body = await read(request, DecideBody)
    return await _step(
        request, name, lambda e, _: lifecycle.decided(e, now(), body.variant, body.reason)
    )


@router.get(
    "/v1/experiments/{name}/assignment",
    summary="What a unit would get now on a placement, and by what; nothing counts as shown",
    **documented(WouldGetAnswer, 404, 422, scope="experiments"),
)
async def would_get(
    request: Request, name: Name, unit_id: UnitId, placement: str = "home"
) -> Response:
    today = day(request)
    found = _known(today, name)
    is_session = found.design.unit == "session"
    user_id, session_id = (None, unit_id) if is_session else (unit_id, None)
    assigned = await asyncio.to_thread(
        lambda: assigned_to(today, shopper_of(today, user_id, session_id, now_us()), placement)
    )
    given = next((a for a in assigned.assignments if a.experiment == name), None)
    return answered(
        {
            "request_id": request_id(request),
            "experiment": name,
            "unit_id": unit_id,
            "placement": placement,
            "variant": given and given.variant,
            "how": given and given.how,
        }
    )


@router.get(
    "/v1/experiments/{name}/report",
    summary="The last analysis",
    **documented(ReportAnswer, 404, 422, 503, scope="experiments"),
)
async def report(request: Request, name: Name) -> Response:
    today = day(request)
    _known(today, name)
    body = await asyncio.to_thread(today.store.documents.get, REPORT, name)
    if body is None:
        raise ApiError(
            404,
            f"the experiment {name!r} was not analysed yet: run python -m jobs experiments "
            f"analyse {name}, or wait for the night",
        )
    return answered({"request_id": request_id(request), "report": orjson.Fragment(body)})


@router.get(
    "/v1/holdout",
    summary="The share of units that no experiment touches",
    **documented(HoldoutAnswer, scope="experiments"),
)
async def get_holdout(request: Request) -> Response:
    held = day(request).directives.known.holdout or Holdout(share=0.0)
    return answered({"request_id": request_id(request), **held.model_dump()})


@router.put(
    "/v1/holdout",
    summary="Hold a share of the units out of every experiment",
    description="Refused while an experiment runs: its units would move.",
    **documented(HoldoutAnswer, 503, takes=HoldoutBody, scope="experiments"),
)
async def put_holdout(request: Request) -> Response:
    body, today = await read(request, HoldoutBody), day(request)
    held = Holdout(share=body.share, salt=body.salt)
    await _obeyed(today, partial(stored.hold_out, today.store.documents, held, now=now()))
    return answered({"request_id": request_id(request), **held.model_dump()})


async def _step(request: Request, name: str, step: stored.Step) -> Response:
    await _exists(request, name)
    documents = _documents(request)
    return await _kept(request, lambda: stored.take(documents, name, step, now=now()))


async def _exists(request: Request, name: str) -> None:
    """404 where no server has written it."""
    today = day(request)
    await today.directives.follow()
    if f"{EXPERIMENT}/{name}" not in today.directives.known.unreadable:
        _known(today, name)


async def _kept(request: Request, write: Callable[[], Experiment]) -> Response:
    return _shown(request, await _obeyed(day(request), write))


async def _obeyed(today: Day, write: Callable[[], W]) -> W:
    """Written down, and obeyed from here on."""
    try:
        return await asyncio.to_thread(write)
    finally:  # what was refused may have been decided by what another server wrote
        await today.directives.follow()


def _shown(request: Request, experiment: Experiment) -> Response:
    return answered({"request_id": request_id(request), **experiment.model_dump(mode="json")})


def _known(today: Day, name: str) -> Experiment:
    found = today.directives.known.experiments.get(name)
    if found is None:
        raise ApiError(
            404, f"No experiment {name!r} is stored. PUT /v1/experiments/{{name}} drafts one."
        )
    return found


def _documents(request: Request) -> Documents:
    return day(request).store.documents
