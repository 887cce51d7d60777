from itertools import count

import numpy as np
import polars as pl
import pytest

from features.events import US_PER_DAY, EventType
from features.interactions import Interactions
from features.popularity import USUAL_DAYS, decayed_counts, fitting_half_life

VIEW = (EventType("view", 1.0),)


def log_of(daily: list[dict[str, int]]) -> Interactions:
    """Day by day, how many strangers viewed which item."""
    shopper = count()
    rows = [
        (f"u{next(shopper)}", item, day * US_PER_DAY)
        for day, counts in enumerate(daily)
        for item, n in counts.items()
        for _ in range(n)
    ]
    events = pl.DataFrame(
        rows, schema=["user_id", "item_id", "event_time_us"], orient="row"
    ).with_columns(
        event_type=pl.lit("view"), event_id=pl.lit(""), session_id=pl.lit(None, pl.String)
    )
    return Interactions.build(events, sorted({item for _, item, _ in rows}), VIEW)


def test_counts_halve_with_each_half_life_and_never_end() -> None:
    rows, ages, events = np.array([0, 0, 1]), np.array([0, 4, 10_000]), np.array([1, 3, 1])
    found = decayed_counts(rows, ages, events, n_items=3, half_life=4.0)
    assert found == pytest.approx([1 + 3 / 2 + 4e-6, 1e-6, 0])
    for_ever = decayed_counts(rows, ages, events, n_items=3, half_life=float("inf"))
    assert for_ever == pytest.approx([4, 1, 0], rel=1e-5)


def test_a_shop_of_passing_fashions_forgets_fast() -> None:
    """Each item is taken for six days and never again."""
    log = log_of([{f"i{day // 6}": 4, f"i{(day + 3) // 6}x": 4} for day in range(120)])
    assert fitting_half_life(log) == 2.0


def test_a_shop_of_classics_forgets_nothing() -> None:
    """A hundred classics, taken in turn: what was not taken lately is what comes next."""
    taken = [{f"classic{(day * 7 + i) % 100}": 1 + (i % 7) for i in range(7)} for day in range(400)]
    log = log_of([counts | {f"fad{day}": 6} for day, counts in enumerate(taken)])
    assert fitting_half_life(log) >= 180.0


def test_nothing_known_is_the_usual_half_life() -> None:
    log = log_of([{"a": 1}])
    assert fitting_half_life(log.before(0)) == USUAL_DAYS
    assert fitting_half_life(log) == USUAL_DAYS
