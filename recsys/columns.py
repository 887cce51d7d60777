"""Fields of the catalogue as columns that answer a filter's conditions for many items at once."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from features.arrays import BoolArray, Float64Array, Int32Array
from features.events import US_PER_DAY
from recsys.conditions import AllOf, AnyOf, Node, Not, OneOf, Value, Within
from recsys.growing import GrowingArray

FEW_TAGS = 4  # up to here one comparison each is faster than one look-up for all

Rows: TypeAlias = slice | Int32Array  # which items: all of them, or these


class Column(Protocol):
    """Each answer is a new array, aligned with the rows asked for."""

    def one_of(self, values: Sequence[Value], rows: Rows) -> BoolArray: ...

    def within(self, low: float, high: float, rows: Rows) -> BoolArray: ...

    def exists(self, rows: Rows) -> BoolArray: ...


class ValueColumn:
    """A code for each item's value, or set of values; -1: it has none.

    Conditions are asked of the distinct values and looked up by the items' codes: equal values
    are compared once, however many items have them.
    """

    def __init__(self, values: Iterable[object]) -> None:
        self._code_of: dict[Hashable, int] = {}  # by value, or by the frozenset of several
        self._sets_with: dict[Hashable, list[int]] = {}  # codes of the sets that hold a value
        self._numbers = GrowingArray(np.empty(0, np.float64))  # the distinct ones of each code
        self._number_codes = GrowingArray(np.empty(0, np.int32))  # aligned with the numbers
        self._codes = GrowingArray(self._coded(values))

    def write(self, rows: Int32Array, values: Iterable[object]) -> None:
        """New items' rows follow the known ones."""
        n_new = max(int(rows.max(initial=-1)) + 1 - len(self._codes.rows), 0)
        self._codes.append(np.full(n_new, -1, np.int32))
        self._codes.rows[rows] = self._coded(values)

    def _coded(self, values: Iterable[object]) -> Int32Array:
        numbers: list[tuple[float, int]] = []
        codes = np.array([self._code(value, numbers) for value in values], np.int32)
        self._numbers.append(np.array([number for number, _ in numbers], np.float64))
        self._number_codes.append(np.array([code for _, code in numbers], np.int32))
        return codes

    def _code(self, value: object, numbers: list[tuple[float, int]]) -> int:
        """Of a value met for the first time, the numbers are added to the list."""
        name: Hashable = value
        if type(value) not in (str, int, float):  # those are most of all values, True is none
            keys = frozenset(_key(single) for single in comparable(value))
            if not keys:
                return -1
            name = keys if len(keys) > 1 else next(iter(keys))
        code = self._code_of.get(name)
        return self._new_code(name, numbers) if code is None else code

    def _new_code(self, name: Hashable, numbers: list[tuple[float, int]]) -> int:
        code = self._code_of[name] = len(self._code_of)
        if isinstance(name, frozenset):
            for key in name:
                self._sets_with.setdefault(key, []).append(code)
        keys = name if isinstance(name, frozenset) else (name,)
        numbers += [(float(key), code) for key in keys if isinstance(key, int | float)]
        return code

    def one_of(self, values: Sequence[Value], rows: Rows) -> BoolArray:
        keys = {_key(value) for value in values}
        single = [self._code_of[key] for key in keys if key in self._code_of]
        several = [code for key in keys for code in self._sets_with.get(key, ())]
        return self._with_code(single + several, rows)

    def within(self, low: float, high: float, rows: Rows) -> BoolArray:
        numbers = self._numbers.rows
        return self._with_code(self._number_codes.rows[(numbers >= low) & (numbers <= high)], rows)

    def exists(self, rows: Rows) -> BoolArray:
        return np.asarray(self._codes.rows[rows] >= 0)

    def _with_code(self, codes: Sequence[int] | Int32Array, rows: Rows) -> BoolArray:
        if len(codes) == 1:
            return np.asarray(self._codes.rows[rows] == codes[0])
        holds = np.zeros(len(self._code_of) + 1, np.bool_)  # the last answers -1
        holds[codes] = True
        return holds[self._codes.rows[rows]]


def comparable(value: object) -> tuple[Value, ...]:
    """Of an attribute as JSON has it: text, numbers, truth values, or a list of them."""
    several = value if isinstance(value, list) else (value,)
    return tuple(single for single in several if isinstance(single, str | int | float))


def _key(value: Value) -> Hashable:
    """JSON's 1 and 1.0 are one value, as in Python; its true is another, unlike in Python."""
    return (value,) if isinstance(value, bool) else value


class NumberColumn:
    """One number, or truth value, of each item; NaN: it has none."""

    def __init__(self, numbers: Float64Array | BoolArray) -> None:
        self._numbers = numbers

    def _at(self, rows: Rows) -> Float64Array | BoolArray:
        return self._numbers[rows]

    def one_of(self, values: Sequence[Value], rows: Rows) -> BoolArray:
        numbers = [value for value in values if not isinstance(value, str)]
        return np.isin(self._at(rows), np.array(numbers, np.float64))

    def within(self, low: float, high: float, rows: Rows) -> BoolArray:
        numbers = self._at(rows)
        return np.asarray((numbers >= low) & (numbers <= high))

    def exists(self, rows: Rows) -> BoolArray:
        numbers = self._at(rows)
        return np.asarray(numbers == numbers)  # NaN is not


class AgeColumn(NumberColumn):
    """Days from when each item was published until a moment; negative: it is still to come."""

    def __init__(self, published_at_us: Float64Array, now_us: int) -> None:
        super().__init__(published_at_us)
        self._now_us = now_us

    def _at(self, rows: Rows) -> Float64Array:
        return np.asarray((self._now_us - self._numbers[rows]) / US_PER_DAY, np.float64)


class IdColumn:
    """The items' own ids, found by the catalogue's look-up."""

    def __init__(self, n_items: int, row_of: dict[str, int]) -> None:
        self._n_items = n_items
        self._row_of = row_of

    def one_of(self, values: Sequence[Value], rows: Rows) -> BoolArray:
        found = np.zeros(self._n_items, np.bool_)
        found[[self._row_of[v] for v in values if isinstance(v, str) and v in self._row_of]] = True
        return found[rows]

    def within(self, low: float, high: float, rows: Rows) -> BoolArray:
        return ~self.exists(rows)

    def exists(self, rows: Rows) -> BoolArray:
        return np.ones(self._n_items, np.bool_)[rows]


class TagColumn:
    """Each item's tags: rows of the first ones, -1 where there are fewer, and sets of the rest."""

    def __init__(
        self, tags: Int32Array, row_of: dict[str, int], items_with_further: dict[str, set[int]]
    ) -> None:
        self._tags = tags
        self._row_of = row_of
        self._items_with_further = items_with_further

    def one_of(self, values: Sequence[Value], rows: Rows) -> BoolArray:
        tags = [value for value in values if isinstance(value, str)]
        wanted = [self._row_of[tag] for tag in tags if tag in self._row_of]
        of_items = self._tags[rows]
        found = np.zeros(len(of_items), np.bool_)
        for hits in self._hits(of_items, wanted):
            found[np.flatnonzero(hits) // self._tags.shape[1]] = True  # 6 times as fast as any()
        further = [row for tag in tags for row in self._items_with_further.get(tag, ())]
        if further:
            has_further = np.zeros(len(self._tags), np.bool_)
            has_further[further] = True
            found |= has_further[rows]
        return found

    def _hits(self, of_items: Int32Array, wanted: list[int]) -> Iterator[BoolArray]:
        if len(wanted) <= FEW_TAGS:
            yield from (of_items == tag for tag in wanted)
        else:
            is_wanted = np.zeros(len(self._row_of) + 1, np.bool_)  # the last answers -1
            is_wanted[wanted] = True
            yield is_wanted[of_items]

    def within(self, low: float, high: float, rows: Rows) -> BoolArray:
        return np.asarray(np.zeros(len(self._tags), np.bool_)[rows])

    def exists(self, rows: Rows) -> BoolArray:
        return np.asarray(self._tags[rows, 0] >= 0)


def matches(node: Node, column: Callable[[str], Column], rows: Rows) -> BoolArray:
    """Aligned with the rows; always a new array."""
    if isinstance(node, Not):
        return ~matches(node.part, column, rows)
    if isinstance(node, AllOf | AnyOf):
        join = np.logical_and if isinstance(node, AllOf) else np.logical_or
        found = matches(node.parts[0], column, rows)
        for part in node.parts[1:]:
            join(found, matches(part, column, rows), out=found)
        return found
    asked = column(node.field)
    if isinstance(node, OneOf):
        found = asked.one_of(node.values, rows)
        return asked.exists(rows) & ~found if node.negated else found
    if isinstance(node, Within):
        return asked.within(node.low, node.high, rows)
    return asked.exists(rows)
