"""One look at an experiment: health, every metric, how it went day by day, and the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import polars as pl
from pydantic import TypeAdapter

from features.errors import DataError
from features.events import US_PER_DAY
from recsys.evaluation.bootstrap import holm
from recsys.evaluation.experiment.allocation import shares
from recsys.evaluation.experiment.estimates import Estimate, compare
from recsys.evaluation.experiment.health import Check, checks
from recsys.evaluation.experiment.impact import Impact, covered_days, impacts
from recsys.evaluation.experiment.power import days_left, units_needed
from recsys.evaluation.experiment.samples import Sample
from recsys.evaluation.experiment.strata import combined, compare_strata
from recsys.evaluation.experiment.units import (
    Units,
    look_times,
    of_phase,
    problem_of,
    samples,
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
    units_needed: int | None  # to find the target lift of the first goal with the planned power
    days_left: int | None
    next_shares: tuple[float, ...] | None  # a bandit's, by what is known now
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Plain values, times in microseconds or ISO 8601; without the names of who tried it."""
        found: dict[str, Any] = TypeAdapter(Analysis).dump_python(
            self, mode="json", exclude={"experiment": {"design": {"overrides"}}}
        )
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

    `assignments` (ASSIGNMENT_SCHEMA) and `events` (as for `units_of`) may hold more than is needed;
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
    started_us = microseconds(phase.started_at)
    # what comes after the end was answered by the control, or belongs to another phase
    until_us = as_of_us if phase.ended_at is None else min(as_of_us, microseconds(phase.ended_at))
    mine = of_phase(assignments, experiment.name, phase.number, until_us)
    units = units_of(mine, events, phase.unit, edges_us).seen_before(until_us)
    design, plan = experiment.design, experiment.design.plan
    variants = [variant.key for variant in design.variants]
    first_us = units.table["first_us"].min()
    began_us = first_us if isinstance(first_us, int) else until_us
    days = max(0.0, (until_us - began_us) / US_PER_DAY)
    found = checks(
        units,
        variants,
        [phase.weights, *(allocation.weights for allocation in phase.allocations)],
        plan.goals,
        as_of_us=as_of_us,
        is_running=experiment.status == "running" and phase.ended_at is None,
        unknown_chances=unknown_chances,
    )
    rows = tuple(_rows(units, variants, plan))
    counts = units.counts(variants)
    needed = _units_needed(rows, plan, sum(counts))
    left = days_left(sum(counts), sum(counts) / days, needed) if needed and days > 0 else None
    return Analysis(
        experiment=experiment,
        phase=phase,
        as_of_us=as_of_us,
        days=days,
        units=dict(zip(variants, counts, strict=True)),
        n_multiple=units.n_multiple,
        n_overrides=units.n_overrides,
        n_held_out=units.n_held_out,
        traffic=_traffic(units.persons, started_us),
        checks=found,
        rows=rows,
        looks=tuple(_looks(units, variants, plan, started_us, until_us)),
        slices=tuple(_slices(units, variants, plan)),
        impact=tuple(impacts(rows, sum(counts) / covered_days(design, started_us, until_us)))
        if days >= 1  # of hours nobody can say what a day brings
        else (),
        units_needed=needed,
        days_left=left,
        next_shares=_next_shares(units, variants, plan) if design.kind == "bandit" else None,
        verdict=verdict(rows, found, plan, units=min(counts), days=days, days_left=left),
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
        problem = problem_of(units, metric, variants)
        strata = [samples(part, metric, variants) for part in parts]
        for number, variant in enumerate(variants[1:], start=1):
            sizes = [sum(len(of[side]) for of in strata) for side in (0, number)]
            estimate = (
                Estimate(n_control=sizes[0], n_variant=sizes[1], problem=problem)
                if problem
                else _estimate(strata, number, metric, plan)
            )
            yield Row(role=role, metric=metric, variant=variant, estimate=estimate)


def _periods(units: Units) -> list[Units]:
    """One, unless a bandit dealt anew: then each time between."""
    numbers = units.table["period"].unique().sort().to_list()
    return [units.where(pl.col("period") == n) for n in numbers] if len(numbers) > 1 else [units]


def _estimate(
    strata: Sequence[Sequence[Sample]], variant: int, metric: Metric, plan: Plan
) -> Estimate:
    """Of the variant of that number against the first."""
    if len(strata) > 1:
        return compare_strata(strata, variant, metric, plan)
    (of,) = strata
    return compare(
        of[0], of[variant], metric, alpha=plan.alpha, n_star=plan.n_star, power=plan.power
    )


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
    returning = pl.col("row").is_in(units.before["row"].unique().implode())
    parts = [("shoppers", "returning", returning), ("shoppers", "new", ~returning)]
    placements = units.table["placement"].unique().sort().to_list()
    if len(placements) > 1:
        parts += [("first placement", p, pl.col("placement") == p) for p in placements]
    for name, value, condition in parts:
        part = units.where(condition)
        if min(part.counts(variants)) >= MIN_SLICE:
            rows = _compared(part, variants, plan, plan.goals, "goal")
            yield Slice(name=name, value=value, rows=tuple(rows))


def _traffic(persons: Units, started_us: int) -> tuple[tuple[int, str, int], ...]:
    """By days since the start."""
    day = (pl.col("first_us") - started_us) // US_PER_DAY * US_PER_DAY + started_us
    counted = persons.table.group_by(day.alias("day"), "variant").len().sort("day", "variant")
    return tuple(counted.iter_rows())


def _units_needed(rows: Sequence[Row], plan: Plan, units: int) -> int | None:
    """Until the first goal can show the target lift with the planned power, of every variant."""
    of_first = [row.estimate for row in rows if row.metric == plan.goals[0]]
    n_asked = sum(row.role == "goal" for row in rows)  # Holm: each at this level at worst
    needed = [
        units_needed(
            plan.target_lift * abs(e.control_value),
            e.se,
            units,
            alpha=plan.alpha / n_asked,
            power=plan.power,
            n_star=plan.n_star,
        )
        for e in of_first
        if e.se and e.control_value
    ]
    known = [n for n in needed if n is not None]
    return max(known) if known and len(known) == len(of_first) else None


def _next_shares(units: Units, variants: Sequence[str], plan: Plan) -> tuple[float, ...]:
    """By the first goal; of periods in which a variant has too few units nothing is known."""
    goal = plan.goals[0]
    whole = combined([samples(part, goal, variants) for part in _periods(units)], goal)
    if isinstance(whole, str):
        return (1 / len(variants),) * len(variants)
    return shares(whole.arms, up=goal.direction == "up")


def _flat(row: Row) -> dict[str, object]:
    return {
        "role": row.role,
        "metric": row.metric.name,
        "variant": row.variant,
        **asdict(row.estimate),
        "p_holm": row.p_holm,
    }
