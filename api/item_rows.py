"""Items between their JSON and the store's columns."""

import json
from collections.abc import Mapping, Sequence

import orjson
import polars as pl

from api.bodies_told import ItemBody, ItemPatch
from features.errors import DataError
from features.event_checks import parse_times
from features.events import CheckedRows
from features.items import check_items

_COLUMNS: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "description": pl.String(),
    "tags": pl.List(pl.String()),
    "attributes": pl.String(),
    "available": pl.Boolean(),
    "published_at": pl.String(),
}
_UNSET = {"title": "", "description": "", "tags": (), "attributes": {}, "available": True}


def checked(item_ids: Sequence[str], bodies: Sequence[ItemBody]) -> CheckedRows:
    """ITEM_SCHEMA rows of what is acceptable; `row` of the rejected ones counts from 0."""
    rows = [_row(item_id, dict(body)) for item_id, body in zip(item_ids, bodies, strict=True)]
    return _checked(rows)


def one_checked(item_id: str, body: ItemBody) -> pl.DataFrame:
    """One row of ITEM_SCHEMA; DataError with the reason if it is not acceptable."""
    return _accepted(checked([item_id], [body]))


def patched(stored: Mapping[str, object], patch: ItemPatch) -> pl.DataFrame:
    """The stored row of `Store.item` after a merge patch; DataError if it may not be so."""
    changes = {name: getattr(patch, name) for name in patch.model_fields_set}
    attributes = json.loads(str(stored["attributes"]))
    if "attributes" in changes:
        attributes = merged(attributes, changes.pop("attributes"))
    published_at_us = stored["published_at_us"]
    whole = {name: stored[name] for name in _COLUMNS if name in stored}
    for name, value in changes.items():
        whole[name] = _UNSET.get(name) if value is None else value
    row = _row(str(stored["item_id"]), {**whole, "attributes": attributes})
    if "published_at" in changes:
        return _accepted(_checked([row]))
    frame = pl.DataFrame([row], schema=_COLUMNS).drop("published_at")
    date = pl.lit(published_at_us, pl.Int64).alias("published_at_us")
    return _accepted(check_items(frame.with_columns(date)))


def merged(target: dict[str, object], patch: Mapping[str, object] | None) -> dict[str, object]:
    """RFC 7396 for one level: attributes hold no objects."""
    if patch is None:
        return {}
    whole = {**target, **patch}
    return {name: value for name, value in whole.items() if value is not None}


def dated(items: pl.DataFrame, first_us: Mapping[str, int | None], now: int) -> pl.DataFrame:
    """An item that nobody dates is new when it first comes; `first_us` has those known before."""
    if not items["published_at_us"].null_count():
        return items
    known = [first_us.get(item_id, now) for item_id in items["item_id"]]
    first = pl.Series("known", known, pl.Int64)
    return items.with_columns(published_at_us=pl.coalesce("published_at_us", first))


def described(items: pl.DataFrame) -> list[dict[str, object]]:
    """Rows of ITEM_SCHEMA as the storefront reads them, and could send them again."""
    at = pl.col("published_at_us").cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    rows = items.with_columns(published_at=at).drop("published_at_us").to_dicts()
    for row in rows:
        row["attributes"] = orjson.Fragment(row["attributes"])  # as stored, to the last digit
    return rows


def _row(item_id: str, values: Mapping[str, object]) -> dict[str, object]:
    # not orjson, which writes no integer beyond 64 bits
    return {
        **values,
        "item_id": item_id,
        "tags": list(values["tags"]),  # type: ignore[call-overload]
        "attributes": json.dumps(values["attributes"]),
    }


def _checked(rows: Sequence[Mapping[str, object]]) -> CheckedRows:
    frame = pl.DataFrame(rows, schema=_COLUMNS)
    return check_items(frame.hstack(parse_times(frame["published_at"], name="published_at")))


def _accepted(rows: CheckedRows) -> pl.DataFrame:
    if len(rows.rejected):
        raise DataError(rows.rejected["reason"][0])
    return rows.accepted
