"""Quantiles of single values when it was units, not values, that were drawn.

Deng, Knoblich & Lu, "Applying the delta method in metric analytics" (2018), section 4: the share
of values up to the quantile is a ratio metric; its standard error is carried to the values by
looking up the quantiles two such errors away, so that no density is estimated.
"""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array
from recsys.evaluation.experiment.samples import EventValues

REACH = 1.96  # standard errors looked away on either side
MIN_DISTINCT = 10  # values within that reach; between few prices a quantile jumps, and is no normal


@dataclass(frozen=True, slots=True)
class Quantile:
    """`parts` (n,) of the n units with values, in order of their rows: what each adds to its error.

    Their standard deviation over √n is the standard error.
    """

    value: float
    parts: Float64Array


def clustered_quantile(events: EventValues, q: float) -> Quantile | str:
    """Or why there is none: too few values for so extreme a quantile, or too coarse ones."""
    values = np.sort(events.values)
    _, unit = np.unique(events.unit_rows, return_inverse=True)
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 2:
        return "fewer than two units with a value"
    found = float(np.quantile(values, q))
    n_values = np.bincount(unit)
    n_below = np.bincount(unit, events.values <= found)
    share = n_below.sum() / n_values.sum()
    residual = (n_below - share * n_values) / n_values.mean()
    error = float(np.sqrt(residual.var(ddof=1) / n_units))
    low, high = q - REACH * error, q + REACH * error
    if low <= 0 or high >= 1:
        return f"too few values to tell the quantile {q:g}"
    ends = np.quantile(values, [low, high])
    n_near = len(np.unique(values[(values >= ends[0]) & (values <= ends[1])]))
    if n_near < MIN_DISTINCT:
        return f"only {n_near} different values near the quantile {q:g}: too coarse to compare"
    slope = float(ends[1] - ends[0]) / (2 * REACH * error)  # of the values by the share
    return Quantile(found, np.asarray(-slope * residual, np.float64))
