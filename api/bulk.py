"""POST and GET /v1/bulk/items and /v1/bulk/users: whole tables, a JSON document a line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import polars as pl
from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import item_rows, user_rows
from api.answers_told import BulkAnswer, StoredItem, StoredUser
from api.bodies import Body
from api.bodies_told import ItemRow, UserRow, reason
from api.clock import now_us
from api.day import answered, day, request_id
from api.errors import ApiError
from api.keys import ScopedRoute
from api.ndjson import MAX_LINE_BYTES, MEDIA_TYPE, MEDIA_TYPES, ROWS_AT_ONCE, Line, chunks
from api.openapi import documented
from api.scopes import Scope
from features.events import CheckedRows
from features.store import Store

router = APIRouter(route_class=ScopedRoute)

MAX_BULK_BYTES = 1_000_000_000
MAX_REJECTED_NAMED = 100

R = TypeVar("R", bound=Body)

TOO_LONG = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
ITEMS_NOTE = (
    "Stored. Changed items are encoded in the background, some hundred a second, and can be "
    "recommended one after the other; what is deleted or not available is gone within a second."
)
USERS_NOTE = "Stored."


@dataclass(slots=True)
class Tally:
    """What became of the lines so far."""

    n_lines: int = 0
    n_changed: int = 0
    n_rejected: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)

    def add(self, n_lines: int, n_changed: int, rejected: Sequence[tuple[int, str]]) -> None:
        self.n_lines += n_lines
        self.n_changed += n_changed
        self.n_rejected += len(rejected)
        room = MAX_REJECTED_NAMED - len(self.rejected)
        self.rejected += sorted(rejected)[:room]

    def answer(self, note: str) -> dict[str, object]:
        return {
            "lines": self.n_lines,
            "changed": self.n_changed,
            "unchanged": self.n_lines - self.n_changed - self.n_rejected,
            "rejected": self.n_rejected,
            "rejected_lines": [{"line": n, "reason": why} for n, why in self.rejected],
            "more_rejected": self.n_rejected - len(self.rejected),
            "note": note,
        }


def _uploaded(model: type[Body], scope: Scope) -> dict[str, Any]:
    said = documented(BulkAnswer, 413, 415, 422, 503, scope=scope, max_body_bytes=MAX_BULK_BYTES)
    said["openapi_extra"]["requestBody"] = {"required": True, "content": _as_lines(model)}
    return said


def _downloaded(model: type[BaseModel], scope: Scope) -> dict[str, Any]:
    said = documented(BulkAnswer, 503, scope=scope)
    said["responses"][200] = {"description": "one a line", "content": _as_lines(model)}
    return said


def _as_lines(model: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI has no word for a document a line: text, and an example of two lines."""
    example = "".join(f"{json.dumps(line)}\n" for line in _EXAMPLES[model])
    schema = {
        "type": "string",
        "description": f"{', '.join(model.model_fields)}: one object a line",
    }
    return {MEDIA_TYPE: {"schema": schema, "example": example}}


_ITEMS: list[dict[str, Any]] = [
    {"item_id": "lamp-4", "title": "Brass reading lamp", "attributes": {"price": 59.0}},
    {"item_id": "lamp-5", "title": "Desk lamp", "tags": ["lighting"]},
]
_USERS: list[dict[str, Any]] = [
    {"user_id": "u-17", "attributes": {"country": "NL"}},
    {"user_id": "u-18"},
]
_EXAMPLES: dict[type[BaseModel], list[dict[str, Any]]] = {
    ItemRow: _ITEMS,
    StoredItem: _ITEMS,
    UserRow: _USERS,
    StoredUser: _USERS,
}


@router.post(
    "/v1/bulk/items",
    summary="Add or replace items, one a line; a line that is wrong stops no other",
    description="Stored as it comes in, about a thousand lines a commit: an upload that breaks off "
    "keeps what it brought, and may be sent again from the start. A later line of an id counts. "
    "Up to 1 GB, a line up to 1 MB. Changed items can be recommended one after the other, as "
    "the server encodes them.",
    **_uploaded(ItemRow, "catalogue"),
)
async def upload_items(request: Request) -> Response:
    return await _upload(request, _store_items, ITEMS_NOTE)


@router.post(
    "/v1/bulk/users",
    summary="Add or replace users' attributes, one user a line",
    description="As /v1/bulk/items.",
    **_uploaded(UserRow, "users"),
)
async def upload_users(request: Request) -> Response:
    return await _upload(request, _store_users, USERS_NOTE)


@router.get(
    "/v1/bulk/items",
    summary="Every item, one a line, in the order of their ids",
    description="What POST takes. Reads on while items change: each is as it is when its turn "
    "comes. A broken connection is an answer that is not whole.",
    **_downloaded(StoredItem, "catalogue"),
)
async def download_items(request: Request) -> Response:
    store = day(request).store
    return await _download(store.items_after, "item_id", item_rows.described)


@router.get(
    "/v1/bulk/users",
    summary="Every user with stored attributes, one a line, in the order of their ids",
    description="As /v1/bulk/items.",
    **_downloaded(StoredUser, "users"),
)
async def download_users(request: Request) -> Response:
    people = day(request).store.people
    return await _download(people.after, "user_id", user_rows.described)


Stored = tuple[int, list[tuple[int, str]]]  # rows changed; rejected lines with their reasons


async def _upload(
    request: Request, store_lines: Callable[[Store, Sequence[Line]], Stored], note: str
) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        raise ApiError(415, f"found a body of type {kind or 'none'}, expected {MEDIA_TYPE}")
    tally = Tally()
    async for lines in chunks(request.stream()):
        n_changed, rejected = await asyncio.to_thread(store_lines, day(request).store, lines)
        tally.add(len(lines), n_changed, rejected)
    return answered({"request_id": request_id(request), **tally.answer(note)})


def _store_items(store: Store, lines: Sequence[Line]) -> Stored:
    numbers, rows, rejected = _read(ItemRow, lines)
    found = item_rows.checked([row.item_id for row in rows], rows)
    known = store.published_at(found.accepted["item_id"].unique().to_list())
    now = now_us()
    n_changed = store.upsert_items(item_rows.dated(found.accepted, known, now), updated_at_us=now)
    return n_changed, [*rejected, *_refused(numbers, found)]


def _store_users(store: Store, lines: Sequence[Line]) -> Stored:
    numbers, rows, rejected = _read(UserRow, lines)
    found = user_rows.checked([row.user_id for row in rows], rows)
    n_changed = store.people.upsert_users(found.accepted, updated_at_us=now_us())
    return n_changed, [*rejected, *_refused(numbers, found)]


def _read(
    model: type[R], lines: Sequence[Line]
) -> tuple[list[int], list[R], list[tuple[int, str]]]:
    """Line numbers and, aligned, rows; and the lines that are none."""
    numbers, rows, rejected = [], [], []
    for number, line in lines:
        if line is None:
            rejected.append((number, TOO_LONG))
            continue
        try:
            rows.append(model.model_validate_json(line))
            numbers.append(number)
        except ValidationError as error:
            rejected.append((number, reason(error.errors(include_url=False)[0])))
    return numbers, rows, rejected


def _refused(numbers: Sequence[int], found: CheckedRows) -> list[tuple[int, str]]:
    return [(numbers[row], why) for row, why in found.rejected.iter_rows()]


async def _download(
    after: Callable[[str | None, int], pl.DataFrame],
    key: str,
    described: Callable[[pl.DataFrame], list[dict[str, object]]],
) -> Response:
    """The first page before the answer begins, so that a store that fails is an error."""
    first = await asyncio.to_thread(after, None, ROWS_AT_ONCE)

    async def pages() -> AsyncIterator[bytes]:
        page = first
        while len(page):
            yield b"".join(orjson.dumps(row, option=_LINE) for row in described(page))
            page = await asyncio.to_thread(after, page[key][-1], ROWS_AT_ONCE)

    return StreamingResponse(pages(), media_type=MEDIA_TYPE)


_LINE = orjson.OPT_APPEND_NEWLINE
