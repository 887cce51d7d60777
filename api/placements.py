"""GET, PUT and DELETE /v1/placements/{name}: the places of the storefront, as data."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api import warnings
from api.answers import Deleted, PlacementAnswer, PlacementsAnswer, PlacementWritten
from api.bodies import PlacementBody
from api.clock import now_us
from api.day import answered, day, read, request_id
from api.directives import Known, own_name
from api.errors import ApiError
from api.keys import ScopedRoute
from api.openapi import documented
from recsys.placements import PLACEMENT, Placement, PlacementName

router = APIRouter(route_class=ScopedRoute)

Name = Annotated[PlacementName, Path(description="of the placement")]


@router.get(
    "/v1/placements",
    summary="Every placement, those the shop wrote and those that come with the server",
    **documented(PlacementsAnswer, scope="rules"),
)
async def list_placements(request: Request) -> Response:
    known = day(request).directives.known
    placements = [_shown(known, name) for name in sorted(known.placements)]
    return answered({"request_id": request_id(request), "placements": placements})


@router.get(
    "/v1/placements/{name}",
    summary="One placement",
    **documented(PlacementAnswer, 404, 422, scope="rules"),
)
async def get_placement(request: Request, name: Name) -> Response:
    known = day(request).directives.known
    if name not in known.placements:
        raise _unknown(name)
    return answered({"request_id": request_id(request), **_shown(known, name)})


@router.put(
    "/v1/placements/{name}",
    summary="Add or replace a placement; in force when this answers",
    **documented(PlacementWritten, 503, takes=PlacementBody, scope="rules"),
)
async def put_placement(request: Request, name: Name) -> Response:
    body, today = await read(request, PlacementBody), day(request)
    placement = Placement.model_validate(own_name(body, "name", name))
    text = placement.model_dump_json(exclude_defaults=True)
    changed = await asyncio.to_thread(
        today.store.documents.put, PLACEMENT, name, text, updated_at_us=now_us()
    )
    await today.directives.follow()
    return answered(
        {
            "request_id": request_id(request),
            "changed": changed,
            "warnings": warnings.of_placement(placement, today.live.serving),
            **placement.model_dump(mode="json"),
            "stored": True,
        }
    )


@router.delete(
    "/v1/placements/{name}",
    summary="Forget a placement; one that comes with the server is as it was",
    **documented(Deleted, 404, 422, 503, scope="rules"),
)
async def delete_placement(request: Request, name: Name) -> Response:
    today = day(request)
    deleted = await asyncio.to_thread(
        today.store.documents.delete, PLACEMENT, name, updated_at_us=now_us()
    )
    await today.directives.follow()
    if not deleted:
        raise _unknown(name)
    return answered({"request_id": request_id(request), "name": name, "deleted": True})


def _shown(known: Known, name: str) -> dict[str, object]:
    stored = name in known.stored_placements
    return {**known.placements[name].model_dump(mode="json"), "stored": stored}


def _unknown(name: str) -> ApiError:
    return ApiError(404, f"No placement {name!r} is stored. PUT /v1/placements/{{name}} adds one.")
