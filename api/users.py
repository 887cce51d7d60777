"""PUT, PATCH and GET /v1/users/{id}, GET /v1/users, their export, and POST /v1/sessions."""

import asyncio
import json
from functools import partial
from typing import Annotated

import polars as pl
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.answers_told import SessionLinked, User, UserExport, UserPage, UserStored
from api.bodies import Id
from api.bodies_told import SessionBody, UserBody, UserPatch
from api.clock import now_us
from api.day import answered, day, read, request_id
from api.errors import ApiError
from api.items import MAX_PAGE
from api.keys import ScopedRoute
from api.openapi import documented
from api.user_rows import described, one_checked, patched
from features.people import USER_SCHEMA

router = APIRouter(route_class=ScopedRoute)

UserId = Annotated[Id, Path(description="any text of up to 256 characters, percent-encoded")]


@router.put(
    "/v1/users/{user_id:path}",
    summary="Add or replace what is known of a user",
    **documented(UserStored, 503, takes=UserBody, scope="users"),
)
async def put_user(request: Request, user_id: UserId) -> Response:
    user = one_checked(user_id, await read(request, UserBody))
    people = day(request).store.people
    n_changed = await asyncio.to_thread(people.upsert_users, user, updated_at_us=now_us())
    return _stored(request, user_id, changed=n_changed > 0)


@router.patch(
    "/v1/users/{user_id:path}",
    summary="Change what is named of a user's attributes (JSON merge patch)",
    **documented(UserStored, 404, 503, takes=UserPatch, scope="users"),
)
async def patch_user(request: Request, user_id: UserId) -> Response:
    patch = await read(request, UserPatch)
    people, edit = day(request).store.people, partial(patched, patch=patch)
    changed = await asyncio.to_thread(people.edit_user, user_id, edit, updated_at_us=now_us())
    if changed is None:
        raise _unknown(user_id)
    return _stored(request, user_id, changed=changed)


@router.get(
    "/v1/users/{user_id:path}",
    summary="The user's attributes",
    **documented(User, 404, 422, 503, scope="users"),
)
async def get_user(request: Request, user_id: UserId) -> Response:
    stored = await asyncio.to_thread(day(request).store.people.user, user_id)
    if stored is None:
        raise _unknown(user_id)
    (user,) = described(pl.DataFrame([stored], schema=USER_SCHEMA))
    return answered({"request_id": request_id(request), **user})


@router.get(
    "/v1/users",
    summary="Users in the order of their ids, a page at a time",
    description="Those with stored attributes; whoever only left events is not listed.",
    **documented(UserPage, 422, 503, scope="users"),
)
async def list_users(
    request: Request,
    after: Annotated[Id | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    users = await asyncio.to_thread(day(request).store.people.after, after, limit)
    last = users["user_id"][-1] if len(users) == limit else None
    return answered({"request_id": request_id(request), "users": described(users), "next": last})


@router.get(
    "/v1/exports/users/{user_id:path}",
    summary="Everything that is stored of a user",
    description="Attributes, sessions, events and slates of the store, also of sessions before "
    "login. A user of whom nothing is stored has an empty export.",
    **documented(UserExport, 422, 503, scope="users"),
)
async def export_user(request: Request, user_id: UserId) -> Response:
    export = await asyncio.to_thread(day(request).store.people.export, user_id)
    whole = {"request_id": request_id(request), **export}
    # not orjson, which writes no integer beyond 64 bits
    return Response(json.dumps(whole), media_type="application/json")


@router.post(
    "/v1/sessions",
    summary="A login: what the session did without a user counts as this user's",
    description="The first user of a session keeps it. Events that carry both ids say the same "
    "by themselves.",
    **documented(SessionLinked, 503, takes=SessionBody, scope="events"),
)
async def link_session(request: Request) -> Response:
    body = await read(request, SessionBody)
    link = day(request).store.people.link
    is_new = await asyncio.to_thread(link, body.session_id, body.user_id, linked_at_us=now_us())
    return answered({"request_id": request_id(request), **body.model_dump(), "linked": is_new})


def _stored(request: Request, user_id: str, *, changed: bool) -> Response:
    return answered({"request_id": request_id(request), "user_id": user_id, "changed": changed})


def _unknown(user_id: str) -> ApiError:
    return ApiError(
        404, f"Nothing is stored about a user {user_id!r}. PUT /v1/users/{{id}} stores something."
    )
