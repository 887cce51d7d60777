"""What a filter says about items, as data: conditions on fields, and how they are joined."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

Value: TypeAlias = str | float | bool

# What every item has beside its attributes, whose names these hide, and what each is compared with.
BUILT_IN: dict[str, type] = {
    "item_id": str,
    "title": str,
    "tags": str,
    "available": bool,
    "published_at": datetime,
    "age_days": float,
}


@dataclass(frozen=True, slots=True)
class OneOf:
    """An item has one of the values; negated: it has the field, and none of them."""

    field: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Within:
    """One of the item's numbers is in [low, high]; `published_at` is microseconds since 1970."""

    field: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Exists:
    """The item has the field."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """Plain negation: it holds for items that lack the field too."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Some part holds."""

    parts: tuple["Node", ...]


Node: TypeAlias = OneOf | Within | Exists | Not | AllOf | AnyOf


def parts(root: Node) -> Iterator[tuple[Node, int]]:
    """Every node and how deep it stands, without recursion: hostile ones may be deep."""
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        if isinstance(node, Not):
            waiting.append((node.part, depth + 1))
        elif isinstance(node, AllOf | AnyOf):
            waiting += [(part, depth + 1) for part in node.parts]
