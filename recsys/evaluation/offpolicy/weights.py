"""Whether a log can tell anything about a policy: its weights, and a verdict in words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from features.arrays import Float64Array
from recsys.evaluation.offpolicy.log import ExposureLog
from recsys.evaluation.offpolicy.policy import Chances

Standing = Literal["usable", "weak", "refuse"]

MIN_ROWS = 100  # effective sample size below which an interval promises too much
MIN_UNITS = 50  # shoppers: what the bootstrap resamples
MAX_ROW_SHARE = 0.1  # of all weight in one exposure
MAX_WEIGHT_GAP = 0.2  # of the mean weight from 1, which it is on average if chances are right
MAX_SURE_GAP = 0.05  # where chance does not explain it: the values are off by about as much
MIN_SUPPORT = 0.9  # of the target's chances, on items the log has shown
MAX_UNKNOWN = 0.5  # of the exposures without a propensity
WEAK_ROWS_SHARE = 0.05  # effective of all exposures
WEAK_REWARDED = 20  # effective exposures with a reward
WEAK_UNKNOWN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCheck:
    """What the weights target chance / logged chance look like."""

    rows: int
    units: int
    requests: int
    unknown_share: float  # exposures left out because nobody knows their propensity
    effective_rows: float  # (Σw)² / Σw² (Kish 1965)
    effective_rewarded: float  # the same of those with a reward
    largest_weight: float
    largest_share: float  # of all weight
    mean_weight: float
    mean_weight_se: float  # by shopper
    support: float | None  # None where only the chances of what was shown are known
    rewards_vary: bool


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """`words` say every reason; nothing but `usable` may decide alone."""

    standing: Standing
    words: str


def check_weights(log: ExposureLog, chances: Chances, weights: Float64Array) -> WeightCheck:
    total = float(weights.sum())
    return WeightCheck(
        rows=len(log),
        units=len(np.unique(log.unit_rows)),
        requests=len(np.unique(log.request_rows)),
        unknown_share=log.unknown_share,
        effective_rows=_effective(weights),
        effective_rewarded=_effective(weights[log.rewards != 0]),
        largest_weight=float(weights.max()),
        largest_share=float(weights.max()) / total if total else 1.0,
        mean_weight=float(weights.mean()),
        mean_weight_se=_clustered_se(log, weights),
        support=_support(log, chances),
        rewards_vary=bool(np.ptp(log.rewards) > 0),
    )


def judge(found: WeightCheck) -> ReplayVerdict:
    refused = _refusals(found)
    if refused:
        return ReplayVerdict("refuse", f"Refused: {'; '.join(refused)}.")
    weak = _weaknesses(found)
    if weak:
        return ReplayVerdict("weak", f"Weak, to be confirmed by an experiment: {'; '.join(weak)}.")
    words = (
        f"Usable: {found.rows:,} exposures of {found.units:,} shoppers count as "
        f"{found.effective_rows:,.0f} of the target."
    )
    return ReplayVerdict("usable", words)


def _refusals(found: WeightCheck) -> list[str]:
    gap = abs(found.mean_weight - 1)
    limit = MAX_SURE_GAP if gap > 3 * found.mean_weight_se else MAX_WEIGHT_GAP
    rules = [
        (
            found.units < MIN_UNITS,
            f"{found.units} of at least {MIN_UNITS} shoppers, to tell how much shoppers differ",
        ),
        (not found.rewards_vary, "every exposure has the same reward"),
        (
            found.effective_rows < MIN_ROWS,
            f"the log is worth {found.effective_rows:.0f} exposures of the target, "
            f"at least {MIN_ROWS} are needed: the two policies differ too much",
        ),
        (
            found.largest_share > MAX_ROW_SHARE,
            f"one exposure has {found.largest_share:.0%} of all weight, at most "
            f"{MAX_ROW_SHARE:.0%} may be",
        ),
        (
            gap > limit,
            f"{_mean_weight(found)}: logged chances are wrong, or the log could not show what the "
            "target would: ask about days and items that both could show",
        ),
        (
            found.support is not None and found.support < MIN_SUPPORT,
            f"{found.support or 0:.0%} of the target's chances are on items that the log has "
            f"shown, at least {MIN_SUPPORT:.0%} must be",
        ),
        (
            found.unknown_share > MAX_UNKNOWN,
            f"{found.unknown_share:.0%} of the exposures have no propensity: ask about a placement "
            "that explores",
        ),
    ]
    return [words for holds, words in rules if holds]


def _weaknesses(found: WeightCheck) -> list[str]:
    share = found.effective_rows / found.rows
    rules = [
        (
            share < WEAK_ROWS_SHARE,
            f"the log is worth {share:.1%} of its exposures",
        ),
        (
            found.effective_rewarded < WEAK_REWARDED,
            f"{found.effective_rewarded:.0f} exposures with a reward decide",
        ),
        (
            abs(found.mean_weight - 1) > 3 * found.mean_weight_se + 1e-9,
            f"{_mean_weight(found)}: the log could not show all that the target would, or its "
            "chances are not quite right",
        ),
        (
            found.unknown_share > WEAK_UNKNOWN,
            f"{found.unknown_share:.0%} of the exposures have no propensity and are left out",
        ),
    ]
    return [words for holds, words in rules if holds]


def _mean_weight(found: WeightCheck) -> str:
    return (
        f"the mean weight is {found.mean_weight:.3f} ± {3 * found.mean_weight_se:.3f} and should "
        "be 1"
    )


def _effective(weights: Float64Array) -> float:
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _clustered_se(log: ExposureLog, weights: Float64Array) -> float:
    """Of the mean weight: a shopper's exposures are not independent."""
    apart = np.bincount(log.unit_rows, weights - weights.mean())
    n_units = len(np.unique(log.unit_rows))
    correction = n_units / max(n_units - 1, 1)
    return float(np.sqrt(correction * (apart @ apart))) / len(log)


def _support(log: ExposureLog, chances: Chances) -> float | None:
    target = chances.all_items
    if target is None:
        return None
    was_shown = np.bincount(log.item_rows, minlength=len(log.item_ids)) > 0
    return float((target.table @ was_shown)[target.cells].mean())
