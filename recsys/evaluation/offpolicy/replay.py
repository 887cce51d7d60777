"""What another policy would have earned, from a log of what this one showed.

Each exposure is weighted by the target's chance of that item at that position over the logged one
(item-position model, Li et al. 2018): a reward may depend on what is shown where, not on what else
the slate shows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from features.arrays import Float64Array
from features.errors import ConfigError
from recsys.evaluation.offpolicy.intervals import bca_interval, resampled_sums
from recsys.evaluation.offpolicy.log import ExposureLog
from recsys.evaluation.offpolicy.policy import Chances, TargetPolicy
from recsys.evaluation.offpolicy.rewards import cross_fitted
from recsys.evaluation.offpolicy.weights import ReplayVerdict, WeightCheck, check_weights, judge

Per = Literal["exposure", "slate"]
Name = Literal["ips", "snips", "clipped", "dm", "dr", "switch"]
ESTIMATORS: tuple[Name, ...] = ("ips", "snips", "clipped", "dm", "dr", "switch")
_MODELLED = ("dm", "dr", "switch")
_MAX_GROUPS = 10_000  # resampled at once; more shoppers are dealt into so many groups


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """How rewards are modelled, weights tamed and intervals drawn."""

    per: Per = "exposure"
    clip: float | None = None  # √n where None (Ionides 2008)
    switch: float = 10.0  # a greater weight leaves the reward to the model
    folds: int = 5
    strength: float = 30.0  # exposures that an expectation is worth against an item's own
    resamples: int = 2_000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        positive = (self.clip is None or self.clip > 0) and self.switch > 0 and self.strength > 0
        if not (positive and self.folds > 1 and self.resamples >= 100 and 0 < self.level < 1):
            raise ConfigError(
                f"found {self}, expected positive clip, switch and strength, at least 2 folds and "
                "100 resamples, a level between 0 and 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A mean reward and its lift over the logged one; None with a `problem` in words."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    lift: float | None = None
    lift_low: float | None = None
    lift_high: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """`best` is what to read: DR, or SNIPS where only the chances of what was shown are known."""

    per: Per
    logged: Value
    values: tuple[Value, ...]  # in the order of ESTIMATORS
    best: Name
    weights: WeightCheck
    verdict: ReplayVerdict

    def __getitem__(self, name: Name) -> Value:
        return self.values[ESTIMATORS.index(name)]

    def frame(self) -> pd.DataFrame:
        """One row an estimator, what was logged first."""
        return pd.DataFrame([asdict(value) for value in (self.logged, *self.values)])


def replay(log: ExposureLog, policy: TargetPolicy, config: ReplayConfig | None = None) -> Replay:
    """What the target is worth by each estimator, with intervals over resampled shoppers.

    SNIPS is Swaminathan & Joachims (2015), DM and DR Dudík et al. (2011), switch the switch-DR of
    Wang et al. (2017).
    """
    config = config or ReplayConfig()
    chances = policy.chances(log)
    weights = chances.shown / log.propensities
    found = check_weights(log, chances, weights)
    columns = row_terms(log, chances, weights, config)
    totals = _unit_totals(log, columns, config)
    drawn = resampled_sums(totals, resamples=config.resamples, seed=config.seed)
    whole = totals.sum(axis=0, keepdims=True)
    told = _Told(
        _estimates(whole, config.per),
        _estimates(drawn, config.per),
        _estimates(whole - totals, config.per),
        config.level,
    )
    values = {name: _value(name, told) for name in ("logged", *ESTIMATORS)}
    return Replay(
        per=config.per,
        logged=values["logged"],
        values=tuple(values[name] for name in ESTIMATORS),
        best="dr" if chances.all_items is not None else "snips",
        weights=found,
        verdict=judge(found),
    )


def row_terms(
    log: ExposureLog, chances: Chances, weights: Float64Array, config: ReplayConfig
) -> dict[str, Float64Array]:
    """(n,) each: what a row adds to the sum behind each estimator; NaN where there is no model."""
    clip = config.clip if config.clip is not None else float(np.sqrt(len(log)))
    rewards = log.rewards
    terms = {
        "logged": rewards,
        "weight": weights,
        "ips": weights * rewards,
        "clipped": np.minimum(weights, clip) * rewards,
    }
    if chances.all_items is None:
        return terms | dict.fromkeys(_MODELLED, np.full(len(log), np.nan))
    shown, expected = cross_fitted(
        log, chances.all_items, folds=config.folds, strength=config.strength, seed=config.seed
    )
    correction = weights * (rewards - shown)
    kept = weights <= config.switch
    return terms | {
        "dm": expected,
        "dr": expected + correction,
        "switch": expected + correction * kept,
    }


_TOTALS = ("rows", "slates", "logged", "weight", "ips", "clipped", "dm", "dr", "switch")


def _unit_totals(
    log: ExposureLog, columns: Mapping[str, Float64Array], config: ReplayConfig
) -> Float64Array:
    """(groups, len(_TOTALS)) sums by shopper, or by group of shoppers where there are many."""
    _, first = np.unique(log.request_rows, return_index=True)
    is_first = np.zeros(len(log))
    is_first[first] = 1.0
    _, group = np.unique(log.unit_rows, return_inverse=True)
    n = int(group.max()) + 1
    if n > _MAX_GROUPS:
        dealt = np.random.default_rng([config.seed, 2]).permutation(n) % _MAX_GROUPS
        group, n = dealt[group], _MAX_GROUPS
    full = {"rows": np.ones(len(log)), "slates": is_first, **columns}
    return np.stack([np.bincount(group, full[name], minlength=n) for name in _TOTALS], axis=1)


def _estimates(sums: Float64Array, per: Per) -> dict[str, Float64Array]:
    """(m,) each, from m rows of totals; NaN where there is nothing to divide by."""
    of = dict(zip(_TOTALS, sums.T, strict=True))
    below = of["rows"] if per == "exposure" else of["slates"]
    plain = ("logged", "ips", "clipped", *_MODELLED)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: dict[str, Float64Array] = {name: of[name] / below for name in plain}
        found["snips"] = of["ips"] / of["weight"] * (of["rows"] / below)
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    """By estimator: its value (1,), those of resampled shoppers, those without one group each."""

    observed: Mapping[str, Float64Array]
    drawn: Mapping[str, Float64Array]
    left_out: Mapping[str, Float64Array]
    level: float

    @property
    def has_lift(self) -> bool:
        """Not where without some shoppers there is nothing to be better than."""
        found = (self.observed, self.drawn, self.left_out)
        return all((of["logged"] != 0).all() for of in found)

    def interval(self, name: str) -> tuple[float, float]:
        value = float(self.observed[name][0])
        return bca_interval(value, self.drawn[name], self.left_out[name], level=self.level)

    def lift(self, name: str) -> tuple[float, float, float]:
        """Value, low and high; logged rewards are resampled together with it."""
        value, drawn, left_out = (
            of[name] / of["logged"] - 1 for of in (self.observed, self.drawn, self.left_out)
        )
        found = float(value[0])
        return found, *bca_interval(found, drawn, left_out, level=self.level)


def _value(name: str, told: _Told) -> Value:
    value = float(told.observed[name][0])
    if name != "logged" and not np.isfinite(told.observed["snips"][0]):
        return Value(name=name, problem="the target would have shown nothing that the log shows")
    if not np.isfinite(value):
        problem = "only the chances of what was shown are known, not those of every item"
        return Value(name=name, problem=problem)
    if name == "dm":
        return Value(
            name=name, value=value, problem="no interval: the model's own error is unknown"
        )
    low, high = told.interval(name)
    if name == "logged" or not told.has_lift:
        return Value(name=name, value=value, low=low, high=high)
    lift, lift_low, lift_high = told.lift(name)
    return Value(
        name=name,
        value=value,
        low=low,
        high=high,
        lift=lift,
        lift_low=lift_low,
        lift_high=lift_high,
    )
