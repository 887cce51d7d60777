"""The items as columns: what the day filters by, explains with and lets grow."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import orjson
import polars as pl

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array
from recsys.columns import (
    AgeColumn,
    Column,
    IdColumn,
    NumberColumn,
    Rows,
    TagColumn,
    ValueColumn,
    comparable,
    matches,
)
from recsys.conditions import BUILT_IN, Value
from recsys.expression import Expression
from recsys.growing import GrowingArray
from recsys.masks import Masks

MAX_TAGS = 16  # of an item that are compared; the rest are filtered by and reach the encoder

LEAST_PRICE = 0.01  # what free items count as, for a price needs a logarithm
US_PER_MINUTE = 60_000_000


class Catalog:
    """Item rows are given in the order of arrival and never reused.

    A deleted item keeps its row, so that histories still find it, but is not `available`.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        self.item_ids: list[str] = []
        self.titles: list[str] = []
        self._attributes: list[str] = []
        self._row_of: dict[str, int] = {}
        self._columns: dict[str, ValueColumn] = {}
        self._attribute_names: set[str] = set()
        self.tag_row_of: dict[str, int] = {}
        self._tag_names: list[str] = []  # in the order of their rows, as far as asked for
        self._further_tags: dict[int, list[str]] = {}  # by item row, those beyond MAX_TAGS
        self._further_rows: dict[str, set[int]] = {}  # the same by tag
        self._masks = Masks()
        self._tags = GrowingArray(np.empty((0, MAX_TAGS), np.int32))
        self._items_with_tag = GrowingArray(np.empty(0, np.int64))
        self._available = GrowingArray(np.empty(0, np.bool_))
        self._log_price = GrowingArray(np.empty(0, np.float32))
        self._published_at_us = GrowingArray(np.empty(0, np.float64))
        self.put(items)

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def available(self) -> BoolArray:
        return self._available.rows

    @property
    def tags(self) -> Int32Array:
        return self._tags.rows

    @property
    def log_price(self) -> Float32Array:
        return self._log_price.rows

    @property
    def published_at_us(self) -> Float64Array:
        return self._published_at_us.rows

    @property
    def n_tags(self) -> int:
        return len(self.tag_row_of)

    @property
    def tag_rarity(self) -> Float32Array:
        """(n_tags + 1,) log of items to items with the tag (inverse document frequency).

        The last is 0, so that tag -1 weighs nothing.
        """
        counts = np.maximum(self._items_with_tag.rows, 1)
        rarity = np.log(np.maximum(len(self), 1) / counts)
        return np.append(np.maximum(rarity, 0), 0).astype(np.float32)

    @property
    def n_available(self) -> int:
        return int(self.available.sum())

    def row(self, item_id: str) -> int:
        """-1 for an item this catalogue does not know."""
        return self._row_of.get(item_id, -1)

    def rows(self, item_ids: Sequence[str]) -> Int32Array:
        """-1 where unknown."""
        return np.fromiter((self._row_of.get(i, -1) for i in item_ids), np.int32, len(item_ids))

    def put(self, items: pl.DataFrame) -> Int32Array:
        """Insert or replace items; returns their rows."""
        item_ids = items["item_id"].to_list()
        for item_id in item_ids:
            if item_id not in self._row_of:
                self._row_of[item_id] = len(self.item_ids)
                self.item_ids.append(item_id)
        n_new = len(self.item_ids) - len(self.titles)
        self.titles += [""] * n_new
        self._attributes += ["{}"] * n_new
        self._tags.append(np.full((n_new, MAX_TAGS), -1, np.int32))
        self._available.append(np.zeros(n_new, np.bool_))
        self._log_price.append(np.full(n_new, np.nan, np.float32))
        self._published_at_us.append(np.full(n_new, np.nan))
        rows = self.rows(item_ids)
        before = self.tags[rows]
        self._write(rows, items)
        self._recount_tags(before, self.tags[rows])
        self._masks.changed(rows)
        return rows

    def _recount_tags(self, before: Int32Array, after: Int32Array) -> None:
        counts = self._items_with_tag
        counts.append(np.zeros(self.n_tags - len(counts.rows), np.int64))
        for tags, step in ((before, -1), (after, 1)):
            counts.rows[:] += step * np.bincount(tags[tags >= 0], minlength=self.n_tags)

    def _write(self, rows: Int32Array, items: pl.DataFrame) -> None:
        texts = items["attributes"].to_list()
        for row, title, attributes in zip(rows.tolist(), items["title"], texts, strict=True):
            self.titles[row] = title
            self._attributes[row] = attributes
        self._write_tags(rows, items["tags"])
        self.log_price[rows] = np.fromiter(map(self._price_of, texts), np.float32, len(texts))
        for name, column in self._columns.items():
            of_items = (orjson.loads(attributes).get(name) for attributes in texts)
            column.write(rows, _present(items["title"]) if name == "title" else of_items)
        self.available[rows] = items["available"].to_numpy()
        published = items["published_at_us"].cast(pl.Float64).fill_null(float("nan"))
        self.published_at_us[rows] = published.to_numpy()

    def _price_of(self, attributes: str) -> float:
        """Its logarithm; notes the names of the attributes by the way."""
        item = orjson.loads(attributes)
        self._attribute_names.update(item)
        price = item.get("price")
        return _log(price) if isinstance(price, int | float) else math.nan

    def _write_tags(self, rows: Int32Array, tags: pl.Series) -> None:
        """By column: of a million items, item by item, this was half of a server's start."""
        first = pl.DataFrame({"place": np.arange(len(tags)), "tag": tags.list.head(MAX_TAGS)})
        flat = first.explode("tag").drop_nulls("tag")
        distinct = flat["tag"].unique(maintain_order=True).to_list()
        numbers = [self.tag_row_of.setdefault(tag, self.n_tags) for tag in distinct]
        schema = {"tag": pl.String(), "row": pl.Int32()}
        known = pl.DataFrame({"tag": distinct, "row": numbers}, schema=schema)
        flat = flat.join(known, on="tag", maintain_order="left")
        place = flat["place"].to_numpy()
        columns = np.arange(len(place)) - np.searchsorted(place, place)
        found = np.full((len(tags), MAX_TAGS), -1, np.int32)
        found[place, columns] = flat["row"].to_numpy()
        self.tags[rows] = found
        more = tags.list.len().fill_null(0).to_numpy() > MAX_TAGS
        for at in np.flatnonzero(more | np.isin(rows, list(self._further_tags))):
            self._file_further(int(rows[at]), tags[int(at)].to_list()[MAX_TAGS:])

    def _file_further(self, row: int, tags: list[str]) -> None:
        for tag in self._further_tags.pop(row, ()):
            self._further_rows[tag].discard(row)
        if tags:
            self._further_tags[row] = tags
        for tag in tags:
            self._further_rows.setdefault(tag, set()).add(row)

    def remove(self, item_ids: Sequence[str]) -> None:
        rows = self.rows(item_ids)
        rows = rows[rows >= 0]
        self.available[rows] = False
        self._masks.changed(rows)

    def allowed(self, filters: Sequence[Expression], now_us: int) -> BoolArray:
        """(n_items,) available items that match every filter; the caller's own to change."""
        mask = self.available.copy()
        for expression in filters:
            mask &= self.matching(expression, now_us)
        return mask

    def matching(self, expression: Expression, now_us: int) -> BoolArray:
        """(n_items,) items that match, available or not; read-only, because it is remembered.

        Ages are as of the full minute before `now_us`, so that they are remembered for a minute.
        """
        by_age = "age_days" in expression.fields
        minute_us = now_us // US_PER_MINUTE * US_PER_MINUTE if by_age else 0

        def matching(rows: Rows) -> BoolArray:
            return matches(expression.root, partial(self._column, now_us=minute_us), rows)

        return self._masks.mask((expression, minute_us), len(self), matching)

    def values(self, row: int, name: str) -> tuple[Value, ...]:
        """What an item has of an attribute, its tags or title; nothing where it has none."""
        if name == "tags":
            tags = self.tags[row]
            first = [self._tag_name(tag) for tag in tags[tags >= 0].tolist()]
            return (*first, *self._further_tags.get(row, ()))
        if name == "title":
            return comparable(self.titles[row] or None)
        return comparable(orjson.loads(self._attributes[row]).get(name))

    def _tag_name(self, tag_row: int) -> str:
        if tag_row >= len(self._tag_names):  # going through them costs as many steps as there are
            self._tag_names += islice(self.tag_row_of, len(self._tag_names), None)
        return self._tag_names[tag_row]

    def attributes_json(self, row: int) -> str:
        """The item's attributes as the JSON object that was stored."""
        return self._attributes[row]

    def has_field(self, name: str) -> bool:
        """Whether an item ever had it here: if not, a slip of the pen, or items still to come."""
        return name in self._attribute_names or name in BUILT_IN

    def unknown_fields(self, expression: Expression) -> tuple[str, ...]:
        return tuple(name for name in expression.fields if not self.has_field(name))

    def _column(self, name: str, now_us: int) -> Column:
        match name:
            case "item_id":
                return IdColumn(len(self), self._row_of)
            case "tags":
                return TagColumn(self.tags, self.tag_row_of, self._further_rows)
            case "available":
                return NumberColumn(self.available)
            case "published_at":
                return NumberColumn(self.published_at_us)
            case "age_days":
                return AgeColumn(self.published_at_us, now_us)
        return self._value_column(name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that filters asked for and that took a pass over every item's JSON."""
        return tuple(self._columns)

    def prepare(self, fields: Iterable[str]) -> None:
        """Builds their columns before a request asks: 1 to 2.5 s each for 1M items."""
        for name in fields:
            self._column(name, now_us=0)

    def _value_column(self, name: str) -> Column:
        """Built the first time a filter names the field, kept up afterwards."""
        if name not in self._columns:
            if name == "title":
                self._columns[name] = ValueColumn(_present(self.titles))
            elif name in self._attribute_names:
                found = (orjson.loads(attributes).get(name) for attributes in self._attributes)
                self._columns[name] = ValueColumn(found)
            else:  # callers' inventions get no column: it would cost a pass and stay for ever
                return NumberColumn(np.broadcast_to(np.nan, len(self)))
        return self._columns[name]


def _present(titles: Iterable[str]) -> Iterator[str | None]:
    return (title or None for title in titles)


def _log(price: float) -> float:
    return math.log(max(price, LEAST_PRICE))
