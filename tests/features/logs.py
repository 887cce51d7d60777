"""Hand-made logs: one line an event, in the words of the test."""

from collections.abc import Sequence

import polars as pl

from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, US_PER_DAY, EventType
from features.interactions import Interactions

# user, item, event type, time in days
Line = tuple[str, str, str, float]


def event_table(*lines: Line) -> pl.DataFrame:
    """EVENT_SCHEMA rows with event ids in the order of the lines."""
    rows = [
        {
            "event_id": f"e{number:04d}",
            "user_id": user,
            "session_id": None,
            "item_id": item,
            "event_type": kind,
            "event_time_us": round(day * US_PER_DAY),
            "request_id": None,
            "value": None,
        }
        for number, (user, item, kind, day) in enumerate(lines)
    ]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA)


def log_of(
    *lines: Line, items: str, event_types: Sequence[EventType] = DEFAULT_EVENT_TYPES
) -> Interactions:
    """`items` are one-letter ids in the order of their rows."""
    return Interactions.build(event_table(*lines), list(items), event_types)


def visits(user: str, items: str, *, kind: str = "view", day: float = 1.0) -> list[Line]:
    """One event an hour on each of the one-letter items."""
    return [(user, item, kind, day + hour / 24) for hour, item in enumerate(items)]
