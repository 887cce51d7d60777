"""One metric of one variant against the control: the difference, and how sure it is.

Every kind of metric comes down to one number a unit whose mean is the metric's value, so that
the differences, the intervals and the variance reduction are written once.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from features.arrays import Float64Array
from recsys.evaluation.experiment import sequential
from recsys.evaluation.experiment.bayes import chance_to_win, risk
from recsys.evaluation.experiment.power import detectable
from recsys.evaluation.experiment.quantiles import clustered_quantile
from recsys.evaluation.experiment.samples import Sample
from recsys.experiments.experiment import Metric

ROUNDING = 1e-12  # relative to the values: a smaller spread is what summing in floats leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is known of a difference; None where nothing is, and `problem` says why.

    Intervals at 1 - alpha: low and high hold for one look at a planned time, the always-valid
    ones for all looks together. `lift` is relative to the control.
    """

    n_control: int
    n_variant: int
    control_value: float | None = None
    variant_value: float | None = None
    difference: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    anytime_low: float | None = None
    anytime_high: float | None = None
    lift: float | None = None
    lift_low: float | None = None
    lift_high: float | None = None
    lift_anytime_low: float | None = None
    lift_anytime_high: float | None = None
    p_value: float | None = None
    p_anytime: float | None = None
    chance_to_win: float | None = None  # of the variant, in the metric's good direction
    risk: float | None = None  # lost on average by choosing the variant, in the metric's units
    theta: float | None = None  # of the numbers before
    variance_cut: float | None = None  # share of the variance they explained away
    capped_share: float | None = None  # of the units
    mde: float | None = None  # smallest lift that these units would show with the planned power
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """The value of one side and the variance of that value."""

    n: int
    value: float
    variance: float
    degrees: float


@dataclass(frozen=True, slots=True)
class _Notes:
    theta: float | None = None
    variance_cut: float | None = None
    capped_share: float | None = None


def compare(
    control: Sample,
    variant: Sample,
    metric: Metric,
    *,
    alpha: float = 0.05,
    n_star: int = 5_000,
    power: float = 0.8,
) -> Estimate:
    """The variant minus the control; both numbers are adjusted where there are numbers before."""
    told = Estimate(n_control=len(control), n_variant=len(variant))
    problem = too_few(control, variant, metric)
    if problem:
        return replace(told, problem=problem)
    arms, notes = arms_of(control, variant, metric)
    told = replace(
        told, theta=notes.theta, variance_cut=notes.variance_cut, capped_share=notes.capped_share
    )
    return judged(told, *arms, metric, alpha=alpha, n_star=n_star, power=power)


def arms_of(control: Sample, variant: Sample, metric: Metric) -> tuple[tuple[Arm, Arm], _Notes]:
    if metric.kind == "quantile":
        return _quantile_arms(control, variant, metric), _Notes()
    return _mean_arms(control, variant, metric)


def too_few(control: Sample, variant: Sample, metric: Metric) -> str | None:
    for name, sample in (("control", control), ("variant", variant)):
        if len(sample) == 0:
            return f"no units in the {name}"
        if len(sample) == 1:
            return f"one unit in the {name}, at least two are needed"
        if metric.kind == "ratio" and (
            sample.denominators is None or sample.denominators.sum() <= 0
        ):
            return f"nothing to divide by in the {name}: no {metric.per}"
        if metric.kind == "quantile" and (
            sample.events is None or len(np.unique(sample.events.unit_rows)) < 2
        ):
            return f"fewer than two units with a {metric.event_type} that has a value in the {name}"
    return None


def _mean_arms(control: Sample, variant: Sample, metric: Metric) -> tuple[tuple[Arm, Arm], _Notes]:
    totals, capped = _winsorised(control.totals, variant.totals, metric.cap)
    pairs = [
        _contributions(sums, sample.denominators)
        for sums, sample in zip(totals, (control, variant), strict=True)
    ]
    values = [value for value, _ in pairs]
    spreads = [spread for _, spread in pairs]
    before = _before(control, variant, metric)
    theta = None if before is None else _theta(spreads, before)
    cut = None
    if before is not None and theta is not None:
        plain = sum(float(s.var(ddof=1)) / len(s) for s in spreads)
        middle = float(np.concatenate(before).mean())
        values = [
            value - theta * (float(x.mean()) - middle)
            for value, x in zip(values, before, strict=True)
        ]
        spreads = [
            spread - theta * (x - x.mean()) for spread, x in zip(spreads, before, strict=True)
        ]
        left = sum(float(s.var(ddof=1)) / len(s) for s in spreads)
        cut = 1 - left / plain if plain > 0 else None
    first, second = (
        Arm(len(s), value, float(s.var(ddof=1)) / len(s), len(s) - 1)
        for value, s in zip(values, spreads, strict=True)
    )
    return (first, second), _Notes(theta, cut, capped)


def _contributions(
    totals: Float64Array, denominators: Float64Array | None
) -> tuple[float, Float64Array]:
    """The value and (n,) each unit's part of its error; of a ratio by the delta method."""
    if denominators is None:
        value = float(totals.mean())
        return value, totals - value
    value = float(totals.sum() / denominators.sum())
    return value, (totals - value * denominators) / denominators.mean()


def _winsorised(
    control: Float64Array, variant: Float64Array, cap: float | None
) -> tuple[tuple[Float64Array, Float64Array], float | None]:
    """Both arms cut at one number, the quantile of both together, and the share of units cut."""
    if cap is None:
        return (control, variant), None
    both = np.concatenate([control, variant])
    limit = float(np.quantile(both, cap))
    share = float((both > limit).mean())
    return (np.minimum(control, limit), np.minimum(variant, limit)), share


def _before(
    control: Sample, variant: Sample, metric: Metric
) -> tuple[Float64Array, Float64Array] | None:
    """(n,) of each arm what explains it, or None: CUPED needs it to vary (Deng et al. 2013)."""
    if control.before is None or variant.before is None or metric.cuped_days == 0:
        return None
    (first, second), _ = _winsorised(control.before, variant.before, metric.cap)
    if metric.kind == "ratio":
        own, other = control.before_denominators, variant.before_denominators
        if own is None or other is None or own.sum() + other.sum() <= 0:
            return None
        below = np.concatenate([own, other])
        pooled = (first.sum() + second.sum()) / below.sum()
        first, second = (
            (totals - pooled * denominators) / below.mean()
            for totals, denominators in ((first, own), (second, other))
        )
    return first, second


def _theta(spreads: list[Float64Array], before: tuple[Float64Array, ...]) -> float | None:
    """Σ cov / Σ var, each within its arm: one slope for both, or the difference would bias it."""
    centred = [x - x.mean() for x in before]
    variance = sum(float(x @ x) for x in centred)
    size = sum(float(x @ x) for x in before)
    if variance <= ROUNDING * size or variance == 0:
        return None
    return sum(float(s @ x) for s, x in zip(spreads, centred, strict=True)) / variance


def _quantile_arms(control: Sample, variant: Sample, metric: Metric) -> tuple[Arm, Arm]:
    assert metric.quantile is not None
    arms = []
    for sample in (control, variant):
        assert sample.events is not None
        value, se = clustered_quantile(sample.events, metric.quantile)
        n = len(np.unique(sample.events.unit_rows))
        arms.append(Arm(n, value, se**2, n - 1))
    first, second = arms
    return first, second


def judged(
    told: Estimate,
    control: Arm,
    variant: Arm,
    metric: Metric,
    *,
    alpha: float,
    n_star: int,
    power: float,
) -> Estimate:
    """`told` with the values of both sides and what they say together."""
    told = replace(told, control_value=control.value, variant_value=variant.value)
    variances = (control.variance, variant.variance)
    scale = max(abs(control.value), abs(variant.value))
    if math.sqrt(sum(variances)) <= ROUNDING * scale:
        return replace(told, problem="the metric does not vary between units")
    difference, se = variant.value - control.value, math.sqrt(sum(variances))
    # Welch (1947) and Satterthwaite's degrees of freedom
    degrees = sum(variances) ** 2 / (
        control.variance**2 / control.degrees + variant.variance**2 / variant.degrees
    )
    reach = float(stats.t.ppf(1 - alpha / 2, degrees))
    n = control.n + variant.n
    anytime = float(sequential.half_width(1.0, n, alpha=alpha, n_star=n_star))  # standard errors
    p_anytime = sequential.p_value(difference, se, n, alpha=alpha, n_star=n_star)
    better = difference if metric.direction == "up" else -difference
    found = replace(
        told,
        difference=difference,
        se=se,
        low=difference - reach * se,
        high=difference + reach * se,
        anytime_low=difference - anytime * se,
        anytime_high=difference + anytime * se,
        p_value=float(2 * stats.t.sf(abs(difference) / se, degrees)),
        p_anytime=float(p_anytime),
        chance_to_win=chance_to_win(better, se),
        risk=risk(better, se),
    )
    return _relative(
        found, control, variant, reach, anytime, detectable(se, alpha=alpha, power=power)
    )


def _relative(
    known: Estimate, control: Arm, variant: Arm, reach: float, anytime: float, mde: float
) -> Estimate:
    """The same as a share of the control, by the delta method; left out where that is 0 or less."""
    if control.value <= ROUNDING * abs(variant.value):
        return known
    ratio = variant.value / control.value
    se = math.sqrt(variant.variance + ratio**2 * control.variance) / control.value
    lift = ratio - 1
    return replace(
        known,
        lift=lift,
        lift_low=lift - reach * se,
        lift_high=lift + reach * se,
        lift_anytime_low=lift - anytime * se,
        lift_anytime_high=lift + anytime * se,
        mde=mde / control.value,
    )
