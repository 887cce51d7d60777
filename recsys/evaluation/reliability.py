"""Whether the ranker's probabilities mean what they say."""

from dataclasses import dataclass


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
