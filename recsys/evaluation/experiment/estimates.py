"""One metric of one variant against the control: the difference, and how sure it is.

Every kind of metric comes down to one number a unit whose mean is the metric's value, so that
the differences, the intervals and the variance reduction are written once.
"""

import math
from collections.abc import Sequence
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

TOO_LARGE = "some values are too large to be compared: cap the metric, or look at its events"
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
    slack_low: float | None = None  # guardrails: the good above what the margin allows,
    slack_high: float | None = None  # always valid; all below 0: harmed, all above: unharmed
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
    capped_share: float | None = None  # of the units with anything
    mde: float | None = None  # smallest lift that a look at these units finds, with planned power
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """The value of one variant, and (n,) what each unit adds to its error; their mean is 0."""

    value: float
    parts: Float64Array


@dataclass(frozen=True, slots=True)
class Arm:
    """The value of one side and the variance of that value."""

    n: int
    value: float
    variance: float

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")  # `judged` says what came of it
    def of(cls, side: Side) -> "Arm":
        n = len(side.parts)
        return cls(n, side.value, float(side.parts.var(ddof=1)) / n)

    def varying_as(self, other: "Arm") -> "Arm":
        """An arm in which nothing varied is taken to vary as the other: it may only be too small.

        Else nobody who bought, of four, would be known to buy nothing for ever.
        """
        if self.variance > 0:
            return self
        return replace(self, variance=other.variance * other.n / self.n)


@dataclass(frozen=True, slots=True)
class Notes:
    """What was done to the numbers before they were compared."""

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
    found = sides_of((control, variant), metric)
    if isinstance(found, str):
        return replace(told, problem=found)
    sides, notes = found
    told = replace(
        told, theta=notes.theta, variance_cut=notes.variance_cut, capped_share=notes.capped_share
    )
    first, second = (Arm.of(side) for side in sides)
    return judged(told, first, second, metric, alpha=alpha, n_star=n_star, power=power)


def too_few(control: Sample, variant: Sample, metric: Metric) -> str | None:
    """Why the two cannot be compared, if so."""
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


@np.errstate(over="ignore", invalid="ignore")  # as in `Arm.of`
def sides_of(samples: Sequence[Sample], metric: Metric) -> tuple[list[Side], Notes] | str:
    """Of all variants, treated alike; or why nothing can be said."""
    if metric.kind == "quantile":
        return _quantile_sides(samples, metric)
    totals, capped = _winsorised([sample.totals for sample in samples], metric.cap)
    sides = [
        _contributions(sums, sample.denominators)
        for sums, sample in zip(totals, samples, strict=True)
    ]
    before = _before(samples, metric)
    theta = None if before is None else _theta(sides, before)
    if before is None or theta is None:
        return sides, Notes(capped_share=capped)
    plain = sum(Arm.of(side).variance for side in sides)
    middle = float(np.concatenate(before).mean())
    sides = [
        Side(side.value - theta * (float(x.mean()) - middle), side.parts - theta * (x - x.mean()))
        for side, x in zip(sides, before, strict=True)
    ]
    left = sum(Arm.of(side).variance for side in sides)
    return sides, Notes(theta, 1 - left / plain if plain > 0 else None, capped)


def _contributions(totals: Float64Array, denominators: Float64Array | None) -> Side:
    """Each unit's part of the error; of a ratio by the delta method."""
    if denominators is None:
        value = float(totals.mean())
        return Side(value, totals - value)
    value = float(totals.sum() / denominators.sum())
    return Side(value, (totals - value * denominators) / denominators.mean())


def _winsorised(
    arms: Sequence[Float64Array], cap: float | None
) -> tuple[Sequence[Float64Array], float | None]:
    """All cut at one number, the quantile of what is above 0, and the share of those cut.

    Of all units it would be 0 or a small purchase where few buy.
    """
    above = np.concatenate(arms)
    above = above[above > 0]
    if cap is None or not len(above):
        return arms, None
    limit = float(np.quantile(above, cap))
    return [np.minimum(arm, limit) for arm in arms], float((above > limit).mean())


def _before(samples: Sequence[Sample], metric: Metric) -> list[Float64Array] | None:
    """(n,) of each arm what explains it, or None: CUPED needs it to vary (Deng et al. 2013)."""
    if metric.cuped_days == 0:
        return None
    known = [sample.before for sample in samples if sample.before is not None]
    if len(known) < len(samples):
        return None
    arms, _ = _winsorised(known, metric.cap)
    if metric.kind != "ratio":
        return list(arms)
    below = [s.before_denominators for s in samples if s.before_denominators is not None]
    if len(below) < len(samples) or sum(float(each.sum()) for each in below) <= 0:
        return None
    pooled = sum(float(arm.sum()) for arm in arms) / sum(float(each.sum()) for each in below)
    mean = float(np.concatenate(below).mean())
    return [(arm - pooled * each) / mean for arm, each in zip(arms, below, strict=True)]


def _theta(sides: Sequence[Side], before: Sequence[Float64Array]) -> float | None:
    """Σ cov / Σ var, each within its arm: one slope for all, or the difference would bias it."""
    centred = [x - x.mean() for x in before]
    variance = sum(float(x @ x) for x in centred)
    size = sum(float(x @ x) for x in before)
    if variance <= ROUNDING * size or variance == 0:
        return None
    return sum(float(side.parts @ x) for side, x in zip(sides, centred, strict=True)) / variance


def _quantile_sides(samples: Sequence[Sample], metric: Metric) -> tuple[list[Side], Notes] | str:
    assert metric.quantile is not None
    sides = []
    for sample in samples:
        assert sample.events is not None
        found = clustered_quantile(sample.events, metric.quantile)
        if isinstance(found, str):
            return found
        sides.append(Side(found.value, found.parts))
    return sides, Notes()


def judged(
    told: Estimate,
    control: Arm,
    variant: Arm,
    metric: Metric,
    *,
    alpha: float,
    n_star: int,
    power: float,
    covariance: float = 0.0,
) -> Estimate:
    """`told` with the values of both sides and what they say together.

    `covariance` of the two values: not 0 where persons are on both sides.
    """
    told = replace(told, control_value=control.value, variant_value=variant.value)
    numbers = (control.value, variant.value, control.variance, variant.variance)
    if not all(map(math.isfinite, numbers)):
        return replace(told, control_value=None, variant_value=None, problem=TOO_LARGE)
    scale = max(abs(control.value), abs(variant.value))
    if math.sqrt(control.variance + variant.variance) <= ROUNDING * scale:
        return replace(told, problem="the metric does not vary between units")
    control, variant = control.varying_as(variant), variant.varying_as(control)
    contrast = _Contrast(control, variant, covariance)
    difference, se = variant.value - control.value, contrast.se(1.0)
    if se == 0:
        return replace(told, problem="the metric does not vary between units")
    reach = contrast.reach(alpha)
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
        p_value=contrast.p_value(),
        p_anytime=float(p_anytime),
        chance_to_win=chance_to_win(better, se),
        risk=risk(better, se),
    )
    if metric.margin is not None:
        low, high = contrast.slack(metric.margin, metric.direction, anytime)
        found = replace(found, slack_low=low, slack_high=high)
    if control.value <= ROUNDING * abs(variant.value):  # a share of nothing is none
        return found
    mde = detectable(se, n, alpha=alpha, power=power, n_star=n_star) / control.value
    lift_low, lift_high = contrast.lift(reach)
    anytime_low, anytime_high = contrast.lift(anytime)
    return replace(
        found,
        lift=difference / control.value,
        lift_low=lift_low,
        lift_high=lift_high,
        lift_anytime_low=anytime_low,
        lift_anytime_high=anytime_high,
        mde=mde,
    )


@dataclass(frozen=True, slots=True)
class _Contrast:
    """variant - share · control, for any share of the control."""

    control: Arm
    variant: Arm
    covariance: float

    def se(self, share: float) -> float:
        c, v = self.control.variance, self.variant.variance
        return math.sqrt(max(v + share**2 * c - 2 * share * self.covariance, 0.0))

    def slack(self, margin: float, direction: str, reach: float) -> tuple[float, float]:
        """How far the variant is on the good side of what the margin allows: an interval."""
        share = 1 - margin if direction == "up" else 1 + margin
        apart = self.variant.value - share * self.control.value
        good = apart if direction == "up" else -apart
        return good - reach * self.se(share), good + reach * self.se(share)

    def lift(self, reach: float) -> tuple[float | None, float | None]:
        """Shares of the control that the variant may be, minus 1, by Fieller (1954).

        |v - r c| ≤ reach · se(r), which no ratio's own error is needed for. None where the
        control may be 0.
        """
        c, v = self.control.value, self.variant.value
        squared = reach**2
        a = c**2 - squared * self.control.variance
        b = c * v - squared * self.covariance
        root = b**2 - a * (v**2 - squared * self.variant.variance)
        if a <= 0 or root < 0:
            return None, None
        return (b - math.sqrt(root)) / a - 1, (b + math.sqrt(root)) / a - 1

    def reach(self, alpha: float) -> float:
        return float(stats.t.ppf(1 - alpha / 2, self._degrees()))

    def p_value(self) -> float:
        """Welch (1947)."""
        t = abs(self.variant.value - self.control.value) / self.se(1.0)
        return float(2 * stats.t.sf(t, self._degrees()))

    def _degrees(self) -> float:
        """Satterthwaite's."""
        c, v = self.control, self.variant
        both = c.variance + v.variance
        return both**2 / (c.variance**2 / (c.n - 1) + v.variance**2 / (v.n - 1))
