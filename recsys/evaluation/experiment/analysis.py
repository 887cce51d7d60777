"""One look at an experiment: health, every metric, how it went day by day, and the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from pydantic import TypeAdapter

from features.errors import DataError
from features.events import US_PER_DAY
from recsys.evaluation.bootstrap import holm
from recsys.evaluation.experiment.allocation import shares
from recsys.evaluation.experiment.estimates import Estimate, arms_of, compare, too_few
from recsys.evaluation.experiment.health import Check, checks
from recsys.evaluation.experiment.impact import Impact, covered_days, impacts
from recsys.evaluation.experiment.power import days_left, units_needed
from recsys.evaluation.experiment.strata import Pair, combined, compare_strata
from recsys.evaluation.experiment.units import (
    Units,
    look_times,
    of_phase,
    problem_of,
    sample,
    units_of,
)
from recsys.evaluation.experiment.verdict import Row, Verdict, verdict
from recsys.experiments.experiment import Experiment, Metric, Phase, Plan, microseconds

MIN_SLICE = 100  # units of an arm below which a slice says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was known at the end of one day."""

    day_us: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The goals for a part of the units; many are looked at, so one of them proves nothing."""

    name: str
    value: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """An immutable snapshot; everything a report shows."""

    experiment: Experiment
    phase: Phase
    as_of_us: int
    days: float
    units: Mapping[str, int]
    n_multiple: int
    n_overrides: int
    n_held_out: int
    traffic: tuple[tuple[int, str, int], ...]  # day_us, variant, new units
    checks: tuple[Check, ...]
    rows: tuple[Row, ...]
    looks: tuple[Look, ...]
    slices: tuple[Slice, ...]
    impact: tuple[Impact, ...]
    days_left: int | None
    next_shares: tuple[float, ...] | None  # a bandit's, by what is known now
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Plain values, times in microseconds or ISO 8601."""
        found: dict[str, Any] = TypeAdapter(Analysis).dump_python(self, mode="json")
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        """`metrics` and `looks`, one row a metric and variant (and day)."""
        return {
            "metrics": pd.DataFrame([_flat(row) for row in self.rows]),
            "looks": pd.DataFrame(
                [
                    {"day": pd.Timestamp(look.day_us, unit="us", tz="UTC"), **_flat(row)}
                    for look in self.looks
                    for row in look.rows
                ]
            ),
        }


def analyse(
    experiment: Experiment,
    assignments: pl.DataFrame,
    events: pl.DataFrame,
    *,
    as_of_us: int,
    phase: Phase | None = None,
    unknown_chances: float | None = None,
) -> Analysis:
    """The newest phase, or the one given, as it was known at `as_of_us`.

    `assignments` (ASSIGNMENT_SCHEMA) and `events` (EVENT_SCHEMA) may hold more than is needed;
    events reach back as far as the longest `cuped_days`. `unknown_chances` is the share of the
    items shown whose propensity is null. DataError for what never ran.
    """
    phase = phase or experiment.phase
    if phase is None:
        raise DataError(f"the experiment {experiment.name!r} never ran: start it first")
    if experiment.design.kind == "interleave":
        raise DataError(
            f"{experiment.name!r} is interleaved: its slates are compared, not its units"
        )
    edges_us = [microseconds(allocation.at) for allocation in phase.allocations]
    mine = of_phase(assignments, experiment.name, phase.number, as_of_us)
    units = units_of(mine, events, phase.unit, edges_us)
    units = units.seen_before(as_of_us)
    design, plan = experiment.design, experiment.design.plan
    variants = [variant.key for variant in design.variants]
    started_us = microseconds(phase.started_at)
    until_us = as_of_us if phase.ended_at is None else min(as_of_us, microseconds(phase.ended_at))
    days = max(0.0, (until_us - started_us) / US_PER_DAY)
    found = checks(
        units,
        variants,
        None if design.kind == "bandit" else phase.weights,
        plan.goals,
        as_of_us=as_of_us,
        is_running=experiment.status == "running" and phase.ended_at is None,
        unknown_chances=unknown_chances,
    )
    rows = tuple(_rows(units, variants, plan))
    left = _days_left(units, variants, plan, days)
    return Analysis(
        experiment=experiment,
        phase=phase,
        as_of_us=as_of_us,
        days=days,
        units=dict(zip(variants, units.counts(variants), strict=True)),
        n_multiple=units.n_multiple,
        n_overrides=units.n_overrides,
        n_held_out=units.n_held_out,
        traffic=_traffic(units),
        checks=found,
        rows=rows,
        looks=tuple(_looks(units, variants, plan, started_us, until_us)),
        slices=tuple(_slices(units, variants, plan)),
        impact=tuple(impacts(rows, len(units.table) / covered_days(design, started_us, until_us))),
        days_left=left,
        next_shares=_next_shares(units, variants, plan) if design.kind == "bandit" else None,
        verdict=verdict(rows, found, plan, days=days, days_left=left),
    )


def _rows(units: Units, variants: Sequence[str], plan: Plan) -> Iterator[Row]:
    goals = list(_compared(units, variants, plan, plan.goals, "goal"))
    yield from _adjusted(goals)
    yield from _compared(units, variants, plan, plan.guardrails, "guardrail")
    yield from _compared(units, variants, plan, plan.secondary, "secondary")


def _compared(
    units: Units,
    variants: Sequence[str],
    plan: Plan,
    metrics: Sequence[Metric],
    role: Any,  # noqa: ANN401  a literal, checked by Row
) -> Iterator[Row]:
    parts = _periods(units)
    for metric in metrics:
        problem = problem_of(units, metric)
        for variant in variants[1:]:
            pairs = [
                (sample(part, metric, variants[0]), sample(part, metric, variant)) for part in parts
            ]
            yield Row(
                role=role,
                metric=metric,
                variant=variant,
                estimate=_estimate(pairs, metric, plan, problem),
            )


def _periods(units: Units) -> list[Units]:
    """One, unless a bandit dealt anew: then each time between."""
    numbers = units.table["period"].unique().sort().to_list()
    return [units.where(pl.col("period") == n) for n in numbers] if len(numbers) > 1 else [units]


def _estimate(
    pairs: Sequence[Pair], metric: Metric, plan: Plan, problem: str | None = None
) -> Estimate:
    if problem:
        n_control, n_variant = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
        return Estimate(n_control=n_control, n_variant=n_variant, problem=problem)
    if len(pairs) > 1:
        return compare_strata(pairs, metric, plan)
    return compare(*pairs[0], metric, alpha=plan.alpha, n_star=plan.n_star, power=plan.power)


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    """Holm over goals and variants, of the always-valid p-values."""
    known = [n for n, row in enumerate(rows) if row.estimate.p_anytime is not None]
    p_values = holm([rows[n].estimate.p_anytime or 0.0 for n in known])
    adjusted = dict(zip(known, p_values.tolist(), strict=True))
    return [replace(row, p_holm=adjusted.get(n)) for n, row in enumerate(rows)]


def _looks(
    units: Units, variants: Sequence[str], plan: Plan, started_us: int, until_us: int
) -> Iterator[Look]:
    """The goals at the ends of days."""
    for day_us in look_times(started_us, until_us):
        known = units.seen_before(day_us)
        if min(known.counts(variants)) > 1:
            rows = _compared(known, variants, plan, plan.goals, "goal")
            yield Look(day_us=day_us, rows=tuple(rows))


def _slices(units: Units, variants: Sequence[str], plan: Plan) -> Iterator[Slice]:
    old = units.events.join(units.table.select("unit", "first_us"), on="unit")
    old = old.filter(pl.col("event_time_us") < pl.col("first_us"))
    returning = pl.col("unit").is_in(old["unit"].unique().implode())
    parts = [("shoppers", "returning", returning), ("shoppers", "new", ~returning)]
    placements = units.table["placement"].unique().sort().to_list()
    if len(placements) > 1:
        parts += [("first placement", p, pl.col("placement") == p) for p in placements]
    for name, value, condition in parts:
        part = units.where(condition)
        if min(part.counts(variants)) >= MIN_SLICE:
            rows = _compared(part, variants, plan, plan.goals, "goal")
            yield Slice(name=name, value=value, rows=tuple(rows))


def _traffic(units: Units) -> tuple[tuple[int, str, int], ...]:
    day = (pl.col("first_us") // US_PER_DAY * US_PER_DAY).alias("day")
    counted = units.table.group_by(day, "variant").len().sort("day", "variant")
    return tuple(counted.iter_rows())


def _days_left(units: Units, variants: Sequence[str], plan: Plan, days: float) -> int | None:
    """Until the first goal can show the target lift with the planned power."""
    goal = plan.goals[0]
    arms = len(variants)
    n = sum(units.counts(variants))
    if goal.kind == "quantile" or days <= 0 or min(units.counts(variants)) < 2:
        return None
    control, other = (sample(units, goal, variant) for variant in variants[:2])
    known = _estimate([(control, other)], goal, plan)
    if known.se is None or not known.control_value:
        return None
    sd = known.se / np.sqrt(1 / len(control) + 1 / len(other))
    needed = units_needed(
        mean=abs(known.control_value),
        sd=float(sd),
        lift=plan.target_lift,
        alpha=plan.alpha,
        power=plan.power,
    )
    return days_left(n, n / days, needed * arms // 2)


def _next_shares(units: Units, variants: Sequence[str], plan: Plan) -> tuple[float, ...]:
    """By the first goal; of periods in which a variant has too few units nothing is known."""
    goal, parts = plan.goals[0], _periods(units)
    known = []
    for part in parts:
        samples = [sample(part, goal, variant) for variant in variants]
        if all(too_few(one, one, goal) is None for one in samples):
            known.append(([arms_of(one, one, goal)[0][0] for one in samples], len(part.table)))
    if not known:
        return (1 / len(variants),) * len(variants)
    sizes = [size for _, size in known]
    found = [combined([arms[n] for arms, _ in known], sizes) for n in range(len(variants))]
    return shares(
        [arm.value for arm in found],
        [float(np.sqrt(arm.variance)) for arm in found],
        [arm.n for arm in found],
        up=goal.direction == "up",
    )


def _flat(row: Row) -> dict[str, object]:
    return {
        "role": row.role,
        "metric": row.metric.name,
        "variant": row.variant,
        **asdict(row.estimate),
        "p_holm": row.p_holm,
    }
