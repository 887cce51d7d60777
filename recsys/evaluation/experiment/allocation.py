"""What share of the units a bandit gives each variant: the chance that it is the best.

Thompson (1933), as randomised probability matching by Scott (2010, 2015), with normal posteriors
around the variants' means.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from features.arrays import Float64Array
from features.errors import DataError
from recsys.experiments.lifecycle import FLOOR

MIN_UNITS = 100  # of each variant, before any share moves
_STEPS = 2_001  # of the quadrature, whose error then is far below a bucket


def shares(
    means: Sequence[float | None],
    ses: Sequence[float | None],
    units: Sequence[int],
    *,
    up: bool = True,
    floor: float = FLOOR,
) -> tuple[float, ...]:
    """Sum 1, none below `floor`; equal ones while a variant has few units or no mean.

    `means` and their standard errors in the order of the variants; `up`: more is better.
    """
    n = len(means)
    if not n * floor < 1:
        raise DataError(f"found the floor {floor:g} for {n} variants, expected less than 1 in all")
    m = np.array([np.nan if mean is None else mean for mean in means], np.float64)
    se = np.array([np.nan if value is None else value for value in ses], np.float64)
    known = np.isfinite(m) & np.isfinite(se) & (se > 0)
    if min(units) < MIN_UNITS or not known.all():
        return (1 / n,) * n
    chances = best_chances(m if up else -m, se)
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
