"""How far to trust replays: what they predicted of variants, beside what experiments measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from features.arrays import Float64Array
from features.errors import DataError
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.experiment.estimates import Estimate
from recsys.evaluation.offpolicy.replay import Replay, Value

Z = 1.959963984540054  # both intervals are taken as those of normals at 95 %
MIN_PAIRS = 3  # a line through fewer says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One variant's lift over the control: replayed before, measured after."""

    name: str
    predicted: float
    predicted_low: float
    predicted_high: float
    measured: float
    measured_low: float
    measured_high: float
    experiment: str | None = None  # whose other pairs have the control and the log in common

    def __post_init__(self) -> None:
        numbers = [value for value in asdict(self).values() if not isinstance(value, str | None)]
        wide = self.predicted_low < self.predicted_high and self.measured_low < self.measured_high
        if not (np.isfinite(numbers).all() and wide):
            raise DataError(
                f"found {self}, expected finite lifts with intervals wider than nothing: leave out "
                "what was not measured"
            )

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than both intervals allow."""
        return abs(self.predicted - self.measured) <= Z * self.se

    @property
    def se(self) -> float:
        """Of the difference; the two come from other shoppers' exposures."""
        widths = (self.predicted_high - self.predicted_low, self.measured_high - self.measured_low)
        return float(np.hypot(*widths)) / (2 * Z)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`bias` is predicted minus measured lift, each pair counting by its precision.

    Its interval takes the variants of one experiment to share all of their error: they are measured
    against one control and replayed on one log.
    A `slope` of measured on predicted below 1 says that replays promise too much; the noise of the
    predictions draws it below 1 too.
    """

    pairs: tuple[Pair, ...]
    agreeing: int
    bias: float
    bias_low: float
    bias_high: float
    slope: float | None
    problem: str | None

    @property
    def words(self) -> str:
        told = (
            f"{self.agreeing} of {len(self.pairs)} replays agree with their experiment; they are "
            f"off by {self.bias:+.1%} [{self.bias_low:+.1%}, {self.bias_high:+.1%}] on average"
        )
        return (
            f"{told}; {self.problem}." if self.slope is None else f"{told}, slope {self.slope:.2f}."
        )

    def frame(self) -> pd.DataFrame:
        """One row a pair, as lifts."""
        return pd.DataFrame([asdict(pair) | {"agrees": pair.agrees} for pair in self.pairs])


def predicted_lift(name: str, replayed: Replay) -> Interval:
    """What may be read of a replay; DataError for one that was refused."""
    if replayed.verdict.standing == "refuse":
        raise DataError(f"found the replay of {name!r} refused, expected one that may be read")
    return lift_of(name, replayed[replayed.best])


def lift_of(name: str, of: Value | Estimate) -> Interval:
    """DataError where there is none, or nothing that it could differ from."""
    if of.lift is None or of.lift_low is None or of.lift_high is None:
        why = of.problem or "what it would be relative to is not surely above 0"
        raise DataError(f"found no lift of {name!r}: {why}")
    if not of.lift_low < of.lift_high:
        raise DataError(
            f"found the lift of {name!r} {of.lift:+.1%} without doubt, expected one that could "
            "have come out otherwise: does it answer as the shop does?"
        )
    return Interval(of.lift, of.lift_low, of.lift_high)


def pair(
    name: str, predicted: Interval, measured: Interval, *, experiment: str | None = None
) -> Pair:
    return Pair(
        name=name,
        predicted=predicted.mean,
        predicted_low=predicted.low,
        predicted_high=predicted.high,
        measured=measured.mean,
        measured_low=measured.low,
        measured_high=measured.high,
        experiment=experiment,
    )


def calibrate(pairs: Sequence[Pair]) -> Calibration:
    if not pairs:
        raise DataError("found no past experiments, expected at least one that was also replayed")
    weights = np.array([1 / one.se**2 for one in pairs])
    predicted = np.array([one.predicted for one in pairs])
    measured = np.array([one.measured for one in pairs])
    bias = float(np.average(predicted - measured, weights=weights))
    margin = Z * _se_of_mean(pairs)
    slope = _slope(predicted, measured, weights)
    return Calibration(
        pairs=tuple(pairs),
        agreeing=sum(one.agrees for one in pairs),
        bias=bias,
        bias_low=bias - margin,
        bias_high=bias + margin,
        slope=slope,
        problem=f"a slope needs {MIN_PAIRS} predictions that differ" if slope is None else None,
    )


def _se_of_mean(pairs: Sequence[Pair]) -> float:
    """Of the mean by precision, as if the pairs of one experiment always erred alike."""
    by_experiment: dict[str, float] = {}
    for number, one in enumerate(pairs):
        of = f"/{number}" if one.experiment is None else one.experiment
        by_experiment[of] = by_experiment.get(of, 0.0) + 1 / one.se
    return float(np.linalg.norm([*by_experiment.values()])) / sum(1 / one.se**2 for one in pairs)


def _slope(x: Float64Array, y: Float64Array, weights: Float64Array) -> float | None:
    """Weighted least squares with an intercept."""
    if len(x) < MIN_PAIRS:
        return None
    x, y = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    spread = float(weights @ x**2)
    return float(weights @ (x * y)) / spread if spread > 0 else None
