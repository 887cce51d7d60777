"""What happened: the event table, the event types, and what an acceptable event is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import Int64Array

US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND
MAX_ID_LENGTH = 256
MAX_EVENT_TYPES = 127  # histories hold a type as an Int8
MAX_CLOCK_SKEW_US = 5 * 60 * US_PER_SECOND  # browsers' clocks are off by minutes, not by hours

# Times are integer microseconds since the epoch, UTC: every engine agrees on integers.
EVENT_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "session_id": pl.String(),
    "item_id": pl.String(),
    "event_type": pl.String(),
    "event_time_us": pl.Int64(),
    "request_id": pl.String(),
    "value": pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event; `weight` says how much it tells about taste, negative for aversion."""

    name: str
    weight: float

    @property
    def is_positive(self) -> bool:
        return self.weight > 0


# Weights order how much effort an action takes; only their order and rough ratio matter.
DEFAULT_EVENT_TYPES: tuple[EventType, ...] = (
    EventType("view", 1.0),
    EventType("click", 2.0),
    EventType("like", 3.0),
    EventType("comment", 3.0),
    EventType("share", 4.0),
    EventType("cart", 5.0),
    EventType("purchase", 8.0),
    EventType("dismiss", -4.0),
)

# Half of a shown item was in view for a second. It says something about the slate, nothing about
# taste: no event type of a shop, no part of anybody's history, and it hides no item.
SEEN = "seen"


@dataclass(frozen=True, slots=True)
class RecentEvents:
    """One shopper's latest events, oldest first; the three columns are aligned."""

    item_ids: Sequence[str]
    event_types: Sequence[str]
    event_time_us: Int64Array

    @classmethod
    def none(cls) -> "RecentEvents":
        return cls((), (), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """A table split in two: `accepted` fits its schema; `rejected` is (`row`, `reason`)."""

    accepted: pl.DataFrame
    rejected: pl.DataFrame
