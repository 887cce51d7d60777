import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.events import US_PER_DAY
from features.lake import Lake
from features.store import Store
from jobs.experiments.list_page import duration
from jobs.experiments.outlook import DAYS, outlook
from jobs.ingest import ingest
from jobs.plan import Places
from recsys.experiments.experiment import Design, Metric, Plan, RampStep, Variant
from recsys.progress import Silent
from tests.features.rows import NOON_US, event, events, slate

NOW_US = NOON_US
CLICKS = Metric(name="clicks", event_type="click")


def design(**changes: Any) -> Design:
    fields: dict[str, Any] = {
        "name": "try",
        "hypothesis": "",
        "unit": "user",
        "variants": (Variant(key="a"), Variant(key="b", policy={"diversity": 0.5})),
        "plan": Plan(goals=(CLICKS,), target_lift=0.2),
    }
    return Design(**fields | changes)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Ten days of 100 new users each, who click about once."""
    rng = np.random.default_rng(0)
    slates, clicks = [], []
    for day in range(1, 11):
        for u in range(100):
            at_us, user = NOW_US - day * US_PER_DAY + u, f"u{day}-{u}"
            slates.append(replace(slate(f"r{day}-{u}", user_id=user), shown_at_us=at_us))
            clicks += [
                event(f"e{day}-{u}-{c}", user_id=user, event_type="click", event_time_us=at_us + 9)
                for c in range(rng.poisson(1.0))
            ]
    places = Places(tmp_path / "lake", tmp_path / "r", tmp_path / "w", tmp_path / "reports")
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.append_slates(slates)
        store.append_events(events(*clicks), received_at_us=NOW_US)
        ingest(store, places, NOW_US, Silent())
    return Lake(places.lake)


def test_the_past_days_tell_how_long_it_takes_and_what_is_found_meanwhile(lake: Lake) -> None:
    found = outlook(design(), lake, now_us=NOW_US).past
    assert found is not None
    assert sum(found.units.values()) == 1_000
    assert min(found.units.values()) > 430
    assert found.days == pytest.approx(10, abs=0.01)
    estimate = found.rows[0].estimate
    assert estimate.mde is not None
    assert found.units_needed is not None
    assert 0.2 < estimate.mde < 0.5
    assert 1_000 < found.units_needed < 6_000
    (words,) = duration(design(), outlook(design(), lake, now_us=NOW_US)).words
    assert f"1,000 units would have taken part in the last {DAYS} days." in words
    days = math.ceil(found.units_needed / 100)
    assert f"found after about {days} days, with a chance of 80%" in words


def test_an_effect_that_is_soon_found_still_takes_the_planned_days(lake: Lake) -> None:
    plan = Plan(goals=(CLICKS,), target_lift=0.9, min_days=7)
    (words,) = duration(design(plan=plan), outlook(design(plan=plan), lake, now_us=NOW_US)).words
    assert "found after about 7 days" in words


def test_a_ramp_is_over_before_it_matters(lake: Lake) -> None:
    later = datetime.fromtimestamp(NOW_US / 1e6, UTC) + timedelta(days=1)
    ramped = design(coverage=0.0, ramp=(RampStep(at=later, coverage=1.0),))
    found = outlook(ramped, lake, now_us=NOW_US).past
    assert found is not None
    assert sum(found.units.values()) == 1_000


def test_half_the_coverage_takes_about_twice_as_long(lake: Lake) -> None:
    whole = outlook(design(), lake, now_us=NOW_US).past
    half = outlook(design(coverage=0.5), lake, now_us=NOW_US).past
    assert whole is not None and half is not None  # noqa: PT018  for the type checker
    units = [sum(past.units.values()) for past in (half, whole)]
    assert units[0] / units[1] == pytest.approx(0.5, abs=0.05)
    assert half.units_needed is not None and whole.units_needed is not None  # noqa: PT018
    assert half.units_needed == pytest.approx(whole.units_needed, rel=0.25), "of units as many"


def test_where_nothing_was_shown_nobody_can_tell(lake: Lake) -> None:
    told = duration(
        design(placements=("cart",)), outlook(design(placements=("cart",)), lake, now_us=NOW_US)
    )
    assert told.words == (
        "Nobody can tell: no slates of units were logged on cart in the last 14 days.",
    )
    mixed = outlook(design(kind="interleave"), lake, now_us=NOW_US)
    assert mixed.past is None
