from datetime import timedelta

import numpy as np

from features.events import US_PER_DAY
from recsys.experiments.experiment import Experiment
from recsys.experiments.lifecycle import reallocated
from tests.recsys.experiment_rows import (
    START,
    START_US,
    event,
    looked,
    running,
    slate,
)


def test_a_bandit_is_judged_by_period_where_shares_and_days_moved_together() -> None:
    """Both variants are alike; the second period is better for all, and mostly "new"'s."""
    moved = START + timedelta(days=5)
    bandit = reallocated(running(kind="bandit"), moved, (0.1, 0.9))
    rng = np.random.default_rng(7)
    slates, clicks = [], []
    for unit in range(2_000):
        late = unit >= 1_000
        variant = ("control", "new")[int(rng.random() < (0.9 if late else 0.5))]
        day = 6.0 if late else 1.0
        slates.append(slate(f"u{unit}", variant, day))
        clicks += [
            event(f"u{unit}", day + 0.001 * (c + 1)) for c in range(rng.poisson(3 if late else 1))
        ]
    fair = looked(slates, clicks, bandit).rows[0].estimate
    assert fair.anytime_low is not None
    assert fair.anytime_high is not None
    assert fair.anytime_low < 0 < fair.anytime_high
    pooled = looked(slates, clicks, running()).rows[0].estimate
    assert pooled.anytime_low is not None
    assert pooled.anytime_low > 0, "without periods the better days look like a better variant"


def moving_bandit(n_periods: int, shares: float = 0.45) -> Experiment:
    bandit = running(kind="bandit")
    for period in range(1, n_periods):
        share = shares if period % 2 else 1 - shares
        bandit = reallocated(bandit, START + timedelta(days=period), (share, 1 - share))
    return bandit


def test_who_comes_in_every_period_of_a_bandit_is_one_person() -> None:
    """A/A; habits last and hardly anybody changes sides, so periods repeat each other."""
    n, n_periods, z = 200, 6, []
    bandit = moving_bandit(n_periods)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        habit, place = rng.gamma(1.0, 3.0, n), rng.random(n)
        slates, clicks = [], []
        for period in range(n_periods):
            edge = 0.5 if period == 0 else (0.45 if period % 2 else 0.55)
            for u in range(n):
                day = period + 0.1
                slates.append(slate(f"u{u}", ("control", "new")[int(place[u] >= edge)], day))
                times = rng.poisson(habit[u])
                clicks += [event(f"u{u}", day + 0.001 * (c + 1)) for c in range(times)]
        found = looked(slates, clicks, bandit, days=n_periods).rows[0].estimate
        assert found.se is not None
        assert found.n_control + found.n_variant < 1.4 * n, "persons, not their periods"
        z.append((found.difference or 0.0) / found.se)
    assert 0.75 < np.std(z) < 1.3  # 1 ± 3 standard errors of 60


def test_a_bandits_shares_are_checked_by_who_came_in_which_period() -> None:
    bandit = reallocated(running(kind="bandit"), START + timedelta(days=5), (0.1, 0.9))
    rng = np.random.default_rng(2)
    fair = [
        slate(f"u{u}", ("control", "new")[int(rng.random() < (0.5 if u < 500 else 0.9))], day)
        for u in range(1_000)
        for day in [1.0 if u < 500 else 6.0]
    ]
    clicks = [event(f"u{u}", 7) for u in range(0, 1_000, 3)]
    words = {c.name: c for c in looked(fair, clicks, bandit).checks}
    assert not words["shares"].is_alarm
    lost = [row for n, row in enumerate(fair) if row["variant"] == "control" or n % 3]
    assert looked(lost, clicks, bandit).verdict.standing == "unhealthy"


def test_what_a_bandit_did_to_somebody_is_not_their_time_before() -> None:
    """Who saw "new" clicks on the next morning too, before their first slate of that period."""
    bandit = moving_bandit(2, shares=0.5)
    slates = [
        slate(f"u{u}", ("control", "new")[u % 2], day) for u in range(400) for day in (0.5, 1.5)
    ]
    clicks = [event(f"u{u}", 1.2 + c / 100) for u in range(1, 400, 2) for c in range(1 + u % 5)]
    found = looked(slates, clicks, bandit, days=2)
    told = {check.name: check for check in found.checks}
    assert not told["time before"].is_alarm


def test_new_units_are_persons_by_days_since_the_start() -> None:
    bandit = moving_bandit(2, shares=0.5)
    slates = [
        slate(f"u{u}", ("control", "new")[u % 2], day) for u in range(200) for day in (0.5, 1.5)
    ]
    found = looked([*slates, slate("late", "new", 1.2)], [], bandit, days=2)
    first, second = START_US, START_US + US_PER_DAY
    assert found.traffic == (
        (first, "control", 100),
        (first, "new", 100),
        (second, "new", 1),
    )
