"""Intervals of ratios of sums, over resampled shoppers.

Percentiles of a bootstrap miss too often where few rewards and heavy weights make it skewed, so
they are corrected for bias and acceleration (BCa, Efron 1987).
"""

import numpy as np
from scipy.special import ndtr, ndtri

from features.arrays import Float64Array

_CHUNK = 2_000_000  # numbers drawn at a time: 16 MB
_MAX_SHIFT = 0.025  # of the share of draws below the value from 0 or 1: beyond, nothing is known


def resampled_sums(totals: Float64Array, *, resamples: int, seed: int) -> Float64Array:
    """(resamples, m) column sums of `totals` (n, m) over n rows drawn with replacement."""
    n, rng = len(totals), np.random.default_rng(seed)
    size = max(1, _CHUNK // n)
    found = []
    for start in range(0, resamples, size):
        k = min(size, resamples - start)
        drawn = rng.integers(0, n, size=(k, n)) + n * np.arange(k)[:, None]
        times = np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n)
        found.append(times.astype(np.float64) @ totals)
    return np.concatenate(found)


def bca_interval(
    value: float, drawn: Float64Array, left_out: Float64Array, *, level: float
) -> tuple[float, float]:
    """Ends from the resampled values `drawn` and those `left_out` (n,), each without one shopper.

    Values that are not finite say nothing and are left out; at least one draw must be finite.
    """
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2  # draws may tie with the value
    bias = float(ndtri(np.clip(below, _MAX_SHIFT, 1 - _MAX_SHIFT)))
    apart = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = float(apart @ apart) ** 1.5
    acceleration = float((apart**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(drawn, ndtr(bias + z / (1 - acceleration * z))).tolist()
    return low, high
