"""What share of the units a bandit gives each variant: the chance that it is the best.

Thompson (1933), as randomised probability matching by Scott (2010, 2015), with normal posteriors
around the variants' means.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from features.arrays import Float64Array
from features.errors import DataError
from recsys.evaluation.experiment.estimates import Arm
from recsys.experiments.lifecycle import FLOOR

MIN_UNITS = 100  # of each variant, before any share moves
_STEPS = 2_001  # of the quadrature, whose error then is far below a bucket


def shares(arms: Sequence[Arm], *, up: bool = True, floor: float = FLOOR) -> tuple[float, ...]:
    """Sum 1, none below `floor`; equal ones while a variant has few units or nothing varies.

    `up`: more is better.
    """
    n = len(arms)
    if not n * floor < 1:
        raise DataError(f"found the floor {floor:g} for {n} variants, expected less than 1 in all")
    most = max(arms, key=lambda arm: arm.variance * arm.n)
    known = [arm.varying_as(most) for arm in arms]
    means = np.array([arm.value for arm in known], np.float64)
    ses = np.sqrt(np.array([arm.variance for arm in known], np.float64))
    is_known = np.isfinite(means) & np.isfinite(ses) & (ses > 0)
    if min(arm.n for arm in arms) < MIN_UNITS or not is_known.all():
        return (1 / n,) * n
    chances = best_chances(means if up else -means, ses)
    return tuple((floor + (1 - n * floor) * chances).tolist())


def best_chances(means: Float64Array, ses: Float64Array) -> Float64Array:
    """(n,) P(variant has the largest mean) = ∫ φ_i(x) Π_{j≠i} Φ_j(x) dx, of independent normals."""
    low, high = (means - 8 * ses).min(), (means + 8 * ses).max()
    found = np.empty(len(means))
    for i in range(len(means)):
        at = means[i] + ses[i] * np.linspace(-8, 8, _STEPS)
        at = at[(at >= low) & (at <= high)]
        others = np.delete(np.arange(len(means)), i)
        below = stats.norm.cdf((at[:, None] - means[others]) / ses[others]).prod(axis=1)
        found[i] = np.trapezoid(stats.norm.pdf(at, means[i], ses[i]) * below, at)
    return np.asarray(found / found.sum(), np.float64)
