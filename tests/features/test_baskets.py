from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.baskets import BASKET_GAP_US, fit_bought_together
from features.covisitation import Neighbours
from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, US_PER_SECOND
from features.interactions import Interactions

ITEMS = ("lamp", "shade", "bulb", "chair")
HOUR_US = 3_600 * US_PER_SECOND


def bought_together(*events: tuple[str, str, str, int]) -> Neighbours:
    """Of (user, item, event type, time)."""
    rows = [
        {
            "event_id": f"e{n}",
            "user_id": user,
            "session_id": None,
            "item_id": item,
            "event_type": kind,
            "event_time_us": time_us,
            "request_id": None,
            "value": None,
        }
        for n, (user, item, kind, time_us) in enumerate(events)
    ]
    table = pl.DataFrame(rows, schema=EVENT_SCHEMA)
    log = Interactions.build(table, ITEMS, DEFAULT_EVENT_TYPES)
    return fit_bought_together(log, DEFAULT_EVENT_TYPES, len(ITEMS))


def list_of(found: Neighbours, item: str) -> dict[str, float]:
    rows, scores = found.of(ITEMS.index(item))
    return {ITEMS[row]: float(score) for row, score in zip(rows, scores, strict=True)}


def test_a_pair_counts_alike_in_both_directions_by_the_cosine_of_its_baskets() -> None:
    found = bought_together(
        ("ann", "lamp", "purchase", 0),
        ("ann", "shade", "purchase", HOUR_US),
        ("bob", "shade", "cart", 0),
        ("bob", "lamp", "purchase", 2 * HOUR_US),
        ("cid", "lamp", "purchase", 0),
    )
    expected = 2 / np.sqrt(3 * 2)  # two baskets with both; three with the lamp, two with the shade
    assert list_of(found, "lamp") == {"shade": pytest.approx(expected)}
    assert list_of(found, "shade") == {"lamp": pytest.approx(expected)}


def test_one_basket_is_a_coincidence_and_many_events_on_a_pair_are_one_basket() -> None:
    events = [("ann", item, kind, n) for n, kind in enumerate(("cart", "purchase", "purchase"))
              for item in ("lamp", "shade")]  # fmt: skip
    assert list_of(bought_together(*events), "lamp") == {}


def test_looking_is_not_buying_and_without_buying_the_lists_are_empty() -> None:
    looks = [
        (user, item, kind, 0)
        for user in ("ann", "bob", "cid")
        for item, kind in (("lamp", "purchase"), ("shade", "view"), ("bulb", "click"))
    ]
    found = bought_together(*looks)
    assert len(found.item_rows) == 0
    assert found.of(0)[0].tolist() == []
    assert len(bought_together().item_rows) == 0


def test_a_basket_ends_with_a_pause_and_with_the_shopper() -> None:
    apart = [
        (user, item, "purchase", time_us)
        for user in ("ann", "bob")
        for item, time_us in (("lamp", 0), ("shade", BASKET_GAP_US + 1))
    ]
    assert list_of(bought_together(*apart), "lamp") == {}
    near = [(user, item, kind, min(time_us, BASKET_GAP_US)) for user, item, kind, time_us in apart]
    assert list_of(bought_together(*near), "lamp") == {"shade": pytest.approx(1.0)}
    others = [("ann", "lamp", "cart", 0), ("bob", "shade", "cart", 1)] * 2
    assert list_of(bought_together(*others), "lamp") == {}


def test_lists_survive_the_disk(tmp_path: Path) -> None:
    found = bought_together(
        *((user, item, "purchase", 0) for user in ("ann", "bob") for item in ITEMS[:3])
    )
    found.save(tmp_path / "bought_together")
    assert (
        list_of(Neighbours.load(tmp_path / "bought_together"), "bulb")
        == list_of(found, "bulb")
        != {}
    )
