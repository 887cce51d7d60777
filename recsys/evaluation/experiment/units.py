"""From slates and events to one number a unit: who is counted, from when on, and for what.

A unit counts from the first slate it was dealt; what it did before explains it, never judges it.
Overrides and held-out units are left out, and so is who was seen in two variants.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import Float64Array
from features.events import US_PER_DAY
from recsys.evaluation.experiment.samples import EventValues, Sample
from recsys.experiments.experiment import Metric, Unit

MAX_LOOKS = 30  # points of the curves over time
_OF_SLATES = {"slates": pl.lit(1, pl.Float64), "exposures": pl.col("n_items").cast(pl.Float64)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Who takes part; `table` has one row a unit.

    Its columns: unit, variant, first_us, placement, period, row.
    """

    table: pl.DataFrame
    slates: pl.DataFrame  # theirs: unit, request_id, shown_at_us, n_items
    events: pl.DataFrame  # theirs, of any time: unit, event_type, event_time_us, request_id, value
    n_multiple: int  # units seen in several variants
    n_overrides: int
    n_held_out: int

    def counts(self, variants: Sequence[str]) -> list[int]:
        found = dict(self.table.group_by("variant").len().iter_rows())
        return [found.get(variant, 0) for variant in variants]

    def seen_before(self, as_of_us: int) -> "Units":
        """What was known then."""
        table = self.table.filter(pl.col("first_us") < as_of_us)
        return self._of(table, pl.col("shown_at_us") < as_of_us, pl.col("event_time_us") < as_of_us)

    def where(self, condition: pl.Expr) -> "Units":
        """A slice of the units, by columns of their table."""
        return self._of(self.table.filter(condition), pl.lit(True), pl.lit(True))  # noqa: FBT003

    def _of(self, table: pl.DataFrame, of_slates: pl.Expr, of_events: pl.Expr) -> "Units":
        return Units(
            table=table.drop("row").with_row_index("row"),
            slates=self.slates.filter(of_slates),
            events=self.events.filter(of_events),
            n_multiple=self.n_multiple,
            n_overrides=self.n_overrides,
            n_held_out=self.n_held_out,
        )


def of_phase(assignments: pl.DataFrame, name: str, phase: int, as_of_us: int) -> pl.DataFrame:
    """What was dealt in that phase of that experiment before then."""
    return assignments.filter(
        (pl.col("experiment") == name)
        & (pl.col("phase") == phase)
        & (pl.col("shown_at_us") < as_of_us)
    )


def look_times(started_us: int, until_us: int) -> Iterator[int]:
    """The ends of days, at most MAX_LOOKS of them."""
    n_days = -(-(until_us - started_us) // US_PER_DAY)
    if n_days > 0:
        days = np.unique(np.linspace(1, n_days, min(n_days, MAX_LOOKS)).astype(np.int64))
        yield from (min(started_us + day * US_PER_DAY, until_us) for day in days.tolist())


def units_of(
    assignments: pl.DataFrame, events: pl.DataFrame, unit: Unit, edges_us: Sequence[int] = ()
) -> Units:
    """`assignments` (ASSIGNMENT_SCHEMA) of one phase, `events` (EVENT_SCHEMA) of any shopper.

    Whoever logs in is one unit with what they did before, also where that was dealt apart. At
    `edges_us` a bandit dealt anew: whoever comes in two periods is a unit in each of them.
    """
    whole = assignments.with_columns(unit=unit_of(unit))
    dealt = _split(whole, "shown_at_us", edges_us)
    hashed = dealt.filter(pl.col("how") == "hash").drop_nulls("unit")
    tested = dealt.filter(pl.col("how") == "override")["unit"].unique()
    by_unit = (
        hashed.filter(~pl.col("unit").is_in(tested.implode()))
        .sort("shown_at_us", "request_id")
        .group_by("unit", maintain_order=True)
        .agg(
            pl.col("variant").first(),
            pl.col("variant").n_unique().alias("n_variants"),
            pl.col("shown_at_us").first().alias("first_us"),
            pl.col("placement").first(),
            pl.col("period").first(),
        )
    )
    table = by_unit.filter(pl.col("n_variants") == 1).drop("n_variants").with_row_index("row")
    mine = table.select("unit")
    return Units(
        table=table,
        slates=hashed.join(mine, on="unit", how="semi").select(
            "unit", "request_id", "shown_at_us", "n_items"
        ),
        events=_split(events.with_columns(unit=unit_of(unit)), "event_time_us", edges_us)
        .join(mine, on="unit", how="semi")
        .select("unit", "event_type", "event_time_us", "request_id", "value"),
        n_multiple=len(by_unit) - len(table),
        n_overrides=len(tested),
        n_held_out=whole.filter(pl.col("how") == "holdout")["unit"].n_unique(),
    )


def sample(units: Units, metric: Metric, variant: str) -> Sample:
    """The metric of one variant's units, in the order of their first slates."""
    mine = units.table.filter(pl.col("variant") == variant).drop("row").with_row_index("row")
    after = _after(metric)
    events = _kind_of(units.events, metric, metric.event_type)
    if metric.attributed:
        own = units.slates.select("request_id")
        counted = events.join(own, on="request_id", how="semi")
    else:
        counted = events
    totals = _sums(mine, counted, after, "event_time_us", _number(metric))
    has_before = metric.cuped_days > 0 and metric.kind != "quantile"
    before = _before(metric)
    slates = metric.per in _OF_SLATES
    denominators = before_denominators = None
    if metric.kind == "ratio" and metric.per is not None:
        if slates:
            denominators = _sums(mine, units.slates, after, "shown_at_us", _OF_SLATES[metric.per])
            has_before = False  # nothing was counted before the experiment
        else:
            below = _kind_of(units.events, metric, metric.per)
            denominators = _sums(mine, below, after, "event_time_us", pl.lit(1, pl.Float64))
            before_denominators = _sums(mine, below, before, "event_time_us", pl.lit(1, pl.Float64))
    past = _sums(mine, events, before, "event_time_us", _number(metric)) if has_before else None
    if metric.kind == "proportion":
        totals = (totals > 0).astype(np.float64)
        past = None if past is None else (past > 0).astype(np.float64)
    return Sample(
        totals=totals,
        denominators=denominators,
        before=past,
        before_denominators=before_denominators if has_before else None,
        events=_values(mine, counted, after) if metric.kind == "quantile" else None,
    )


def problem_of(units: Units, metric: Metric) -> str | None:
    """Why the metric says nothing of anybody, if so."""
    if metric.of == "value" or metric.kind == "quantile":
        events = _kind_of(units.events, metric, metric.event_type)
        if len(events) and events["value"].drop_nulls().is_empty():
            return f"no {metric.event_type} has a value"
    return None


def unit_of(unit: Unit) -> pl.Expr:
    """Whose a row of a table with user_id and session_id is; null: nobody's."""
    if unit == "user":
        return pl.col("user_id")
    return pl.col("session_id") if unit == "session" else pl.coalesce("user_id", "session_id")


def _split(rows: pl.DataFrame, time: str, edges_us: Sequence[int]) -> pl.DataFrame:
    """With the `period` of each row, which is part of its unit's name if there are several."""
    begun = [(pl.col(time) >= edge_us).cast(pl.Int32) for edge_us in edges_us]
    rows = rows.with_columns(period=pl.sum_horizontal(pl.lit(0, pl.Int32), *begun))
    return rows.with_columns(unit=pl.format("{}#{}", "unit", "period")) if edges_us else rows


def _kind_of(events: pl.DataFrame, metric: Metric, event_type: str) -> pl.DataFrame:
    return events.filter(pl.col("event_type") == event_type)


def _number(metric: Metric) -> pl.Expr:
    count = metric.of == "count" or metric.kind == "proportion"
    return pl.lit(1, pl.Float64) if count else pl.col("value").fill_null(0.0)


def _after(metric: Metric) -> pl.Expr:
    """On `ago_us`, the time since the unit's first slate."""
    begun = pl.col("ago_us") >= 0
    if metric.window_days is None:
        return begun
    return begun & (pl.col("ago_us") < int(metric.window_days * US_PER_DAY))


def _before(metric: Metric) -> pl.Expr:
    ago_us = pl.col("ago_us")
    return (ago_us < 0) & (ago_us >= -metric.cuped_days * US_PER_DAY)


def _sums(
    mine: pl.DataFrame, rows: pl.DataFrame, when: pl.Expr, time: str, number: pl.Expr
) -> Float64Array:
    """(n,) of the units; 0 for those without any."""
    found = (
        rows.join(mine.select("unit", "row", "first_us"), on="unit")
        .with_columns(ago_us=pl.col(time) - pl.col("first_us"), number=number)
        .filter(when)
    )
    at, numbers = found["row"].to_numpy(), found["number"].to_numpy()
    return np.bincount(at, numbers, minlength=len(mine)).astype(np.float64)


def _values(mine: pl.DataFrame, rows: pl.DataFrame, when: pl.Expr) -> EventValues:
    found = (
        rows.drop_nulls("value")
        .join(mine.select("unit", "row", "first_us"), on="unit")
        .with_columns(ago_us=pl.col("event_time_us") - pl.col("first_us"))
        .filter(when)
    )
    return EventValues(
        values=found["value"].to_numpy().astype(np.float64),
        unit_rows=found["row"].to_numpy().astype(np.int64),
    )
