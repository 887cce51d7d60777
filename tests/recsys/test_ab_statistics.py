from functools import partial

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from features.arrays import Float64Array
from features.errors import DataError
from recsys.evaluation.experiment import sequential
from recsys.evaluation.experiment.bayes import chance_to_win, risk
from recsys.evaluation.experiment.estimates import Estimate, compare
from recsys.evaluation.experiment.power import days_left, detectable, power_of, units_needed
from recsys.evaluation.experiment.quantiles import clustered_quantile
from recsys.evaluation.experiment.samples import EventValues, Sample
from recsys.experiments.experiment import Metric

exactly = partial(pytest.approx, rel=1e-9, abs=1e-12)
MEAN = Metric(name="orders", event_type="purchase")
RATIO = Metric(name="rate", event_type="click", kind="ratio", per="slates")


def drawn(seed: int, n: int = 300, shift: float = 0.0) -> dict[str, Float64Array]:
    """Slates, clicks that follow them, and the same of the weeks before."""
    rng = np.random.default_rng(seed)
    taste = rng.gamma(2.0, 0.1, n)
    slates = (1 + rng.poisson(4, n)).astype(np.float64)
    before_slates = (1 + rng.poisson(3, n)).astype(np.float64)
    return {
        "clicks": rng.poisson(slates * (taste + shift)).astype(np.float64),
        "slates": slates,
        "before": rng.poisson(before_slates * taste).astype(np.float64),
        "before_slates": before_slates,
    }


def a_b(n: int = 300) -> tuple[dict[str, Float64Array], dict[str, Float64Array]]:
    return drawn(1, n), drawn(2, n + 50, shift=0.05)


def test_means_are_compared_as_by_welch() -> None:
    a, b = a_b()
    found = compare(Sample(totals=a["clicks"]), Sample(totals=b["clicks"]), MEAN)
    theirs = stats.ttest_ind(b["clicks"], a["clicks"], equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found.difference == exactly(b["clicks"].mean() - a["clicks"].mean())
    assert found.p_value == exactly(theirs.pvalue)
    assert (found.low, found.high) == exactly((interval.low, interval.high))


def test_means_proportions_and_ratios_equal_another_library() -> None:
    a, b = a_b()
    frame = pd.concat([pd.DataFrame(a), pd.DataFrame(b)])
    frame["bought"] = (frame["clicks"] > 1).astype(float)
    frame["variant"] = [0] * len(a["clicks"]) + [1] * len(b["clicks"])
    theirs = tt.Experiment(
        mean=tt.Mean("clicks"),
        proportion=tt.Mean("bought"),
        ratio=tt.RatioOfMeans("clicks", "slates"),
    ).analyze(frame)
    samples = {
        "mean": (MEAN, [Sample(totals=arm["clicks"]) for arm in (a, b)]),
        "proportion": (
            Metric(name="bought", event_type="click", kind="proportion"),
            [Sample(totals=(arm["clicks"] > 1).astype(np.float64)) for arm in (a, b)],
        ),
        "ratio": (
            RATIO,
            [Sample(totals=arm["clicks"], denominators=arm["slates"]) for arm in (a, b)],
        ),
    }
    for name, (metric, (control, variant)) in samples.items():
        found, oracle = compare(control, variant, metric), theirs[name]
        assert found.control_value == exactly(oracle.control)
        assert found.variant_value == exactly(oracle.treatment)
        assert found.difference == exactly(oracle.effect_size)
        assert found.low == exactly(oracle.effect_size_ci_lower)
        assert found.high == exactly(oracle.effect_size_ci_upper)
        assert found.lift == exactly(oracle.rel_effect_size)
        assert found.p_value == exactly(oracle.pvalue)


def test_numbers_before_adjust_as_a_regression_with_one_slope_does() -> None:
    a, b = a_b()
    control, variant = (Sample(totals=arm["clicks"], before=arm["before"]) for arm in (a, b))
    found = compare(control, variant, MEAN)
    y = np.concatenate([a["clicks"], b["clicks"]])
    x = np.concatenate([a["before"], b["before"]])
    is_b = np.r_[np.zeros(len(a["clicks"])), np.ones(len(b["clicks"]))]
    (_, effect, slope), *_ = np.linalg.lstsq(np.c_[np.ones(len(y)), is_b, x], y)
    assert found.theta == exactly(slope)
    assert found.difference == exactly(effect)
    assert found.variance_cut is not None
    assert 0 < found.variance_cut < 1


def test_a_ratio_is_adjusted_through_its_parts() -> None:
    """Each unit's part of a ratio's error, regressed on its part of the ratio before."""
    a, b = a_b()
    control, variant = (
        Sample(
            totals=arm["clicks"],
            denominators=arm["slates"],
            before=arm["before"],
            before_denominators=arm["before_slates"],
        )
        for arm in (a, b)
    )
    found = compare(control, variant, RATIO)
    before_below = np.concatenate([a["before_slates"], b["before_slates"]])
    pooled = (a["before"].sum() + b["before"].sum()) / before_below.sum()
    parts, before = [], []
    for arm in (a, b):
        ratio = arm["clicks"].sum() / arm["slates"].sum()
        parts.append(ratio + (arm["clicks"] - ratio * arm["slates"]) / arm["slates"].mean())
        own = (arm["before"] - pooled * arm["before_slates"]) / before_below.mean()
        before.append(own)
    is_b = np.r_[np.zeros(len(parts[0])), np.ones(len(parts[1]))]
    columns = np.c_[np.ones(len(is_b)), is_b, np.concatenate(before)]
    (_, effect, slope), *_ = np.linalg.lstsq(columns, np.concatenate(parts))
    assert found.theta == exactly(slope)
    assert found.difference == exactly(effect)


def test_totals_above_the_cap_count_as_it_in_both_arms() -> None:
    control, variant = np.arange(10.0), np.r_[np.arange(9.0), 1_000.0]
    capped = Metric(name="m", event_type="purchase", cap=0.95)
    found = compare(Sample(totals=control), Sample(totals=variant), capped)
    both = np.r_[control, variant]
    limit = np.quantile(both[both > 0], 0.95)
    expected = np.minimum(variant, limit).mean() - np.minimum(control, limit).mean()
    assert found.difference == exactly(expected)
    assert found.capped_share == pytest.approx(1 / 18)


def test_a_cap_keeps_what_few_bring() -> None:
    """The quantile of those who bought: of all units it would be 0, and nothing would be left."""
    rng = np.random.default_rng(4)
    control, variant = (
        np.where(rng.random(20_000) < share, rng.gamma(4.0, 10.0, 20_000), 0.0)
        for share in (0.008, 0.012)
    )
    capped = Metric(name="spent", event_type="purchase", of="value", cap=0.99)
    found = compare(Sample(totals=control), Sample(totals=variant), capped)
    assert found.lift == pytest.approx(variant.mean() / control.mean() - 1, abs=0.03)


def test_a_chance_to_win_and_its_risk_are_those_of_a_normal() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.5, 400_000)
    assert chance_to_win(0.3, 0.5) == exactly(stats.norm.cdf(0.6))
    assert risk(0.3, 0.5) == pytest.approx(np.maximum(-draws, 0).mean(), abs=0.002)


def test_the_units_a_plan_needs_reach_its_power_by_the_rule_that_decides() -> None:
    sd, target, n_star = 0.3, 0.01, 5_000
    se_now = sd * np.sqrt(4 / 1_000)
    needed = units_needed(target, se_now, 1_000, alpha=0.05, power=0.8, n_star=n_star)
    assert needed is not None
    se = sd * np.sqrt(4 / needed)
    reach = float(sequential.half_width(1.0, needed, alpha=0.05, n_star=n_star))
    assert stats.norm.sf(reach - target / se) == pytest.approx(0.8, abs=1e-3)
    found = detectable(se, needed, alpha=0.05, power=0.8, n_star=n_star)
    assert found == pytest.approx(target, rel=1e-3)
    once = 4 * 9 * (1.959964 + 0.841621) ** 2 / 0.01  # of one planned look: always fewer
    assert once < needed < 2.5 * once, "looking every day has its price"
    more = units_needed(target, se_now, 1_000, alpha=0.05 / 3, power=0.8, n_star=n_star)
    assert more is not None
    assert more > needed, "several questions share one chance of error"
    assert units_needed(1e-12, se_now, 1_000, alpha=0.05, power=0.8, n_star=n_star) is None
    assert power_of(0.01, 0.3 * np.sqrt(4 / 28_256), alpha=0.05) == pytest.approx(0.8, abs=1e-4)
    assert (days_left(100, 50, 90), days_left(0, 30, 100), days_left(0, 0, 1)) == (0, 4, None)
    for nothing in ((0.0, 1.0), (1.0, 0.0), (1.0, np.inf)):
        with pytest.raises(DataError, match="expected all above 0"):
            units_needed(*nothing, 100, alpha=0.05, power=0.8, n_star=n_star)


def test_a_look_finds_the_detectable_change_as_often_as_planned() -> None:
    rng, n, hits = np.random.default_rng(8), 2_000, 0
    se = float(np.sqrt(2 / (n / 2)))
    shift = detectable(se, n, alpha=0.05, power=0.8, n_star=2_000)
    for _ in range(400):
        a, b = rng.normal(size=n // 2), rng.normal(shift, size=n // 2)
        found = compare(Sample(totals=a), Sample(totals=b), MEAN, n_star=2_000)
        hits += found.p_anytime is not None and found.p_anytime < 0.05
    assert hits / 400 == pytest.approx(0.8, abs=0.06)  # 3 standard errors


def test_quantiles_of_clustered_values_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    covered, n_runs = 0, 300
    truth = float(stats.norm.ppf(0.75, scale=np.sqrt(2)))
    for _ in range(n_runs):
        own = rng.normal(size=150)
        rows = np.repeat(np.arange(150), 1 + rng.poisson(3, 150))
        values = EventValues(values=own[rows] + rng.normal(size=len(rows)), unit_rows=rows)
        found = clustered_quantile(values, 0.75)
        assert not isinstance(found, str)
        se = found.parts.std(ddof=1) / np.sqrt(len(found.parts))
        covered += abs(found.value - truth) < 1.96 * se
    assert 0.9 <= covered / n_runs <= 0.99


def test_quantiles_that_jump_or_lie_beyond_the_values_are_no_numbers() -> None:
    rng = np.random.default_rng(2)
    rows = np.arange(400)
    prices = EventValues(values=rng.choice([9.0, 19.0, 29.0, 49.0], 400), unit_rows=rows)
    assert "too coarse" in str(clustered_quantile(prices, 0.5))
    few = EventValues(values=rng.normal(size=100), unit_rows=rows[:100])
    assert "too few values" in str(clustered_quantile(few, 0.99))
    assert not isinstance(clustered_quantile(few, 0.5), str)
    metric = Metric(name="basket", event_type="purchase", kind="quantile", quantile=0.5)
    sample = Sample(totals=np.ones(400), events=prices)
    assert "too coarse" in str(compare(sample, sample, metric).problem)


def test_lifts_are_where_fiellers_lines_meet_and_cover_where_the_control_is_rare() -> None:
    a, b = a_b()
    found = compare(Sample(totals=a["clicks"]), Sample(totals=b["clicks"]), MEAN)
    c, v = a["clicks"], b["clicks"]
    for end, sign in ((found.lift_low, 1), (found.lift_high, -1)):
        assert end is not None
        apart = v.mean() - (1 + end) * c.mean()
        se = np.sqrt(v.var(ddof=1) / len(v) + (1 + end) ** 2 * c.var(ddof=1) / len(c))
        reach = ((found.difference or 0) - (found.low or 0)) / (found.se or 1)
        assert apart == exactly(sign * reach * se)
    rng, held, n = np.random.default_rng(6), 0, 600
    for _ in range(n):
        one, other = (Sample(totals=rng.poisson(0.03, 1_000).astype(float)) for _ in range(2))
        of = compare(one, other, MEAN)
        low = -np.inf if of.lift_low is None else of.lift_low
        high = np.inf if of.lift_high is None else of.lift_high
        held += low <= 0 <= high
    assert 0.93 <= held / n <= 0.975


def guarded(margin: float, direction: str = "up") -> Metric:
    return Metric.model_validate(
        {"name": "orders", "event_type": "purchase", "margin": margin, "direction": direction}
    )


def test_a_guardrails_slack_is_the_contrast_with_what_its_margin_allows() -> None:
    a, b = a_b()
    found = compare(Sample(totals=a["clicks"]), Sample(totals=b["clicks"]), guarded(0.1))
    c, v = a["clicks"], b["clicks"]
    kept = v.mean() - 0.9 * c.mean()
    se = np.sqrt(v.var(ddof=1) / len(v) + 0.81 * c.var(ddof=1) / len(c))
    reach = float(sequential.half_width(1.0, len(c) + len(v), alpha=0.05, n_star=5_000))
    assert (found.slack_low, found.slack_high) == exactly((kept - reach * se, kept + reach * se))
    down = compare(Sample(totals=c), Sample(totals=v), guarded(0.1, "down"))
    assert down.slack_high is not None
    assert down.slack_high < 0 or down.slack_high > -kept, "the other side of 1.1 controls"


@pytest.mark.parametrize(("share", "margin"), [(0.01, 0.02), (0.01, 0.1), (0.05, 0.02)])
def test_rare_guardrails_are_seldom_said_to_be_harmed(share: float, margin: float) -> None:
    """A/A, 14 daily looks: units of either arm buy so rarely that one arm often has nobody."""
    rng, alarms, n_runs, metric = np.random.default_rng(9), 0, 300, guarded(margin)
    for _ in range(n_runs):
        arms = [(rng.random(14 * 60) < share).astype(float) for _ in range(2)]
        for day in range(1, 15):
            one, other = (Sample(totals=arm[: 60 * day]) for arm in arms)
            high = compare(one, other, metric).slack_high
            if high is not None and high < 0:
                alarms += 1
                break
    assert alarms / n_runs <= 0.05


def test_an_arm_in_which_nothing_varied_varies_as_the_other_does() -> None:
    bought = np.r_[np.ones(1), np.zeros(19)]
    found = compare(Sample(totals=bought), Sample(totals=np.zeros(20)), guarded(0.02))
    assert found.slack_high is not None
    assert found.slack_high > 0, "one buyer of twenty proves nothing"
    assert found.p_value is not None
    assert found.p_value > 0.1


def test_values_too_large_for_a_comparison_are_a_word() -> None:
    huge = Sample(totals=np.r_[np.zeros(9), 1e300])
    for pair in ((huge, Sample(totals=np.arange(9.0))), (Sample(totals=np.arange(9.0)), huge)):
        found = compare(*pair, MEAN)
        assert "too large" in str(found.problem)
        assert found.difference is None


NOTHING = np.empty(0)


@pytest.mark.parametrize(
    ("control", "variant", "metric", "words"),
    [
        (Sample(totals=NOTHING), Sample(totals=np.ones(3)), MEAN, "no units in the control"),
        (Sample(totals=np.ones(3)), Sample(totals=NOTHING), MEAN, "no units in the variant"),
        (Sample(totals=np.ones(1)), Sample(totals=np.ones(3)), MEAN, "one unit in the control"),
        (Sample(totals=np.ones(9)), Sample(totals=np.ones(9)), MEAN, "does not vary"),
        (Sample(totals=np.zeros(9)), Sample(totals=np.zeros(9)), MEAN, "does not vary"),
        (
            Sample(totals=np.ones(9), denominators=np.zeros(9)),
            Sample(totals=np.ones(9), denominators=np.ones(9)),
            RATIO,
            "nothing to divide by in the control: no slates",
        ),
    ],
)
def test_what_cannot_be_told_is_said_in_words(
    control: Sample, variant: Sample, metric: Metric, words: str
) -> None:
    found = compare(control, variant, metric)
    assert found.problem is not None
    assert words in found.problem
    assert found.difference is None
    assert found.p_value is None


def test_a_lift_over_nothing_is_left_out() -> None:
    found = compare(Sample(totals=np.zeros(9)), Sample(totals=np.arange(9.0)), MEAN)
    assert found.difference == pytest.approx(4.0)
    assert (found.lift, found.mde, found.problem) == (None, None, None)


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="1 numbers that are not finite"):
        Sample(totals=np.array([1.0, np.nan]))


totals = st.lists(st.integers(0, 20), min_size=3, max_size=30).map(lambda x: np.array(x, float))


def _numbers(found: Estimate) -> list[float | None]:
    return [found.difference, found.se, found.theta, found.p_value]


@given(a=totals, b=totals)
def test_sides_are_treated_alike(a: Float64Array, b: Float64Array) -> None:
    one, other = (compare(Sample(totals=x), Sample(totals=y), MEAN) for x, y in ((a, b), (b, a)))
    assert (one.problem is None) == (other.problem is None)
    if one.problem is None:
        assert one.difference == pytest.approx(-(other.difference or 0.0), abs=1e-12)
        assert one.se == pytest.approx(other.se)
        assert one.p_value == pytest.approx(other.p_value)
        assert one.low == pytest.approx(-(other.high or 0.0), abs=1e-12)


@given(a=totals, b=totals, seed=st.integers(0, 99), shift=st.floats(-5, 5))
def test_what_all_had_before_changes_nothing(
    a: Float64Array, b: Float64Array, seed: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    before = [rng.normal(size=len(x)) for x in (a, b)]
    plain, moved = (
        compare(
            Sample(totals=a, before=before[0] + by), Sample(totals=b, before=before[1] + by), MEAN
        )
        for by in (0.0, shift)
    )
    for one, other in zip(_numbers(plain), _numbers(moved), strict=True):
        assert (one is None) == (other is None)
        assert one is None or one == pytest.approx(other, rel=1e-6, abs=1e-9)
