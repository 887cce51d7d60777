"""Intervals that cover as often as they claim, and tests that are fooled no oftener."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from features.arrays import Float64Array
from features.errors import DataError
from recsys.evaluation.bootstrap import (
    bootstrap,
    bootstrap_columns,
    holm,
    paired_bootstrap,
    paired_columns,
)

N_TRIALS = 300
# 99.9 % of binomial(300, .05) counts lie in [5, 28]; the percentile interval is a little narrow.
FOOLED = range(5, 30)


def hits(rng: np.random.Generator, n: int = 150) -> Float64Array:
    """What a metric looks like: most users miss, the rest hit at some rank."""
    ranks = rng.integers(1, 11, n)
    return np.asarray(np.where(rng.random(n) < 0.4, 1 / np.log2(ranks + 1), 0.0), np.float64)


def test_two_equal_systems_differ_significantly_about_five_times_in_a_hundred() -> None:
    rng = np.random.default_rng(3)
    by_interval = by_test = 0
    for trial in range(N_TRIALS):
        found = paired_bootstrap(hits(rng), hits(rng), seed=trial, n_resamples=800)
        by_interval += found.interval.excludes_zero
        by_test += found.p_value <= 0.05
    assert by_interval in FOOLED
    assert by_test in FOOLED


def test_the_interval_covers_the_true_mean_about_ninety_five_times_in_a_hundred() -> None:
    rng = np.random.default_rng(4)
    truth = 0.4 * np.mean(1 / np.log2(np.arange(2, 12)))
    intervals = [bootstrap(hits(rng), seed=trial, n_resamples=800) for trial in range(N_TRIALS)]
    assert sum(not one.low <= truth <= one.high for one in intervals) in FOOLED


def test_the_interval_agrees_with_scipy() -> None:
    values = hits(np.random.default_rng(5))
    ours = bootstrap(values, seed=1, n_resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=2, batch=1_000
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_the_p_value_agrees_with_the_exact_one_where_all_flips_can_be_listed() -> None:
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.5, -0.2, 0.6, 0.1])
    exact = stats.permutation_test(
        (differences, np.zeros(8)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=2**8,  # all of them: scipy then lists instead of drawing
    ).pvalue
    found = paired_bootstrap(differences, np.zeros(8), seed=1, n_resamples=40_000)
    assert found.p_value == pytest.approx(exact, abs=0.005)


def test_pairing_finds_a_small_steady_gain_between_very_different_users() -> None:
    rng = np.random.default_rng(6)
    users = rng.normal(0, 10, 400)
    found = paired_bootstrap(users + rng.normal(0.2, 0.5, 400), users, seed=1)
    assert found.interval.low > 0
    assert found.p_value < 0.001


def test_equal_seeds_give_equal_answers() -> None:
    values = hits(np.random.default_rng(7), 50)
    first = paired_bootstrap(values, values[::-1], seed=9)
    assert paired_bootstrap(values, values[::-1], seed=9) == first
    assert paired_bootstrap(values, values[::-1], seed=10) != first


def test_many_users_are_resampled_in_chunks_without_another_result() -> None:
    values = hits(np.random.default_rng(11), 30_000)  # 30 chunks
    found = bootstrap(values, seed=1)
    half_width = 1.96 * values.std() / np.sqrt(len(values))  # the central limit has long set in
    assert found.high - found.mean == pytest.approx(half_width, rel=0.1)
    assert found.mean - found.low == pytest.approx(half_width, rel=0.1)


def test_identical_systems_do_not_differ() -> None:
    values = hits(np.random.default_rng(8))
    found = paired_bootstrap(values, values, seed=1)
    assert (found.interval.low, found.interval.high, found.p_value) == (0, 0, 1)


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_numbers_that_cannot_be_averaged_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="expected one finite number"):
        bootstrap(np.array(values), seed=1)


def test_users_missing_on_one_side_are_refused() -> None:
    with pytest.raises(DataError, match="same users on both sides"):
        paired_bootstrap(np.ones(3), np.ones(2), seed=1)


def test_several_columns_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(12)
    a = np.stack([hits(rng), hits(rng)], axis=1)
    b = np.stack([hits(rng), hits(rng)], axis=1)
    together = paired_columns(a, b, seed=2)
    for column, found in enumerate(together):
        alone = paired_bootstrap(a[:, column], b[:, column], seed=2)
        assert found.interval.low == pytest.approx(alone.interval.low)
        assert found.at_least == pytest.approx(alone.at_least)
        assert found.p_value == pytest.approx(alone.p_value, abs=0.02)  # flips are drawn anew
    first, _ = bootstrap_columns(a, seed=2)
    assert first.high == pytest.approx(bootstrap(a[:, 0], seed=2).high)


def test_the_one_sided_end_is_missed_about_five_times_in_a_hundred() -> None:
    rng = np.random.default_rng(13)
    missed = sum(
        paired_bootstrap(hits(rng), hits(rng), seed=trial, n_resamples=800).at_least > 0
        for trial in range(N_TRIALS)
    )
    assert missed in FOOLED


def test_holm_gives_the_numbers_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    with pytest.raises(DataError, match="from 0 to 1"):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_p_values_and_bonferroni(p_values: list[float]) -> None:
    adjusted, raw = holm(p_values), np.array(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, raw * len(raw)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
