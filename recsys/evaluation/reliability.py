"""Whether the ranker's probabilities mean what they say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from features.arrays import Float32Array, Int64Array

N_BINS = 10
# Predictions are counted on a fine grid of logits, so that 100,000 shoppers' candidates need no
# memory: cells of .01 part p from 1.01 p; beyond ±20 lies only what rounds to 0 or 1.
FINE, SPAN = 4_000, 20.0


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Candidates with about the same prediction."""

    candidates: int
    predicted: float  # mean probability
    observed: float  # share that was taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """One action's probabilities on all candidates of the trial, lowest bin first.

    An action that nobody took has a base rate of 0.
    """

    action: str
    candidates: int
    base_rate: float
    brier: float  # mean squared error of the probability
    brier_of_base_rate: float  # the same, had it always said the base rate
    calibration_error: float  # mean |predicted - observed|, bins weighted by candidates
    bins: tuple[ReliabilityBin, ...]


class Tally:
    """Predictions beside outcomes, batch after batch, a row an action."""

    def __init__(self, actions: Sequence[str]) -> None:
        self._actions = tuple(actions)
        shape = (len(self._actions), FINE)
        self._candidates = np.zeros(shape, np.int64)
        self._predicted = np.zeros(shape)
        self._taken = np.zeros(shape)
        self._squares = np.zeros(len(self._actions))

    def add(self, action: str, probabilities: Float32Array, labels: Float32Array) -> None:
        """Both (n,); what is not finite is no prediction."""
        row = self._actions.index(action)
        known = np.isfinite(probabilities)
        p = probabilities[known].astype(np.float64)
        taken = (labels[known] > 0).astype(np.float64)
        cell = ((logit(p) + SPAN) * (FINE / (2 * SPAN))).clip(0, FINE - 1).astype(np.int64)
        self._candidates[row] += np.bincount(cell, minlength=FINE)
        self._predicted[row] += np.bincount(cell, p, minlength=FINE)
        self._taken[row] += np.bincount(cell, taken, minlength=FINE)
        self._squares[row] += ((p - taken) ** 2).sum()

    def reliability(self) -> tuple[Reliability, ...]:
        """Nothing of an action without predictions."""
        seen = np.flatnonzero(self._candidates.sum(axis=1))
        return tuple(self._of(int(row)) for row in seen)

    def _of(self, row: int) -> Reliability:
        n = int(self._candidates[row].sum())
        place = _equal_bins(self._candidates[row])
        sizes, predicted, taken = (
            np.bincount(place, values, minlength=N_BINS)
            for values in (self._candidates[row], self._predicted[row], self._taken[row])
        )
        filled = sizes > 0
        sizes, predicted, taken = sizes[filled], predicted[filled], taken[filled]
        base_rate = float(taken.sum() / n)
        return Reliability(
            action=self._actions[row],
            candidates=n,
            base_rate=base_rate,
            brier=float(self._squares[row] / n),
            brier_of_base_rate=base_rate * (1 - base_rate),
            calibration_error=float(np.abs(predicted - taken).sum() / n),
            bins=tuple(
                ReliabilityBin(int(size), float(p), float(share))
                for size, p, share in zip(sizes, predicted / sizes, taken / sizes, strict=True)
            ),
        )


def _equal_bins(candidates: Int64Array) -> Int64Array:
    """(FINE,) which of N_BINS about equally full bins a cell belongs to; equal predictions stay."""
    middle = np.cumsum(candidates) - candidates / 2
    place = middle * N_BINS // candidates.sum()
    return np.asarray(np.minimum(place, N_BINS - 1), np.int64)
