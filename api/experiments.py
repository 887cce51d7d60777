"""Experiments over HTTP: drafted, started, watched, stopped and decided; each step is logged."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Deleted
from api.assigning import assigned_to
from api.clock import now_us
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
from features.errors import DataError
from recsys.experiments import lifecycle
from recsys.experiments.experiment import (
    EXPERIMENT,
    GLOBAL,
    HOLDOUT,
    REPORT,
    Design,
    Experiment,
    Holdout,
    Key,
)

router = APIRouter(route_class=ScopedRoute)
MAX_TRIES = 10  # people change a shop's documents some times a day, each in a millisecond

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
    releases = await asyncio.to_thread(day(request).live.stored)

    def step(today: Day) -> Experiment:
        lifecycle.check_releases(design, releases)
        before = today.directives.known.experiments.get(name)
        if before is None:
            return lifecycle.drafted(design, _now())
        return lifecycle.changed(before, design, _now(), _all(today))

    return await _keep(request, step)


@router.delete(
    "/v1/experiments/{name}",
    summary="Forget a draft; what has run stays, so that nobody loses its results",
    **documented(Deleted, 404, 422, 503, scope="experiments"),
)
async def delete_experiment(request: Request, name: Name) -> Response:
    today = day(request)
    await today.directives.follow()
    found = _known(today, name)
    if found.status != "draft":
        raise ApiError(422, f"the experiment {name!r} is {found.status}, expected a draft: keep it")
    documents = today.store.documents
    deleted = await asyncio.to_thread(documents.delete, EXPERIMENT, name, updated_at_us=now_us())
    await today.directives.follow()
    return answered({"request_id": request_id(request), "name": name, "deleted": deleted})


@router.post(
    "/v1/experiments/{name}/start",
    summary="Begin a phase: from the next answer on, units get their variants",
    description="Other processes follow within RECSYS_POLL_INTERVAL_S.",
    **documented(ExperimentAnswer, 404, 503, takes=StepBody, scope="experiments"),
)
async def start(request: Request, name: Name) -> Response:
    body = await read(request, StepBody)
    return await _keep(
        request,
        lambda today: lifecycle.started(_known(today, name), _now(), body.reason, _all(today)),
    )


@router.post(
    "/v1/experiments/{name}/stop",
    summary="End it: everybody is answered as without it",
    **documented(ExperimentAnswer, 404, 503, takes=StepBody, scope="experiments"),
)
async def stop(request: Request, name: Name) -> Response:
    body = await read(request, StepBody)
    return await _keep(
        request, lambda today: lifecycle.stopped(_known(today, name), _now(), body.reason)
    )


@router.post(
    "/v1/experiments/{name}/decide",
    summary="Write down what was decided, for good; a decision changes no answer by itself",
    **documented(ExperimentAnswer, 404, 503, takes=DecideBody, scope="experiments"),
)
async def decide(request: Request, name: Name) -> Response:
    body = await read(request, DecideBody)
    return await _keep(
        request,
        lambda today: lifecycle.decided(_known(today, name), _now(), body.variant, body.reason),
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
    assigned = await asyncio.to_thread(assigned_to, today, placement, user_id, session_id, now_us())
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
    description="Growing it takes units out of running experiments: do it between them.",
    **documented(HoldoutAnswer, 503, takes=HoldoutBody, scope="experiments"),
)
async def put_holdout(request: Request) -> Response:
    body, today = await read(request, HoldoutBody), day(request)
    text = body.model_dump_json()
    documents = today.store.documents
    await asyncio.to_thread(documents.put, HOLDOUT, GLOBAL, text, updated_at_us=now_us())
    await today.directives.follow()
    return answered({"request_id": request_id(request), **body.model_dump()})


async def _keep(request: Request, step: Callable[[Day], Experiment]) -> Response:
    """Take a step of its life, write it down, and obey it from here on.

    Where another server or a command wrote meanwhile, the step is taken again from there.
    """
    today = day(request)
    for _ in range(MAX_TRIES):
        await today.directives.follow()
        since = today.directives.known.change
        try:
            experiment = step(today)
        except DataError as error:
            raise ApiError(422, str(error)) from None
        if await asyncio.to_thread(
            today.store.documents.put_if_unchanged,
            EXPERIMENT,
            experiment.name,
            experiment.model_dump_json(exclude_defaults=True),
            since=since,
            updated_at_us=now_us(),
        ):
            await today.directives.follow()
            return _shown(request, experiment)
    raise ApiError(
        503,
        "others keep writing experiments, rules or placements: try again",
        code="store_unavailable",
    )


def _shown(request: Request, experiment: Experiment) -> Response:
    return answered({"request_id": request_id(request), **experiment.model_dump(mode="json")})


def _known(today: Day, name: str) -> Experiment:
    found = today.directives.known.experiments.get(name)
    if found is None:
        raise ApiError(
            404, f"No experiment {name!r} is stored. PUT /v1/experiments/{{name}} drafts one."
        )
    return found


def _all(today: Day) -> list[Experiment]:
    return list(today.directives.known.experiments.values())


def _now() -> datetime:
    return datetime.fromtimestamp(now_us() / 1e6, UTC)
