"""An interleaved experiment: which ranking shoppers take from when one slate shows both.

What is taken counts for the ranking it was drafted from, and for neither where both had it at the
same position. A screening, no verdict: everybody sees both rankings, so it says which one is
preferred, and never how much more it would sell.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
from pydantic import TypeAdapter

from features.arrays import Float64Array
from features.errors import DataError
from features.events import US_PER_DAY
from recsys.evaluation.bootstrap import holm
from recsys.evaluation.experiment import srm
from recsys.evaluation.experiment.health import Check, silence
from recsys.evaluation.experiment.preferences import Preference, preference, words_of
from recsys.evaluation.experiment.units import look_times, of_phase, unit_of
from recsys.evaluation.experiment.verdict import Verdict, too_early
from recsys.experiments.experiment import MIXED, Experiment, Metric, Phase, Plan, microseconds
from recsys.experiments.interleaving import TEAMS

MIN_UNITS = 50  # that took something, before a preference is said


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceRow:
    """One metric; its always-valid p-value among all goals beside it."""

    role: Literal["goal", "secondary"]
    metric: Metric
    preference: Preference
    p_holm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceLook:
    """What was known of the first goal at the end of one day."""

    day_us: int
    preference: Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleaved:
    """An immutable snapshot; everything a report shows."""

    experiment: Experiment
    phase: Phase
    as_of_us: int
    days: float
    units: int
    slates: int
    competitive: float  # share of the positions that one ranking filled alone
    first_places: tuple[int, int]  # slates whose first such position was each ranking's
    mean_positions: tuple[float | None, float | None]  # of each ranking's items, from 0
    checks: tuple[Check, ...]
    rows: tuple[PreferenceRow, ...]
    looks: tuple[PreferenceLook, ...]
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Plain values, times in microseconds or ISO 8601."""
        found: dict[str, Any] = TypeAdapter(Interleaved).dump_python(
            self, mode="json", exclude={"experiment": {"design": {"overrides"}}}
        )
        return found

    def table(self) -> pd.DataFrame:
        """One row a metric."""
        return pd.DataFrame(
            [
                {"role": row.role, "metric": row.metric.name, **asdict(row.preference)}
                for row in self.rows
            ]
        )


def analyse_interleaved(
    experiment: Experiment,
    assignments: pl.DataFrame,
    exposures: pl.DataFrame,
    events: pl.DataFrame,
    *,
    as_of_us: int,
) -> Interleaved:
    """The newest phase as it was known then; only events that name a slate can be credited.

    `assignments` (ASSIGNMENT_SCHEMA), `exposures` (of EXPOSURE_SCHEMA request_id, position and
    item_id) and `events` (EVENT_SCHEMA) may hold more than is needed. DataError for what never
    ran or is not interleaved.
    """
    phase = experiment.phase
    if phase is None:
        raise DataError(f"the experiment {experiment.name!r} never ran: start it first")
    if experiment.design.kind != "interleave":
        raise DataError(f"{experiment.name!r} is not interleaved: its units are compared")
    plan = experiment.design.plan
    until_us = as_of_us if phase.ended_at is None else min(as_of_us, microseconds(phase.ended_at))
    slates = _slates(of_phase(assignments, experiment.name, phase.number, until_us), phase)
    places = _places(slates, exposures)
    taken = _taken(places, events.filter(pl.col("event_time_us") < until_us))
    started_us, first_us = microseconds(phase.started_at), slates["shown_at_us"].min()
    days = (until_us - first_us) / US_PER_DAY if isinstance(first_us, int) else 0.0
    firsts = _first_places(places)
    is_running = experiment.status == "running" and phase.ended_at is None
    found = _checks(slates, firsts, as_of_us if is_running else None)
    rows = (*_goals(taken, plan), *_rows(taken, plan.secondary, "secondary", plan))
    return Interleaved(
        experiment=experiment,
        phase=phase,
        as_of_us=as_of_us,
        days=days,
        units=slates["unit"].n_unique(),
        slates=len(slates),
        competitive=_competitive(slates),
        first_places=firsts,
        mean_positions=_mean_positions(places),
        checks=found,
        rows=rows,
        looks=tuple(_looks(taken, plan, started_us, until_us)),
        verdict=_verdict(experiment, rows, found, days),
    )


def _slates(assignments: pl.DataFrame, phase: Phase) -> pl.DataFrame:
    """Those that were drafted: unit, request_id, shown_at_us, teams, first_us of the unit."""
    drafted = (pl.col("how") == "hash") & (pl.col("variant") == MIXED)
    return (
        assignments.with_columns(unit=unit_of(phase.unit))
        .filter(drafted)
        .drop_nulls(["unit", "teams"])
        .unique("request_id", keep="first", maintain_order=True)
        .select("unit", "request_id", "shown_at_us", "teams")
        .with_columns(first_us=pl.col("shown_at_us").min().over("unit"))
    )


def _places(slates: pl.DataFrame, exposures: pl.DataFrame) -> pl.DataFrame:
    """Items of one ranking alone: request_id, unit, first_us, item_id, place, side (-1 or 1).

    A second page counts its positions on; its teams are counted from 0.
    """
    shown = exposures.select("request_id", "position", "item_id").join(slates, on="request_id")
    place = (pl.col("position") - pl.col("position").min().over("request_id")).alias("place")
    team = pl.col("teams").str.slice(pl.col("place"), 1)
    sides = {TEAMS[0]: -1, TEAMS[1]: 1}
    return (
        shown.with_columns(place)
        .filter(team.is_in(TEAMS))
        .with_columns(side=team.replace_strict(sides, return_dtype=pl.Int64))
        .select("request_id", "unit", "first_us", "item_id", "place", "side")
    )


def _taken(places: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Events on such items, with the unit and side; one item of one slate may be many rows."""
    named = events.drop_nulls("request_id").select(
        "request_id", "item_id", "event_type", "event_time_us", "value"
    )
    return named.join(places, on=["request_id", "item_id"])


def _wins(taken: pl.DataFrame, metric: Metric) -> Float64Array:
    """(n,) of the units that took something; an item that is clicked twice is taken once."""
    own = taken.filter(pl.col("event_type") == metric.event_type)
    if metric.window_days is not None:
        ago_us = pl.col("event_time_us") - pl.col("first_us")
        own = own.filter(ago_us < int(metric.window_days * US_PER_DAY))
    if metric.of == "value":
        own, number = own.drop_nulls("value"), pl.col("value")
    else:
        own, number = own.unique(["request_id", "item_id"]), pl.lit(1.0)
    sums = own.group_by("unit").agg((number * pl.col("side")).sum().alias("margin"))
    sign = 1.0 if metric.direction == "up" else -1.0
    return np.asarray(sign * np.sign(sums["margin"].to_numpy()), np.float64)


def _rows(
    taken: pl.DataFrame,
    metrics: Sequence[Metric],
    role: Literal["goal", "secondary"],
    plan: Plan,
) -> Iterator[PreferenceRow]:
    for metric in metrics:
        found = preference(_wins(taken, metric), alpha=plan.alpha, n_star=plan.n_star)
        yield PreferenceRow(role=role, metric=metric, preference=found)


def _goals(taken: pl.DataFrame, plan: Plan) -> list[PreferenceRow]:
    """With Holm over the always-valid p-values."""
    rows = list(_rows(taken, plan.goals, "goal", plan))
    p_values = [row.preference.p_anytime for row in rows]
    adjusted = iter(holm([p for p in p_values if p is not None]).tolist())
    return [
        row if p is None else replace(row, p_holm=next(adjusted))
        for row, p in zip(rows, p_values, strict=True)
    ]


def _looks(
    taken: pl.DataFrame, plan: Plan, started_us: int, until_us: int
) -> Iterator[PreferenceLook]:
    for day_us in look_times(started_us, until_us):
        known = taken.filter(pl.col("event_time_us") < day_us)
        wins = _wins(known, plan.goals[0])
        found = preference(wins, alpha=plan.alpha, n_star=plan.n_star)
        if found.problem is None:
            yield PreferenceLook(day_us=day_us, preference=found)


def _competitive(slates: pl.DataFrame) -> float:
    teams = "".join(slates["teams"])
    return sum(map(teams.count, TEAMS)) / len(teams) if teams else 0.0


def _first_places(places: pl.DataFrame) -> tuple[int, int]:
    """A coin decides it, so that both are equally often first."""
    firsts = places.sort("place").group_by("request_id").agg(pl.col("side").first())["side"]
    return int((firsts < 0).sum()), int((firsts > 0).sum())


def _mean_positions(places: pl.DataFrame) -> tuple[float | None, float | None]:
    known: Mapping[int, float] = dict(
        places.group_by("side").agg(pl.col("place").mean()).iter_rows()
    )
    return known.get(-1), known.get(1)


def _checks(slates: pl.DataFrame, firsts: tuple[int, int], now_us: int | None) -> tuple[Check, ...]:
    """Traffic, rankings that differ, a fair coin, and, while it runs, whether slates arrive."""
    if slates.is_empty():
        return (Check("traffic", is_alarm=True, words="No slate has been interleaved yet."),)
    if not sum(firsts):
        words = "Both rankings show the same at every position: nothing can be preferred."
        return (Check("rankings", is_alarm=True, words=words),)
    counts, fair = np.array(firsts, np.int64), np.array([0.5, 0.5])
    p = min(srm.chi_square_p(counts, fair), srm.sequential_p(counts, fair))
    told = f"The first ranking began {firsts[0]:,} slates and the second {firsts[1]:,}"
    more = ": a fair coin does not do that; find what changes the drafts before reading on"
    found = [Check("coin", p < srm.ALARM, told + (more if p < srm.ALARM else "") + ".")]
    if now_us is not None:
        found.append(silence(slates["shown_at_us"], now_us))
    return tuple(found)


def _verdict(
    experiment: Experiment, rows: Sequence[PreferenceRow], checks: Sequence[Check], days: float
) -> Verdict:
    """Never to ship: a preference in a mixed slate is a reason to test it against the control."""
    alarms = [check.words for check in checks if check.is_alarm]
    if alarms:
        return Verdict("unhealthy", f"No verdict: {' '.join(alarms)}")
    plan, variants = experiment.design.plan, experiment.design.variants
    early = too_early(plan, days)
    if early is not None:
        return early
    goals = [row for row in rows if row.role == "goal"]
    most = max(row.preference.n for row in goals)
    if most < MIN_UNITS:
        words = f"Not enough data: {most} units took something, at least {MIN_UNITS} must."
        return Verdict("collecting", words)
    sure = [row for row in goals if row.p_holm is not None and row.p_holm < plan.alpha]
    sides = {(row.preference.d or 0.0) > 0 for row in sure}
    if len(sides) == 1:
        best = min(sure, key=lambda row: row.p_holm or 0.0)
        key = variants[int((best.preference.d or 0.0) > 0)].key
        words = f"Screening: {key} is preferred by {best.metric.name}, {words_of(best.preference)}."
        return Verdict("preferred", f"{words} Test it in an A/B experiment before it ships.", key)
    words = "The goals prefer different rankings" if sides else "No preference is sure yet"
    return Verdict("collecting", f"{words}: {words_of(goals[0].preference)}.")
