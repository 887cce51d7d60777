"""What the shop's rules do to one request: which hold here, whom they hide, move, place, limit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from features.arrays import BoolArray, Int32Array
from recsys.catalog import Catalog
from recsys.conditions import Value
from recsys.expression import parse
from recsys.ranking.scoring import Scored
from recsys.rules import Boost, Bury, Hide, Pin, Quota, Rule
from recsys.types import Ask

Pins: TypeAlias = dict[int, tuple[int, str]]  # item row → position over all pages, rule_id


@dataclass(slots=True, kw_only=True)
class Ruling:
    """The rules that hold for one request, by what they do, in order of rule_id.

    `fired` counts what each one did; rules that did nothing are not in it.
    """

    catalog: Catalog
    now_us: int
    rules: Sequence[Rule]
    fired: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, ask: Ask, catalog: Catalog) -> "Ruling":
        """A rule with a `context` holds where an item in context matches it."""
        context = catalog.rows(ask.context_item_ids)
        context = context[context >= 0]

        def holds(rule: Rule) -> bool:
            if rule.context is None:
                return True
            return bool(catalog.matching(parse(rule.context), ask.now_us)[context].any())

        return cls(
            catalog=catalog, now_us=ask.now_us, rules=[rule for rule in ask.rules if holds(rule)]
        )

    @property
    def has_quota(self) -> bool:
        return any(isinstance(rule.then, Quota) for rule in self.rules)

    def fire(self, rule_id: str, n: int) -> None:
        if n:
            self.fired[rule_id] = self.fired.get(rule_id, 0) + n

    def hide(self, allowed: BoolArray) -> int:
        """Takes away from `allowed` in place; each item is counted for the first rule that did."""
        hidden = 0
        for rule in self.rules:
            if isinstance(rule.then, Hide):
                hits = allowed & self._matching(rule.then.where)
                n = int(np.count_nonzero(hits))
                allowed &= ~hits
                self.fire(rule.rule_id, n)
                hidden += n
        return hidden

    def pins(self, ask: Ask, allowed: BoolArray, not_shown: Int32Array) -> Pins:
        """The pins that may be shown, on this page or a later one.

        By rule_id: who comes second to a position takes the next free one. A pin of an earlier
        page keeps its place though it is excluded by now, or others would move into it.
        """
        taken: set[int] = set()
        placed: Pins = {}
        for rule in self.rules:
            if not isinstance(rule.then, Pin):
                continue
            row = self.catalog.row(rule.then.item_id)
            may_be = row >= 0 and bool(allowed[row]) and row not in not_shown and row not in placed
            was_shown = rule.then.item_id in ask.exclude_item_ids and ask.first_position > 0
            if not (may_be or was_shown):
                continue
            position = rule.then.position
            while position in taken:
                position += 1
            taken.add(position)
            if may_be and position >= ask.first_position:
                placed[row] = (position, rule.rule_id)
        return placed

    def move(self, scored: Scored) -> None:
        """Boosts and buries, each by its strength times the spread of the scores before any."""
        spread = scored.spread
        for rule in self.rules:
            if isinstance(rule.then, Boost | Bury):
                hits = self._matching(rule.then.where)[scored.candidates.item_rows]
                sign = 1 if isinstance(rule.then, Boost) else -1
                by = np.where(hits, np.float32(sign * rule.then.strength * spread), 0)
                scored.adjust(f"rule:{rule.rule_id}", by.astype(np.float32))

    def count_moved(self, item_rows: Int32Array) -> None:
        """Of the slate's items, how many each boost or bury moved."""
        for rule in self.rules:
            if isinstance(rule.then, Boost | Bury):
                hits = self._matching(rule.then.where)[item_rows]
                self.fire(rule.rule_id, int(np.count_nonzero(hits)))

    def limits(self, item_rows: Int32Array) -> list["Limit"]:
        """What the quotas count of these candidates, read when a candidate's turn comes."""
        return [
            Limit(rule.rule_id, rule.then.at_most, self._counted(rule.then, item_rows))
            for rule in self.rules
            if isinstance(rule.then, Quota)
        ]

    def _counted(self, quota: Quota, item_rows: Int32Array) -> Callable[[int], tuple[Value, ...]]:
        hits = None if quota.where is None else self._matching(quota.where)[item_rows]

        def values(candidate: int) -> tuple[Value, ...]:
            if hits is not None and not hits[candidate]:
                return ()
            return self.catalog.values(int(item_rows[candidate]), quota.attribute)

        return values

    def _matching(self, where: str) -> BoolArray:
        return self.catalog.matching(parse(where), self.now_us)


@dataclass(slots=True)
class Limit:
    """One quota while a slate is filled: how often each value was let in."""

    rule_id: str
    at_most: int
    values: Callable[[int], tuple[Value, ...]]  # of a candidate; none: it does not count
    let_in: dict[Value, int] = field(default_factory=dict)

    def has_room(self, candidate: int) -> bool:
        return all(self.let_in.get(v, 0) < self.at_most for v in self.values(candidate))

    def admit(self, candidate: int) -> None:
        for value in self.values(candidate):
            self.let_in[value] = self.let_in.get(value, 0) + 1


def let_in(
    order: Iterable[int], limits: Sequence[Limit], n: int, refused: Callable[[str, int], None]
) -> list[int]:
    """The first n of `order` that all limits let in, each counting for those behind it.

    So that any subset of them keeps every quota: the planned slate and all that exploration may
    put into its places. A loop, as each choice changes the next; it ends with the n-th. `refused`
    is told the rule_id of the limit that kept one out.
    """
    admitted: list[int] = []
    for candidate in order:
        if len(admitted) == n:
            break
        full = next((limit for limit in limits if not limit.has_room(candidate)), None)
        if full is not None:
            refused(full.rule_id, 1)
            continue
        for limit in limits:
            limit.admit(candidate)
        admitted.append(candidate)
    return admitted
