"""PUT, GET and DELETE /v1/items/{id}: the catalogue, effective in the very next answer."""

import asyncio
import json
from typing import Annotated

import orjson
import polars as pl
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.answers_told import Item, ItemDeleted, ItemStored
from api.bodies import Id
from api.bodies_told import ItemBody
from api.clock import now_us
from api.day import answered, day, read, request_id
from api.errors import ApiError
from api.openapi import documented
from features.errors import DataError
from features.event_checks import parse_times
from features.items import check_items

router = APIRouter()

ItemId = Annotated[Id, Path(description="any text of up to 256 characters, percent-encoded")]


@router.put(
    "/v1/items/{item_id:path}",
    summary="Add or replace an item; it can be recommended when this answers",
    **documented(ItemStored, 503, takes=ItemBody),
)
async def put_item(request: Request, item_id: ItemId) -> Response:
    item, today, now = _checked(item_id, await read(request, ItemBody)), day(request), now_us()
    if item["published_at_us"][0] is None:  # an item that nobody dates is new when it first comes
        known = await asyncio.to_thread(today.store.item, item_id)
        first_us = known["published_at_us"] if known else now
        item = item.with_columns(pl.lit(first_us, pl.Int64).alias("published_at_us"))
    n_changed = await asyncio.to_thread(today.store.upsert_items, item, updated_at_us=now)
    is_loaded = today.live.serving is not None
    if n_changed:
        is_loaded = await today.live.refresh(item_id)
    return answered(
        {
            "request_id": request_id(request),
            "item_id": item_id,
            "changed": n_changed > 0,
            "retrievable": is_loaded and bool(item["available"][0]),
        }
    )


@router.get(
    "/v1/items/{item_id:path}",
    summary="The item as it is stored",
    **documented(Item, 404, 422, 503),
)
async def get_item(request: Request, item_id: ItemId) -> Response:
    stored = await asyncio.to_thread(day(request).store.item, item_id)
    if stored is None:
        raise _unknown(item_id)
    published_at_us = stored.pop("published_at_us")
    attributes = orjson.loads(str(stored.pop("attributes")))
    return answered(
        {
            "request_id": request_id(request),
            **stored,
            "attributes": attributes,
            "published_at": None if published_at_us is None else _written(published_at_us),
        }
    )


@router.delete(
    "/v1/items/{item_id:path}",
    summary="Take an item out of the catalogue; no later answer shows it",
    **documented(ItemDeleted, 404, 422, 503),
)
async def delete_item(request: Request, item_id: ItemId) -> Response:
    today = day(request)
    n_deleted = await asyncio.to_thread(today.store.delete_items, [item_id], updated_at_us=now_us())
    if not n_deleted:
        raise _unknown(item_id)
    today.live.remove(item_id)
    await today.live.refresh(item_id)
    return answered({"request_id": request_id(request), "item_id": item_id, "deleted": True})


def _checked(item_id: str, body: ItemBody) -> pl.DataFrame:
    """One row of ITEM_SCHEMA; DataError with the reason if it is not acceptable."""
    row = body.model_dump()
    published = parse_times(
        pl.Series([row.pop("published_at")], dtype=pl.String), name="published_at"
    )
    attributes = json.dumps(row.pop("attributes"))  # orjson writes no integer beyond 64 bits
    row |= {"item_id": item_id, "tags": list(body.tags), "attributes": attributes}
    frame = pl.DataFrame([row], schema_overrides={"tags": pl.List(pl.String)})
    checked = check_items(frame.hstack(published))
    if len(checked.rejected):
        raise DataError(checked.rejected["reason"][0])
    return checked.accepted


def _written(time_us: object) -> str:
    text: str = pl.Series([time_us], dtype=pl.Int64).cast(pl.Datetime("us")).dt.to_string("iso")[0]
    return f"{text.replace(' ', 'T')}Z"


def _unknown(item_id: str) -> ApiError:
    return ApiError(404, f"There is no item {item_id!r}. PUT /v1/items/{{id}} adds one.")
