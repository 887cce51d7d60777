"""The Open Bandit Dataset (Saito et al. 2021): what one logged policy tells about the other.

Both policies ran side by side on the same shoppers, so the click rate of either log is the truth
that the other is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import DataError
from recsys.evaluation.bootstrap import Interval, bootstrap
from recsys.evaluation.offpolicy.calibration import Pair, calibrate, pair
from recsys.evaluation.offpolicy.log import ExposureLog, from_frame
from recsys.evaluation.offpolicy.policy import TargetPolicy, from_table, uniform
from recsys.evaluation.offpolicy.replay import Replay, ReplayConfig, Value, replay

CAMPAIGNS = ("men", "all")
DIRECTIONS = (("random", "bts"), ("bts", "random"))  # the log, and whom it is asked about
_COLUMNS = ("item_id", "position", "click", "propensity_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One log asked about the other policy; `truth` is that one's own click rate."""

    campaign: str
    log: str
    target: str
    truth: Interval
    replayed: Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditRow:
    """One estimator of one direction; `covers` the truth's mean, which is a mean of few clicks."""

    campaign: str
    log: str
    target: str
    estimator: str
    value: float | None
    low: float | None
    high: float | None
    covers: bool | None
    standard_errors: float | None  # value minus truth, in standard errors of both


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBanditReplays:
    """What one policy's log tells about the other, and how that compares."""

    rows: tuple[BanditRow, ...]
    directions: tuple[Direction, ...]
    calibration: str


def read_log(folder: Path, policy: str, campaign: str) -> ExposureLog:
    """Positions from 0; shoppers have no ids, so each row is one of its own."""
    path = folder / policy / campaign / f"{campaign}.csv.gz"
    if not path.is_file():
        raise DataError(f"found no {path}, expected the folder as published: name open-bandit")
    rows = pl.read_csv(path, columns=list(_COLUMNS))
    number = pl.int_range(pl.len())
    return from_frame(
        rows.select(
            number.alias("unit_id"),
            number.alias("request_id"),
            pl.col("position") - 1,
            "item_id",
            reward="click",
            propensity="propensity_score",
        )
    )


def mean_chances(log: ExposureLog) -> pl.DataFrame:
    """item_id, position and chance: the mean propensity logged there, made to sum to 1."""
    rows = pl.DataFrame(
        {
            "item_id": log.item_ids.gather(log.item_rows),
            "position": log.positions,
            "chance": log.propensities,
        }
    )
    means = rows.group_by("item_id", "position").agg(pl.col("chance").mean())
    total = pl.col("chance").sum().over("position")
    return means.with_columns(pl.col("chance") / total).sort("position", "item_id")


def replay_both(folder: Path, campaign: str, *, seed: int) -> list[Direction]:
    """Each policy's click rate, predicted from the other's log."""
    logs = {policy: read_log(folder, policy, campaign) for policy in ("random", "bts")}
    found = []
    for shown, target in DIRECTIONS:
        config = ReplayConfig(seed=seed)
        found.append(
            Direction(
                campaign=campaign,
                log=shown,
                target=target,
                truth=bootstrap(logs[target].rewards, seed=seed),
                replayed=replay(logs[shown], _target(target, logs, shown), config),
            )
        )
    return found


def _target(name: str, logs: dict[str, ExposureLog], shown: str) -> TargetPolicy:
    if name == "bts":
        return from_table(mean_chances(logs["bts"]), logs[shown])
    return uniform(logs[shown], len(logs["random"].item_ids))


def judge_directions(directions: Sequence[Direction]) -> OpenBanditReplays:
    """Each estimator beside the truth, and all directions as if they had been experiments."""
    rows = [
        BanditRow(
            campaign=one.campaign,
            log=one.log,
            target=one.target,
            estimator=value.name,
            value=value.value,
            low=value.low,
            high=value.high,
            covers=_covers(value, one.truth.mean),
            standard_errors=_apart(value, one.truth),
        )
        for one in directions
        for value in one.replayed.values
    ]
    pairs = [_pair(one) for one in directions if one.replayed.verdict.standing != "refuse"]
    return OpenBanditReplays(
        rows=tuple(rows), directions=tuple(directions), calibration=calibrate(pairs).words
    )


def _covers(value: Value, truth: float) -> bool | None:
    if value.low is None or value.high is None:
        return None
    return value.low <= truth <= value.high


def _apart(value: Value, truth: Interval) -> float | None:
    """The truth is a mean of few clicks itself, so both intervals count."""
    if value.value is None or value.low is None or value.high is None:
        return None
    se = float(np.hypot(value.high - value.low, truth.high - truth.low)) / (2 * 1.96)
    return (value.value - truth.mean) / se


def _pair(one: Direction) -> Pair:
    """Lifts over what was logged; the noise of that is in both and so left out of the measured."""
    best, logged = one.replayed[one.replayed.best], one.replayed.logged.value
    if best.value is None or best.low is None or best.high is None or not logged:
        raise DataError(f"found no value of {one.target}, expected clicks in the log")
    return pair(
        f"{one.campaign}: {one.log} → {one.target}",
        _lift(Interval(best.value, best.low, best.high), logged),
        _lift(one.truth, logged),
    )


def _lift(of: Interval, over: float) -> Interval:
    return Interval(of.mean / over - 1, of.low / over - 1, of.high / over - 1)
