"""Quantiles of single values when it was units, not values, that were drawn.

Deng, Knoblich & Lu, "Applying the delta method in metric analytics" (2018), section 4: the share
of values up to the quantile is a ratio metric; its standard error is carried to the values by
looking up the quantiles two such errors away, so that no density is estimated.
"""

import numpy as np

from recsys.evaluation.experiment.samples import EventValues

REACH = 1.96  # standard errors looked away on either side


def clustered_quantile(events: EventValues, q: float) -> tuple[float, float]:
    """The quantile and its standard error; NaN for both with fewer than two units."""
    values = np.sort(events.values)
    _, unit = np.unique(events.unit_rows, return_inverse=True)
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 2:
        return float("nan"), float("nan")
    found = float(np.quantile(values, q))
    n_values = np.bincount(unit)
    n_below = np.bincount(unit, events.values <= found)
    share = n_below.sum() / n_values.sum()
    residual = (n_below - share * n_values) / n_values.mean()
    error = float(np.sqrt(residual.var(ddof=1) / n_units))
    low, high = np.quantile(values, np.clip([q - REACH * error, q + REACH * error], 0, 1))
    return found, float((high - low) / (2 * REACH))
