"""Hand-made rows for the tests of this room."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.events import EVENT_SCHEMA
from features.items import ITEM_SCHEMA
from features.slates import SlateRecord
from features.store import Store

NOON_US = 1_700_049_600_000_000  # 2023-11-15T12:00:00Z


def open_store(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder}/store.db")


def event(event_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "event_id": event_id,
        "user_id": "ann",
        "session_id": None,
        "item_id": "lamp",
        "event_type": "view",
        "event_time_us": NOON_US,
        "request_id": None,
        "value": None,
    }
    return row | changes


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=EVENT_SCHEMA)


def item(item_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "item_id": item_id,
        "title": "Desk lamp",
        "description": "",
        "tags": ["light"],
        "attributes": '{"price":20}',
        "available": True,
        "published_at_us": None,
    }
    return row | changes


def items(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ITEM_SCHEMA)


def slate(
    request_id: str, *, k: int = 2, user_id: str | None = "ann", at_us: int = NOON_US
) -> SlateRecord:
    return SlateRecord(
        request_id=request_id,
        user_id=user_id,
        session_id=None,
        placement="home",
        shown_at_us=at_us,
        release_id="r1",
        item_ids=tuple(f"i{n}" for n in range(k)),
        propensities=np.full(k, 0.5, np.float32),
        scores=np.arange(k, dtype=np.float32),
        source_scores=np.full((k, 3), np.nan, np.float32),
        features=np.arange(k * 4, dtype=np.float32).reshape(k, 4),
    )
