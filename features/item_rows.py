"""The catalogue in the database: living items, tombstones, and the number of each change."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from sqlalchemy import Connection, Select, bindparam, func, select, update

from features.checks import expect_schema
from features.database import IDS_AT_ONCE, Database
from features.engines import upsert
from features.items import ITEM_SCHEMA
from features.tables import items


class ItemRows:
    """Behind the methods of `Store` that are about items, which say what these do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        content = [name for name in ITEM_SCHEMA if name != "item_id"]
        self._upsert = upsert(
            database.engine,
            items,
            key=["item_id"],
            content=[*content, "deleted"],
            besides=["change", "updated_at_us"],
        )

    def upsert(self, new_items: pl.DataFrame, updated_at_us: int) -> int:
        rows = _rows(new_items, updated_at_us)
        if not rows:
            return 0
        with self._database.writing() as connection:
            return _change(connection, self._upsert, rows)

    def edit(
        self, item_id: str, edit: Callable[[dict[str, object]], pl.DataFrame], updated_at_us: int
    ) -> bool | None:
        with self._database.writing() as connection:
            stored = self.one(item_id)  # nobody else writes meanwhile
            if stored is None:
                return None
            return _change(connection, self._upsert, _rows(edit(stored), updated_at_us)) > 0

    def delete(self, item_ids: Sequence[str], updated_at_us: int) -> int:
        statement = (
            update(items)
            .where(items.c.item_id == bindparam("which"), ~items.c.deleted)
            .values(
                deleted=True, change=bindparam("change"), updated_at_us=bindparam("updated_at_us")
            )
        )
        rows = [{"which": item_id, "updated_at_us": updated_at_us} for item_id in item_ids]
        if not rows:
            return 0
        with self._database.writing() as connection:
            return _change(connection, statement, rows)

    def one(self, item_id: str) -> dict[str, object] | None:
        found = self._frame(select(items).where(items.c.item_id == item_id, ~items.c.deleted))
        return found.select(*ITEM_SCHEMA).to_dicts()[0] if len(found) else None

    def published_at(self, item_ids: Sequence[str]) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        with self._database.reading() as connection:
            for start in range(0, len(item_ids), IDS_AT_ONCE):
                some = items.c.item_id.in_(item_ids[start : start + IDS_AT_ONCE])
                chosen = select(items.c.item_id, items.c.published_at_us).where(
                    some, ~items.c.deleted
                )
                found |= dict(connection.execute(chosen).all())
        return found

    def after(self, item_id: str | None, limit: int | None) -> pl.DataFrame:
        living = select(items).where(~items.c.deleted).order_by(items.c.item_id).limit(limit)
        if item_id is not None:
            living = living.where(items.c.item_id > item_id)
        return self._frame(living).select(*ITEM_SCHEMA)

    def changed_after(self, change: int) -> tuple[int, pl.DataFrame]:
        later = select(items).where(items.c.change > change).order_by(items.c.change)
        changed = self._frame(later.order_by(items.c.item_id))
        latest = changed["change"][-1] if len(changed) else change
        return latest, changed.select(*ITEM_SCHEMA, "deleted")

    def _frame(self, statement: Select[Any]) -> pl.DataFrame:
        texts = {**ITEM_SCHEMA, "tags": pl.String(), "deleted": pl.Boolean(), "change": pl.Int64()}
        tags = pl.col("tags").str.json_decode(ITEM_SCHEMA["tags"])
        chosen = statement.with_only_columns(*(items.c[name] for name in texts))
        return self._database.frame(chosen, texts).with_columns(tags)


def _rows(new_items: pl.DataFrame, updated_at_us: int) -> list[dict[str, Any]]:
    expect_schema(new_items, ITEM_SCHEMA)
    rows = new_items.unique("item_id", keep="last", maintain_order=True).to_dicts()
    for row in rows:
        row["tags"] = json.dumps(row["tags"], ensure_ascii=False)
        row |= {"deleted": False, "updated_at_us": updated_at_us}
    return rows


def _change(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> int:  # noqa: ANN401
    """All rows of one call carry one change number, so a poll sees the call whole or not."""
    newest = connection.execute(select(func.max(items.c.change))).scalar()
    change = (newest or 0) + 1
    connection.execute(statement, [row | {"change": change} for row in rows])
    return connection.execute(select(func.count()).where(items.c.change == change)).scalar_one()
