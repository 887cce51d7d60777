"""A few items and what filters find among them, for tests."""

from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson
import polars as pl

from features.items import ITEM_SCHEMA
from recsys.catalog import Catalog
from recsys.expression import parse

NOW = datetime(2026, 11, 23, 18, 0, 30, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000

Item: TypeAlias = dict[str, Any]


def table(items: list[Item]) -> pl.DataFrame:
    rows = [
        {
            "item_id": item["item_id"],
            "title": item["title"],
            "description": "",
            "tags": item["tags"],
            "attributes": orjson.dumps(item["attributes"]).decode(),
            "available": item["available"],
            "published_at_us": item["published_at_us"],
        }
        for item in items
    ]
    return pl.DataFrame(rows, schema=ITEM_SCHEMA)


def item(item_id: str = "x", **attributes: object) -> Item:
    return {
        "item_id": item_id,
        "title": "",
        "tags": [],
        "attributes": attributes,
        "available": True,
        "published_at_us": None,
    }


def of(*found: Item) -> Catalog:
    return Catalog(table(list(found)))


def matching(catalog: Catalog, text: str) -> list[bool]:
    found: list[bool] = catalog.matching(parse(text), NOW_US).tolist()
    return found
