"""Sample ratio mismatch: whether units arrived in the shares that were planned."""

import numpy as np
from scipy import special, stats

from features.arrays import Float64Array, Int64Array
from features.errors import DataError

ALARM = 0.001  # a false alarm in a thousand experiments; customary, as the check stops verdicts


def chi_square_p(counts: Int64Array, weights: Float64Array) -> float:
    """Pearson's test of units (k,) against planned shares (k,), for one look."""
    found, shares = _checked(counts, weights)
    return float(stats.chisquare(found, shares * found.sum()).pvalue)


def sequential_p(
    counts: Int64Array, weights: Float64Array, *, concentration: float = 10_000.0
) -> float:
    """Valid at every look: 1 / Bayes factor of a Dirichlet-multinomial (Lindon & Malek 2022).

    The prior has the planned shares as its mean and the weight of `concentration` units (theirs).
    Give all counts so far; the smallest p of the looks counts.
    """
    found, shares = _checked(counts, weights)
    prior = concentration * shares
    log_odds = (
        special.gammaln(prior.sum())
        - special.gammaln(prior.sum() + found.sum())
        + np.sum(special.gammaln(prior + found) - special.gammaln(prior))
        - np.sum(found * np.log(shares))
    )
    return float(min(1.0, np.exp(-log_odds)))


def _checked(counts: Int64Array, weights: Float64Array) -> tuple[Float64Array, Float64Array]:
    found, planned = np.asarray(counts, np.float64), np.asarray(weights, np.float64)
    if found.shape != planned.shape or found.ndim != 1 or len(found) < 2:
        raise DataError(
            f"found counts of shape {found.shape} for weights of shape {planned.shape}, expected "
            "one of each for at least two variants"
        )
    if found.sum() == 0 or (planned <= 0).any():
        raise DataError(
            f"found {int(found.sum())} units and the weights {planned.tolist()}, expected units "
            "and positive weights"
        )
    return found, planned / planned.sum()
