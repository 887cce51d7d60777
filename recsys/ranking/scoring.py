"""From utility to score: how much the shopper, the match and the shop's rules each decide."""

from dataclasses import dataclass, field

import numpy as np

from features.arrays import Float32Array
from recsys.types import Candidates

NOISE = 1e-6  # of the greatest value: values closer than that are equal, float32 knows no better


@dataclass(slots=True, kw_only=True)
class Scored:
    """Candidates of one request and how their scores came about.

    score = offset + share · utility + Σ adjustments, for every candidate.
    """

    candidates: Candidates
    features: Float32Array
    probabilities: Float32Array  # (n, n_actions), NaN without a ranker
    utilities: Float32Array  # (n,)
    ranked: bool  # utilities are the ranker's, not those of the best source rank
    scores: Float32Array = field(init=False)  # (n,)
    share: float = 1.0
    offset: float = 0.0
    adjustments: dict[str, Float32Array] = field(default_factory=dict)  # (n,) each

    def __post_init__(self) -> None:
        self.scores = self.utilities

    def blend(self, name: str, match: Float32Array, personalisation: float) -> None:
        """Sets it to (1 - p) · scaled(match) + p · scaled(utility), both to 0..1 in the request."""
        low, spread = _range(self.utilities)
        self.share = personalisation / spread if spread else 0.0
        self.offset = -self.share * low
        matching = np.asarray((1 - personalisation) * scaled(match), np.float32)
        self.adjustments[name] = matching
        self.scores = np.asarray(matching + personalisation * scaled(self.utilities), np.float32)

    def adjust(self, name: str, by: Float32Array) -> None:
        self.adjustments[name] = by
        self.scores = self.scores + by

    @property
    def spread(self) -> float:
        """Of the scores; 1 where all are equal, so that rules move items there too."""
        return _range(self.scores)[1] or 1.0


def scaled(values: Float32Array) -> Float32Array:
    """To 0..1 within the request; equal values all become 0."""
    low, spread = _range(values)
    return np.asarray((values - low) / spread if spread else np.zeros(len(values)), np.float32)


def _range(values: Float32Array) -> tuple[float, float]:
    """The least value and the spread that values are scaled by, 0 where they are equal."""
    if len(values) == 0:
        return 0.0, 0.0
    spread = float(np.ptp(values))
    return float(values.min()), spread if spread > NOISE * float(np.abs(values).max()) else 0.0
