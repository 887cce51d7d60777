import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events import US_PER_DAY
from recsys.training.recipe import MAX_TICKS, daily_ticks, window_with_users
from tests.features.logs import Line, log_of

HOUR_US = US_PER_DAY // 24


@given(start=st.integers(0, 10**6 * HOUR_US), length=st.integers(0, 200 * US_PER_DAY))
def test_ticks_are_few_whole_days_from_the_start_on_and_before_the_end(
    start: int, length: int
) -> None:
    ticks = daily_ticks(start, start + length)
    assert 1 <= len(ticks) <= MAX_TICKS
    assert all(tick % US_PER_DAY == 0 for tick in ticks)
    assert start - US_PER_DAY < ticks[0] <= start
    assert all(tick < start + length for tick in ticks[1:])
    assert len(set(np.diff(ticks[1:]).tolist())) <= 1
    last_day = max(start + length - 1, start) // US_PER_DAY
    assert ticks[-1] == last_day * US_PER_DAY  # as fresh as what is served


def test_every_day_of_a_short_window_has_its_tick() -> None:
    found = daily_ticks(5 * US_PER_DAY + HOUR_US, 8 * US_PER_DAY)
    assert found == [5 * US_PER_DAY, 6 * US_PER_DAY, 7 * US_PER_DAY]
    assert daily_ticks(5 * US_PER_DAY, 5 * US_PER_DAY + 1) == [5 * US_PER_DAY]


def log_lines(*days: float) -> list[Line]:
    """One shopper a day given, each with an event long ago too."""
    return [
        line
        for number, day in enumerate(days)
        for line in ((f"u{number}", "a", "view", 0.0), (f"u{number}", "a", "view", day))
    ]


@pytest.mark.parametrize(("target", "expected"), [(1, 9), (2, 8), (3, 6), (4, 3), (99, 3)])
def test_a_window_is_the_fewest_whole_days_in_which_enough_shoppers_came(
    target: int, expected: int
) -> None:
    log = log_of(*log_lines(9.5, 8.5, 6.5, 3.5), items="a")
    assert window_with_users(log, 10 * US_PER_DAY, target) == expected * US_PER_DAY


def test_a_window_leaves_the_older_half_to_learn_from() -> None:
    lines: list[Line] = [("ann", "a", "view", day) for day in range(1, 11)]
    lines += [("bob", "a", "view", 1)]
    start = window_with_users(log_of(*lines, items="a"), 11 * US_PER_DAY, 2)
    assert start == 5 * US_PER_DAY  # the day the median falls on


def test_without_events_a_window_is_a_day() -> None:
    assert window_with_users(log_of(items="a"), 9 * US_PER_DAY, 5) == 8 * US_PER_DAY
