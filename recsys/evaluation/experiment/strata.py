"""The same comparison where the variants' shares changed in time, as a bandit's do.

Means over all time would compare who came when as much as what was shown: each period is compared
by itself, and the periods are put together by their shares of all units.
"""

from collections.abc import Sequence
from dataclasses import replace

from recsys.evaluation.experiment.estimates import Arm, Estimate, arms_of, judged, too_few
from recsys.evaluation.experiment.samples import Sample
from recsys.experiments.experiment import Metric, Plan

Pair = tuple[Sample, Sample]  # of the control and of the variant


def compare_strata(strata: Sequence[Pair], metric: Metric, plan: Plan) -> Estimate:
    """Σ w_p value_p with variance Σ w_p² variance_p; w_p is the period's share of the units.

    Periods in which a side has too few units are left out.
    """
    usable = [pair for pair in strata if too_few(*pair, metric) is None]
    used = usable or strata[:1]
    told = Estimate(
        n_control=sum(len(control) for control, _ in used),
        n_variant=sum(len(variant) for _, variant in used),
    )
    if not usable:
        problem = too_few(*used[0], metric) if used else "no units"
        return replace(told, problem=f"in every period: {problem}")
    sizes = [len(control) + len(variant) for control, variant in usable]
    arms = [arms_of(*pair, metric)[0] for pair in usable]
    first, second = (combined([pair[side] for pair in arms], sizes) for side in (0, 1))
    return judged(
        told, first, second, metric, alpha=plan.alpha, n_star=plan.n_star, power=plan.power
    )


def combined(arms: Sequence[Arm], sizes: Sequence[int]) -> Arm:
    """One side over all periods; `sizes` are the units of the periods, of all sides."""
    shares = [size / sum(sizes) for size in sizes]
    return Arm(
        n=sum(arm.n for arm in arms),
        value=sum(w * arm.value for w, arm in zip(shares, arms, strict=True)),
        variance=sum(w**2 * arm.variance for w, arm in zip(shares, arms, strict=True)),
        degrees=sum(arm.degrees for arm in arms),
    )
