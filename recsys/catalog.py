"""The items as columns: what the day filters by, explains with and lets grow."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import orjson
import polars as pl

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array
from recsys.growing import GrowingArray
from recsys.types import ItemFilter

MAX_TAGS = 16  # of an item that are compared; the rest are filtered by and reach the encoder

PRICE_TOLERANCE = 1e-6  # of the logarithm, a float32
LEAST_PRICE = 0.01  # what free items count as, for a price needs a logarithm

_Value: TypeAlias = tuple[bool, str | float]  # is it a boolean, and which value


class Catalog:
    """Item rows are given in the order of arrival and never reused.

    A deleted item keeps its row, so that histories still find it, but is not `available`.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        self.item_ids: list[str] = []
        self.titles: list[str] = []
        self._attributes: list[str] = []
        self._row_of: dict[str, int] = {}
        self._columns: dict[str, _AttributeColumn] = {}
        self._attribute_names: set[str] = set()
        self.tag_row_of: dict[str, int] = {}
        self._further_tags: dict[int, list[str]] = {}  # by item row, those beyond MAX_TAGS
        self._further_rows: dict[str, set[int]] = {}  # the same by tag
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
        is_new = [item_id not in self._row_of for item_id in items["item_id"]]
        for item_id in items["item_id"].filter(pl.Series(is_new, dtype=pl.Boolean)):
            self._row_of[item_id] = len(self.item_ids)
            self.item_ids.append(item_id)
        n_new = len(self.item_ids) - len(self.titles)
        self.titles += [""] * n_new
        self._attributes += ["{}"] * n_new
        self._tags.append(np.full((n_new, MAX_TAGS), -1, np.int32))
        self._available.append(np.zeros(n_new, np.bool_))
        self._log_price.append(np.full(n_new, np.nan, np.float32))
        self._published_at_us.append(np.full(n_new, np.nan))
        rows = self.rows(items["item_id"].to_list())
        before = self.tags[rows]
        self._write(rows, items)
        self._recount_tags(before, self.tags[rows])
        return rows

    def _recount_tags(self, before: Int32Array, after: Int32Array) -> None:
        counts = self._items_with_tag
        counts.append(np.zeros(self.n_tags - len(counts.rows), np.int64))
        for tags, step in ((before, -1), (after, 1)):
            counts.rows[:] += step * np.bincount(tags[tags >= 0], minlength=self.n_tags)

    def _write(self, rows: Int32Array, items: pl.DataFrame) -> None:
        for row, title, attributes, tags in zip(
            rows, items["title"], items["attributes"], items["tags"].to_list(), strict=True
        ):
            self.titles[row] = title
            self._attributes[row] = attributes
            tag_rows = [self.tag_row_of.setdefault(t, self.n_tags) for t in (tags or [])[:MAX_TAGS]]
            self.tags[row] = tag_rows + [-1] * (MAX_TAGS - len(tag_rows))
            self._file_further(int(row), (tags or [])[MAX_TAGS:])
            values = orjson.loads(attributes)
            self._attribute_names.update(values)
            for name, column in self._columns.items():
                column.write(int(row), values.get(name))
            price = values.get("price")
            self.log_price[row] = _log(price) if isinstance(price, int | float) else np.nan
        self.available[rows] = items["available"].to_numpy()
        published = items["published_at_us"].cast(pl.Float64).fill_null(float("nan"))
        self.published_at_us[rows] = published.to_numpy()

    def _file_further(self, row: int, tags: list[str]) -> None:
        for tag in self._further_tags.pop(row, ()):
            self._further_rows[tag].discard(row)
        if tags:
            self._further_tags[row] = tags
        for tag in tags:
            self._further_rows.setdefault(tag, set()).add(row)

    def remove(self, item_ids: Sequence[str]) -> None:
        rows = self.rows(item_ids)
        self.available[rows[rows >= 0]] = False

    def allowed(self, item_filter: ItemFilter | None) -> BoolArray:
        """(n_items,) available items that pass the filter."""
        mask = self.available.copy()
        if item_filter is None:
            return mask
        if item_filter.tags_any:
            mask &= self._has_tag(item_filter.tags_any)
        for tag in item_filter.tags_all:
            mask &= self._has_tag((tag,))
        if item_filter.tags_none:
            mask &= ~self._has_tag(item_filter.tags_none)
        if item_filter.price_min is not None:
            mask &= self.log_price >= _log(item_filter.price_min) - PRICE_TOLERANCE
        if item_filter.price_max is not None:
            mask &= self.log_price <= _log(item_filter.price_max) + PRICE_TOLERANCE
        for name, values in item_filter.attributes:
            # a name that callers made up gets no column: it would cost a pass and stay for ever
            mask &= name in self._attribute_names and self._column(name).equals_any(values)
        return mask

    def _column(self, name: str) -> "_AttributeColumn":
        """Built from the JSON the first time a filter names the attribute, kept up afterwards."""
        if name not in self._columns:
            column = _AttributeColumn()
            for row, attributes in enumerate(self._attributes):
                column.write(row, orjson.loads(attributes).get(name))
            self._columns[name] = column
        return self._columns[name]

    def _has_tag(self, tags: Sequence[str]) -> BoolArray:
        wanted = [self.tag_row_of[tag] for tag in tags if tag in self.tag_row_of]
        found = np.asarray(np.isin(self.tags, wanted).any(axis=1), np.bool_)
        for tag in tags:
            found[list(self._further_rows.get(tag, ()))] = True
        return found


class _AttributeColumn:
    """One attribute of every item as a code of its value, or of its set of values; -1: none."""

    def __init__(self) -> None:
        self._codes = GrowingArray(np.empty(0, np.int32))
        self._code_of: dict[frozenset[_Value], int] = {}
        self._codes_with: dict[_Value, list[int]] = {}

    def write(self, row: int, value: object) -> None:
        if row >= len(self._codes.rows):
            self._codes.append(np.full(row + 1 - len(self._codes.rows), -1, np.int32))
        several = value if isinstance(value, list) else [value]
        values = frozenset(_value(v) for v in several if isinstance(v, str | int | float))
        self._codes.rows[row] = self._code(values) if values else -1

    def _code(self, values: frozenset[_Value]) -> int:
        if values not in self._code_of:
            self._code_of[values] = len(self._code_of)
            for value in values:
                self._codes_with.setdefault(value, []).append(self._code_of[values])
        return self._code_of[values]

    def equals_any(self, values: Sequence[str | float | bool]) -> BoolArray:
        """(n_items,) items that have at least one of the values."""
        codes = [code for value in values for code in self._codes_with.get(_value(value), ())]
        return np.isin(self._codes.rows, codes)


def _value(value: str | float) -> _Value:
    """JSON's 1 and 1.0 are one value, as in Python; its true is another, unlike in Python."""
    return isinstance(value, bool), value


def _log(price: float) -> float:
    return math.log(max(price, LEAST_PRICE))
