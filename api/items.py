"""PUT, PATCH, GET and DELETE /v1/items/{id}, GET /v1/items: effective in the very next answer."""

import asyncio
from functools import partial
from typing import Annotated

import polars as pl
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.answers_told import Item, ItemDeleted, ItemPage, ItemStored
from api.bodies import Id
from api.bodies_told import ItemBody, ItemPatch
from api.clock import now_us
from api.day import Day, answered, day, read, request_id
from api.errors import ApiError
from api.item_rows import dated, described, one_checked, patched
from api.keys import ScopedRoute
from api.openapi import documented
from features.items import ITEM_SCHEMA
from features.store import Store
from recsys.expression import Expression, parse

router = APIRouter(route_class=ScopedRoute)

ItemId = Annotated[Id, Path(description="any text of up to 256 characters, percent-encoded")]

MAX_PAGE = 1_000
MAX_SCANNED = 20_000  # stored items one page looks at; a rare match takes more pages, not seconds


@router.put(
    "/v1/items/{item_id:path}",
    summary="Add or replace an item; it can be recommended when this answers",
    **documented(ItemStored, 503, takes=ItemBody, scope="catalogue"),
)
async def put_item(request: Request, item_id: ItemId) -> Response:
    item, now = one_checked(item_id, await read(request, ItemBody)), now_us()
    stored = await asyncio.to_thread(_put, day(request).store, item, now)
    return await _changed(request, item_id, changed=stored)


def _put(store: Store, item: pl.DataFrame, now: int) -> bool:
    known = store.published_at(item["item_id"].to_list())
    return store.upsert_items(dated(item, known, now), updated_at_us=now) > 0


@router.patch(
    "/v1/items/{item_id:path}",
    summary="Change what is named of an item, at once (JSON merge patch)",
    **documented(ItemStored, 404, 503, takes=ItemPatch, scope="catalogue"),
)
async def patch_item(request: Request, item_id: ItemId) -> Response:
    patch = await read(request, ItemPatch)
    store, edit = day(request).store, partial(patched, patch=patch)
    changed = await asyncio.to_thread(store.edit_item, item_id, edit, updated_at_us=now_us())
    if changed is None:
        raise _unknown(item_id)
    return await _changed(request, item_id, changed=changed)


async def _changed(request: Request, item_id: str, *, changed: bool) -> Response:
    """The answer, when the live release has the item as it is stored now."""
    live = day(request).live
    if changed:
        await live.refresh(item_id)
    catalog = live.serving.recommender.catalog if live.serving else None
    row = -1 if catalog is None else catalog.row(item_id)
    return answered(
        {
            "request_id": request_id(request),
            "item_id": item_id,
            "changed": changed,
            "retrievable": catalog is not None and row >= 0 and bool(catalog.available[row]),
        }
    )


@router.get(
    "/v1/items/{item_id:path}",
    summary="The item as it is stored",
    **documented(Item, 404, 422, 503, scope="catalogue"),
)
async def get_item(request: Request, item_id: ItemId) -> Response:
    stored = await asyncio.to_thread(day(request).store.item, item_id)
    if stored is None:
        raise _unknown(item_id)
    (item,) = described(pl.DataFrame([stored], schema=ITEM_SCHEMA))
    return answered({"request_id": request_id(request), **item})


@router.delete(
    "/v1/items/{item_id:path}",
    summary="Take an item out of the catalogue; no later answer shows it",
    **documented(ItemDeleted, 404, 422, 503, scope="catalogue"),
)
async def delete_item(request: Request, item_id: ItemId) -> Response:
    today = day(request)
    n_deleted = await asyncio.to_thread(today.store.delete_items, [item_id], updated_at_us=now_us())
    if not n_deleted:
        raise _unknown(item_id)
    today.live.remove(item_id)
    await today.live.refresh(item_id)
    return answered({"request_id": request_id(request), "item_id": item_id, "deleted": True})


@router.get(
    "/v1/items",
    summary="Items in the order of their ids, a page at a time",
    description="Follow `next` until it is null: a page may be short, or even empty, before the "
    "end where a filter is given. Items added or deleted meanwhile move no other item. A filter "
    "is answered from the release that serves: 503 while there is none.",
    **documented(ItemPage, 422, 503, scope="catalogue"),
)
async def list_items(
    request: Request,
    after: Annotated[Id | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    condition: Annotated[
        str | None,
        Query(alias="filter", max_length=4_000, examples=["tags = 'lighting' and price < 80"]),
    ] = None,
) -> Response:
    today = day(request)
    if condition is None:
        items = await asyncio.to_thread(today.store.items_after, after, limit)
        last = items["item_id"][-1] if len(items) == limit else None
    else:
        items, last = await _matching(today, parse(condition), after, limit)
    return answered({"request_id": request_id(request), "items": described(items), "next": last})


async def _matching(
    today: Day, condition: Expression, after: str | None, limit: int
) -> tuple[pl.DataFrame, str | None]:
    """Items that match, and where to go on looking; None at the end of the catalogue."""
    catalog = today.live.required().recommender.catalog
    mask = catalog.matching(condition, now_us())
    found = [pl.DataFrame(schema=ITEM_SCHEMA)]
    n_found = 0
    for _ in range(0, MAX_SCANNED, MAX_PAGE):
        page = await asyncio.to_thread(today.store.items_after, after, MAX_PAGE)
        rows = catalog.rows(page["item_id"].to_list())
        is_known = (rows >= 0) & (rows < len(mask))  # the catalogue grows while this waits
        keep = is_known & mask[rows * is_known] if len(mask) else is_known
        hits = page.filter(pl.Series(keep)).head(limit - n_found)
        found.append(hits)
        n_found += len(hits)
        if n_found == limit:
            return pl.concat(found), hits["item_id"][-1]
        if len(page) < MAX_PAGE:
            return pl.concat(found), None
        after = page["item_id"][-1]
    return pl.concat(found), after


def _unknown(item_id: str) -> ApiError:
    return ApiError(404, f"There is no item {item_id!r}. PUT /v1/items/{{id}} adds one.")
