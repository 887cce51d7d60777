"""From logits to probabilities, and how far these can be trusted."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from features.arrays import BoolArray, Float32Array, Float64Array

BINS = 10  # of a reliability curve


@dataclass(frozen=True, slots=True)
class ActionReliability:
    """One action's predictions in bins of about equally many candidates, lowest first."""

    action: str
    predicted: tuple[float, ...]  # mean probability
    observed: tuple[float, ...]  # share that was taken
    candidates: tuple[float, ...]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean |predicted - observed|, weighted by candidates."""
        gaps = np.abs(np.subtract(self.predicted, self.observed))
        return float(np.average(gaps, weights=self.candidates))


def platt(logits: Float64Array, taken: BoolArray, stands_for: Float32Array) -> Float64Array:
    """(2,) slope and intercept of sigmoid(slope · logit + intercept), Platt 1999.

    Maximum likelihood with his smoothed labels, so that an action without events still gets a
    finite answer; the slope is kept positive, so calibration never reorders. Rows count as often
    as they stand for candidates: without that, few drawn negatives make all chances too high.
    """
    n_taken, n_left = stands_for[taken].sum(), stands_for[~taken].sum()
    target = np.where(taken, (n_taken + 1) / (n_taken + 2), 1 / (n_left + 2))
    weight = stands_for / stands_for.sum(dtype=np.float64)
    mean = float(weight @ logits)
    spread = max(float(np.sqrt(weight @ (logits - mean) ** 2)), 1e-6)
    x = (logits - mean) / spread

    def loss(theta: Float64Array) -> tuple[float, Float64Array]:
        z = theta[0] * x + theta[1]
        error = weight * (expit(z) - target)
        value = weight @ (np.logaddexp(0, z) - target * z)
        return float(value), np.array([error @ x, error.sum()])

    start = np.array([1.0, logit(weight @ target)])
    slope, intercept = minimize(loss, start, jac=True, bounds=[(1e-3, None), (None, None)]).x
    return np.array([slope / spread, intercept - slope * mean / spread])


def reliability(
    action: str, chances: Float32Array, taken: BoolArray, stands_for: Float32Array
) -> ActionReliability:
    order = np.argsort(chances, kind="stable")
    seen = np.cumsum(stands_for[order], dtype=np.float64)
    bins = np.minimum((BINS * (seen - stands_for[order]) / seen[-1]).astype(np.int64), BINS - 1)
    sizes = np.bincount(bins, stands_for[order], BINS)
    full = sizes > 0
    means = [
        np.bincount(bins, stands_for[order] * values[order], BINS)[full] / sizes[full]
        for values in (chances, taken)
    ]
    return ActionReliability(action, *(tuple(values.tolist()) for values in (*means, sizes[full])))
