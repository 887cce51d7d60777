"""The same comparison where the variants' shares changed in time, as a bandit's do.

Means over all time would compare who came when as much as what was shown: each period is compared
by itself, and the periods are put together by their shares of all units. Whoever comes in several
periods is one person all the time: what they add to the error is summed before it is squared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array
from recsys.evaluation.experiment.estimates import Arm, Estimate, judged, sides_of, too_few
from recsys.evaluation.experiment.samples import Sample
from recsys.experiments.experiment import Metric, Plan

# Units of a side below which a period is left out: a handful tells no variance. Of 200 bandits with
# equal variants 6.5, 5, 1, .5 % were called different with 2, 10, 20, 30 (jobs/experiments/bandits)
MIN_SIDE = 20


@dataclass(frozen=True, slots=True)
class Combined:
    """All variants over all usable periods; `parts` (persons, variants) of each value's error."""

    arms: tuple[Arm, ...]
    parts: Float64Array

    def covariance(self, one: int, other: int) -> float:
        return float(self.parts[:, one] @ self.parts[:, other])


def combined(strata: Sequence[Sequence[Sample]], metric: Metric) -> Combined | str:
    """`strata` are the samples of all variants by period; or why nothing can be said.

    Σ w_p value_p, w_p being the period's share of the units; its variance is that of the sums of
    persons' parts. Periods in which a side has too few units are left out.
    """
    problems = [_problem(samples, metric) for samples in strata]
    usable = [s for s, problem in zip(strata, problems, strict=True) if problem is None]
    found = [(samples, sides_of(samples, metric)) for samples in usable]
    told = [(samples, sides[0]) for samples, sides in found if not isinstance(sides, str)]
    if not told:
        words = [sides for _, sides in found if isinstance(sides, str)] or problems or ["no units"]
        return f"in every period: {words[0]}"
    sizes = np.array([sum(map(len, samples)) for samples, _ in told], np.float64)
    shares = (sizes / sizes.sum()).tolist()
    persons = [[_persons(s, metric) for s in samples] for samples, _ in told]
    n_persons = 1 + max(int(who.max()) for period in persons for who in period)
    k = len(told[0][0])
    parts, came = np.zeros((n_persons, k)), np.zeros((n_persons, k), np.bool_)
    values = [0.0] * k
    for share, (_, sides), period in zip(shares, told, persons, strict=True):
        for arm, (side, who) in enumerate(zip(sides, period, strict=True)):
            values[arm] += share * side.value
            own = share * side.parts / len(side.parts)
            parts[:, arm] += np.bincount(who, own, minlength=n_persons)
            came[who, arm] = True
    n = came.sum(axis=0)
    variances = (parts**2).sum(axis=0) * n / np.maximum(n - 1, 1)
    arms = zip(n.tolist(), values, variances.tolist(), strict=True)
    return Combined(tuple(Arm(*arm) for arm in arms), parts)


def compare_strata(
    strata: Sequence[Sequence[Sample]], variant: int, metric: Metric, plan: Plan
) -> Estimate:
    """The variant of that number against the first."""
    pairs = [(samples[0], samples[variant]) for samples in strata]
    whole = combined(pairs, metric)
    if isinstance(whole, str):
        n_control, n_variant = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
        return Estimate(n_control=n_control, n_variant=n_variant, problem=whole)
    first, second = whole.arms
    return judged(
        Estimate(n_control=first.n, n_variant=second.n),
        first,
        second,
        metric,
        alpha=plan.alpha,
        n_star=plan.n_star,
        power=plan.power,
        covariance=whole.covariance(0, 1),
    )


def _problem(samples: Sequence[Sample], metric: Metric) -> str | None:
    if min(map(len, samples)) < MIN_SIDE:
        return f"fewer than {MIN_SIDE} units in a variant"
    return next((p for other in samples[1:] if (p := too_few(samples[0], other, metric))), None)


def _persons(sample: Sample, metric: Metric) -> np.ndarray:
    """Whose each part is: of a quantile only units with values have one."""
    assert sample.persons is not None
    if metric.kind == "quantile" and sample.events is not None:
        return np.asarray(sample.persons[np.unique(sample.events.unit_rows)])
    return sample.persons
