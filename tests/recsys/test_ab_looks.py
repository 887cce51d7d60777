"""What holds however often it is looked at: always-valid intervals and sample ratios."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from features.errors import DataError
from recsys.evaluation.experiment import sequential, srm

exactly = partial(pytest.approx, rel=1e-9, abs=1e-12)


def test_an_always_valid_interval_is_its_formula() -> None:
    """rho² = (-2 ln .05 + ln(-2 ln .05 + 1)) / 5000, by hand: 5.991465, 1.944690."""
    rho_squared = (5.991464547107979 + np.log(6.991464547107979)) / 5_000
    assert sequential.rho_squared(0.05, 5_000) == exactly(rho_squared)
    n, se = 2_000, 0.01
    inside = (n * rho_squared + 1) / (n * rho_squared)
    expected = se * np.sqrt(2 * inside * np.log(np.sqrt(n * rho_squared + 1) / 0.05))
    found = sequential.half_width(se, n, alpha=0.05, n_star=5_000)
    assert float(found) == exactly(expected)
    at_the_edge = sequential.p_value(float(found), se, n, alpha=0.05, n_star=5_000)
    assert float(at_the_edge) == exactly(0.05)


def test_daily_looks_at_nothing_alarm_as_seldom_as_promised() -> None:
    rng = np.random.default_rng(3)
    days, a_day, n_tests = 30, 200, 500
    sums = rng.normal(size=(n_tests, days)).cumsum(axis=1) * np.sqrt(a_day)
    n = a_day * np.arange(1.0, days + 1)
    mean, se = sums / n, 1 / np.sqrt(n)
    width = sequential.half_width(se, n, alpha=0.05, n_star=5_000)
    always = (np.abs(mean) > width).any(axis=1).mean()
    naive = (np.abs(mean) > 1.959964 * se).any(axis=1).mean()
    assert always <= 0.05
    assert 0.2 < naive < 0.4


def test_a_mismatch_of_shares_is_found_and_chance_is_not() -> None:
    assert srm.chi_square_p(np.array([480, 520]), np.array([1.0, 1.0])) == exactly(
        stats.chi2.sf(1.6, 1)
    )
    even, odd = np.array([5_000, 5_050]), np.array([5_000, 5_600])
    weights = np.array([0.5, 0.5])
    assert srm.sequential_p(even, weights) > 0.5
    assert srm.sequential_p(odd, weights) < srm.ALARM
    with pytest.raises(DataError, match="expected units"):
        srm.chi_square_p(np.array([0, 0]), weights)


def test_looking_at_shares_daily_seldom_alarms() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(300):
        counts = rng.binomial(200, 0.5, size=30).cumsum()
        totals = 200 * np.arange(1, 31)
        found = [
            srm.sequential_p(np.array([count, total - count]), np.ones(2))
            for count, total in zip(counts, totals, strict=True)
        ]
        alarms += min(found) < 0.05
    assert alarms / 300 <= 0.05
