"""A shop whose slates show two items in either order, for replays by command."""

from dataclasses import replace
from pathlib import Path

import pytest

from features.lake import Lake
from features.store import Store
from tests.features.rows import NOON_US, event, events, slate


def store_in(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder / 'shop.db'}")


def shown_both_ways(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """400 shoppers saw i0 and i1; of those who saw i0 first, half clicked it."""
    monkeypatch.setenv("RECSYS_DATA_DIR", str(folder))
    monkeypatch.setenv("RECSYS_DATABASE_URL", f"sqlite:///{folder / 'shop.db'}")
    shown = [slate(f"r{n}", user_id=f"u{n}") for n in range(400)]
    shown = [replace(s, item_ids=s.item_ids[:: 1 - 2 * (n % 2)]) for n, s in enumerate(shown)]
    clicked = [
        event(
            event_id=f"e{n}", user_id=f"u{n}", request_id=f"r{n}", item_id="i0", event_type="click"
        )
        for n in range(0, 400, 4)
    ]
    with store_in(folder) as store:
        store.append_slates(shown)
        store.append_events(events(*clicked), received_at_us=NOON_US)
        lake = Lake(folder / "lake")
        lake.close_events(store)
        lake.close_exposures(store)
    return folder
