from math import log, log1p
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import Float64Array, Int32Array
from features.events import US_PER_DAY
from features.popularity import USUAL_DAYS
from features.snapshot import (
    NICHE_ITEMS,
    PRIOR_EVENTS,
    SNAPSHOT_VIEWS,
    Snapshots,
    item_snapshots,
    niches,
)
from tests.features.logs import Line, log_of

UNKNOWN = np.array([np.nan, np.nan])
NO_NICHE = np.array([-1, -1], np.int32)


def views(
    *lines: Line,
    tick_day: int,
    published: Float64Array = UNKNOWN,
    niche: Int32Array = NO_NICHE,
) -> dict[str, list[float]]:
    """View → its value for items a and b at the start of the day."""
    made = item_snapshots(log_of(*lines, items="ab"), [tick_day * US_PER_DAY], published, niche)
    return {name: made.values[0, :, n].tolist() for n, name in enumerate(SNAPSHOT_VIEWS)}


def near(*values: float) -> object:
    return pytest.approx(list(values), abs=1e-6, nan_ok=True)


def test_windows_reach_back_whole_days_and_end_before_the_tick() -> None:
    lines = [("u", "a", "view", day) for day in (1.5, 30.9, 54.2, 58.0, 59.99, 60.0, 61.0)]
    found = views(*lines, tick_day=60)
    assert found["events_1d"] == near(log1p(1), 0)  # 59.99
    assert found["events_7d"] == near(log1p(3), 0)  # and 54.2, 58.0
    assert found["events_30d"] == near(log1p(4), 0)  # and 30.9
    assert found["events_all"] == near(log1p(5), 0)  # and 1.5; never 60.0 or later


def test_shoppers_are_counted_once_and_only_before_the_tick() -> None:
    lines: list[Line] = [
        ("ann", "a", "view", 1),
        ("ann", "a", "view", 2),
        ("bob", "a", "view", 3),
        ("cat", "a", "view", 4),
    ]
    assert views(*lines, tick_day=4)["shoppers_all"] == near(log1p(2), 0)


def test_dismissals_count_nowhere_but_in_their_own_rate() -> None:
    found = views(("ann", "a", "dismiss", 1), tick_day=5)
    for name in ("events_1d", "events_all", "shoppers_all", "engagement_rate"):
        assert found[name] == near(0, 0)
    assert found["age_days"] == near(np.nan, np.nan)


def test_trend_compares_the_week_with_its_share_of_the_month() -> None:
    lines: list[Line] = [("u", "a", "view", day) for day in (95, 96, 97)]
    found = views(*lines, ("u", "b", "view", 80), tick_day=100)
    assert found["trend_7d"][0] > 0 > found["trend_7d"][1]
    assert found["trend_7d"] == near(log1p(3) - log1p(3 * 7 / 30), -log1p(7 / 30))


def test_engagement_is_smoothed_towards_the_shops_mean() -> None:
    lines: list[Line] = [("u", "a", "share", day) for day in (1, 2, 3)]
    lines += [("u", "b", "view", 4)]
    found = views(*lines, tick_day=5)
    mean = 3 / 4
    expected = [
        (strong + PRIOR_EVENTS * mean) / (n + PRIOR_EVENTS) for strong, n in ((3, 3), (0, 1))
    ]
    assert found["engagement_rate"] == near(*expected)


def test_each_rate_counts_events_of_its_weight() -> None:
    lines: list[Line] = [("u", "a", kind, 1) for kind in ("view", "click", "share", "purchase")]
    found = views(*lines, ("u", "a", "dismiss", 2), ("u", "b", "view", 3), tick_day=5)

    def rates(hits: float, total: float, n: tuple[float, float]) -> object:
        mean = hits / total
        smoothed = (hits + PRIOR_EVENTS * mean) / (n[0] + PRIOR_EVENTS)
        return near(smoothed, PRIOR_EVENTS * mean / (n[1] + PRIOR_EVENTS))

    assert found["interest_rate"] == rates(3, 5, (4, 1))
    assert found["engagement_rate"] == rates(2, 5, (4, 1))
    assert found["commitment_rate"] == rates(1, 5, (4, 1))
    assert found["dismissal_rate"] == rates(1, 6, (5, 1))


def test_the_week_is_compared_with_the_week_before() -> None:
    lines: list[Line] = [("u", "a", "view", day) for day in (94, 95)]
    found = views(*lines, ("u", "b", "view", 92.9), tick_day=100)
    assert found["weekly_change"] == near(log1p(2), -log1p(1))


def test_a_shorter_half_life_forgets_sooner_and_the_trend_says_so() -> None:
    found = views(("u", "a", "view", 99.5), ("u", "b", "view", 94.5), tick_day=100)
    fast, slow = ([2 ** (-days / half) + 1e-6 for days in (1, 6)] for half in (2, 30))
    assert found["decayed_2d"] == near(*map(log1p, fast))
    assert found["decayed_30d"] == near(*map(log1p, slow))
    assert found["decayed_trend"] == near(
        *(log1p(f) - log1p(s * 2 / 30) for f, s in zip(fast, slow, strict=True))
    )


def test_a_niche_is_shared_by_popularity() -> None:
    lines: list[Line] = [("u", "a", "view", 9), ("v", "a", "view", 9), ("u", "b", "view", 9)]
    found = views(*lines, tick_day=10, niche=np.array([0, 0], np.int32))
    assert found["niche_share"] == near(2 / 3, 1 / 3)
    assert found["niche_popularity"] == near(*[log1p(3 * (2 ** (-1 / 7) + 1e-6))] * 2)
    assert views(*lines, tick_day=10)["niche_share"] == near(np.nan, np.nan)


def test_the_niche_is_the_rarest_tag_that_enough_items_have() -> None:
    tags = [["all", "oak"], ["oak", "all", "one of a kind"]] + [["oak", "all"]] * (NICHE_ITEMS - 2)
    found = niches(pl.Series([*tags, ["all"], None, ["rare"]], dtype=pl.List(pl.String)))
    oak, every = found[0], found[NICHE_ITEMS]
    assert found[:NICHE_ITEMS].tolist() == [oak] * NICHE_ITEMS
    assert len({oak, every, -1}) == 3
    assert found[-2:].tolist() == [-1, -1]


def test_popularity_halves_with_every_half_life() -> None:
    lines: list[Line] = [("u", "a", "view", 99.5), ("u", "b", "view", 99.5 - USUAL_DAYS)]
    found = views(*lines, tick_day=100)
    powers = (1, 1 + USUAL_DAYS)
    expected = [log1p(2 ** (-days / USUAL_DAYS) + 1e-6) for days in powers]
    assert found["decayed_popularity"] == near(*expected)


def test_age_counts_from_publication_or_from_an_earlier_first_event() -> None:
    published = np.array([2.0 * US_PER_DAY, 9.0 * US_PER_DAY])
    found = views(("u", "b", "view", 4), tick_day=10, published=published)
    assert found["age_days"] == near(log(1 + 8), log(1 + 6))


def test_an_item_without_publication_or_event_has_no_age() -> None:
    assert views(("u", "b", "view", 4), tick_day=10)["age_days"] == near(np.nan, log1p(6))


def test_no_events_at_all_make_zeros() -> None:
    found = views(tick_day=10)
    assert found["events_all"] == near(0, 0)
    assert found["engagement_rate"] == near(0, 0)


def test_a_question_reads_the_last_tick_at_or_before_it() -> None:
    snapshots = Snapshots(np.array([10, 20, 30]), np.zeros((3, 1, len(SNAPSHOT_VIEWS)), np.float32))
    found = snapshots.tick_at(np.array([5, 10, 19, 20, 35]))
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 2])


def test_saved_snapshots_load_as_they_were(tmp_path: Path) -> None:
    log = log_of(("u", "a", "view", 1), items="ab")
    made = item_snapshots(log, [2 * US_PER_DAY], UNKNOWN, NO_NICHE)
    made.save(tmp_path)
    loaded = Snapshots.load(tmp_path)
    np.testing.assert_array_equal(loaded.ticks_us, made.ticks_us)
    np.testing.assert_array_equal(loaded.values, made.values)
