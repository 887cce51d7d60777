"""From slates and events to one number a unit: who is counted, from when on, and for what.

A unit counts from the first slate it was dealt; what it did before explains it, never judges it.
Overrides and held-out units are left out, and so is who was seen in two variants.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from features.arrays import Float64Array, Int64Array
from features.events import US_PER_DAY
from recsys.evaluation.experiment.samples import EventValues, Sample
from recsys.experiments.experiment import Metric, Unit

MAX_LOOKS = 30  # points of the curves over time
_ONE = pl.lit(1, pl.Float64)
_OF_SLATES = {"slates": _ONE, "exposures": pl.col("n_items").cast(pl.Float64)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Who takes part; `table` has one row a unit, a part of them after `seen_before` and `where`.

    Its columns: row, of `n_rows`; unit; person, a number; variant; first_us, of its first slate;
    entered_us, the same of the person in any period; placement; period. Whatever else they did is
    beside: `row` says whose it is, `ago_us` how long after (before) the first slate.
    """

    table: pl.DataFrame
    n_rows: int
    slates: pl.DataFrame  # row, request_id, shown_at_us, ago_us, n_items
    events: pl.DataFrame  # from the first slate on: row, event_type, event_time_us, ago_us, value
    # and is_own: it names a slate of these
    before: pl.DataFrame  # before the person's first slate at all: row, event_type, ago_us, value
    n_multiple: int  # units seen in several variants
    n_overrides: int
    n_held_out: int

    @property
    def persons(self) -> "Units":
        """Each person once, as they came first: where shares moved, units of the first period."""
        return self.where(pl.col("first_us") == pl.col("entered_us"))

    def counts(self, variants: Sequence[str]) -> list[int]:
        """Persons of each variant, as they came first."""
        found = dict(self.persons.table.group_by("variant").len().iter_rows())
        return [found.get(variant, 0) for variant in variants]

    def seen_before(self, as_of_us: int) -> "Units":
        """What was known then."""
        return replace(
            self,
            table=self.table.filter(pl.col("first_us") < as_of_us),
            slates=self.slates.filter(pl.col("shown_at_us") < as_of_us),
            events=self.events.filter(pl.col("event_time_us") < as_of_us),
        )

    def where(self, condition: pl.Expr) -> "Units":
        """A slice of the units, by columns of their table."""
        return replace(self, table=self.table.filter(condition))

    def of(self, variant: str) -> tuple[Int64Array, Int64Array]:
        """The variant's rows and persons, in the order of their first slates."""
        mine = self.table.filter(pl.col("variant") == variant)
        row, person = (mine[name].to_numpy().astype(np.int64) for name in ("row", "person"))
        return row, person


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
    """`assignments` (ASSIGNMENT_SCHEMA) of one phase, `events` of any shopper.

    Of EVENT_SCHEMA user_id, session_id, event_type, event_time_us, request_id and value are read.
    Whoever logs in is one unit with what they did before, also where that was dealt apart. At
    `edges_us` a bandit dealt anew: whoever comes in two periods is a unit in each of them.
    """
    slates = assignments.with_columns(_period("shown_at_us", edges_us), unit=unit_of(unit))
    slates = slates.filter(pl.col("how") == "hash").drop_nulls("unit")
    tested = assignments.filter(pl.col("how") == "override").select(unit=unit_of(unit))["unit"]
    slates = slates.filter(~pl.col("unit").is_in(tested.unique().implode()))
    slates = slates.sort("shown_at_us", "request_id").unique("request_id", maintain_order=True)
    by_unit = slates.group_by("unit", "period", maintain_order=True).agg(
        pl.col("variant").first(),
        pl.col("variant").n_unique().alias("n_variants"),
        pl.col("shown_at_us").first().alias("first_us"),
        pl.col("placement").first(),
    )
    table = (
        by_unit.filter(pl.col("n_variants") == 1)
        .drop("n_variants")
        .with_columns(
            pl.col("first_us").min().over("unit").alias("entered_us"),
            (pl.col("unit").rank("dense").cast(pl.Int64) - 1).alias("person"),
        )
        .with_row_index("row")
    )
    begun = table.select("row", "unit", "period", "first_us")
    shown = slates.join(begun, on=["unit", "period"], maintain_order="left").select(
        *("row", "request_id", "shown_at_us", "n_items"),
        (pl.col("shown_at_us") - pl.col("first_us")).alias("ago_us"),
    )
    did = events.with_columns(_period("event_time_us", edges_us), unit=unit_of(unit))
    since = pl.col("event_time_us") - pl.col("first_us")
    kept = ("row", "event_type", "ago_us", "value")
    after = did.join(begun, on=["unit", "period"], maintain_order="left").with_columns(
        since.alias("ago_us"),
        pl.col("request_id")
        .is_in(shown["request_id"].implode())
        .fill_null(value=False)
        .alias("is_own"),
    )
    entered = table.select("row", "unit", pl.col("entered_us").alias("first_us"))
    earlier = did.join(entered, on="unit", maintain_order="left").with_columns(
        since.alias("ago_us")
    )
    return Units(
        table=table,
        n_rows=len(table),
        slates=shown,
        events=after.filter(pl.col("ago_us") >= 0).select(*kept, "event_time_us", "is_own"),
        before=earlier.filter(pl.col("ago_us") < 0).select(*kept),
        n_multiple=len(by_unit) - len(table),
        n_overrides=tested.n_unique(),
        n_held_out=assignments.filter(pl.col("how") == "holdout")
        .select(unit=unit_of(unit))["unit"]
        .n_unique(),
    )


def samples(units: Units, metric: Metric, variants: Sequence[str]) -> list[Sample]:
    """The metric of each variant's units, in the order of their first slates."""
    after, before = _after(metric), pl.col("ago_us") >= -metric.cuped_days * US_PER_DAY
    own = pl.col("is_own") if metric.attributed else pl.lit(value=True)
    counted = units.events.filter(own & after & (pl.col("event_type") == metric.event_type))
    totals = _sums(units, counted, _number(metric))
    denominators = past = past_denominators = None
    is_explained = metric.cuped_days > 0 and metric.kind != "quantile"
    if metric.kind == "ratio" and metric.per is not None:
        if metric.per in _OF_SLATES:
            denominators = _sums(units, units.slates.filter(after), _OF_SLATES[metric.per])
            is_explained = False  # nothing was counted before the experiment
        else:
            of = pl.col("event_type") == metric.per
            denominators = _sums(units, units.events.filter(of & after), _ONE)
            past_denominators = _sums(units, units.before.filter(of & before), _ONE)
    if is_explained:
        of = pl.col("event_type") == metric.event_type
        past = _sums(units, units.before.filter(of & before), _number(metric))
    if metric.kind == "proportion":
        totals = (totals > 0).astype(np.float64)
        past = None if past is None else (past > 0).astype(np.float64)
    beside = {
        "denominators": denominators,
        "before": past,
        "before_denominators": past_denominators if is_explained else None,
    }
    return [
        Sample(
            totals=totals[mine],
            **{name: of[mine] for name, of in beside.items() if of is not None},
            persons=persons,
            events=_values(units, counted, mine) if metric.kind == "quantile" else None,
        )
        for mine, persons in map(units.of, variants)
    ]


def problem_of(units: Units, metric: Metric, variants: Sequence[str]) -> str | None:
    """Why the metric says nothing, if so: a variant whose events have no value counts as 0."""
    if metric.of != "value" and metric.kind != "quantile":
        return None
    for variant in variants:
        acted, without = valueless(units, metric, variant)
        if acted.sum() and acted.sum() == without.sum():
            return f"no {metric.event_type} of {variant} has a value"
    return None


def valueless(units: Units, metric: Metric, variant: str) -> tuple[Float64Array, Float64Array]:
    """(n,) of the variant's units: how many such events, and how many of them have no value."""
    mine, _ = units.of(variant)
    found = units.events.filter(pl.col("event_type") == metric.event_type)
    without = found.filter(pl.col("value").is_null())
    acted, lost = (_sums(units, rows, _ONE)[mine] for rows in (found, without))
    return acted, lost


def unit_of(unit: Unit) -> pl.Expr:
    """Whose a row of a table with user_id and session_id is; null: nobody's."""
    if unit == "user":
        return pl.col("user_id")
    return pl.col("session_id") if unit == "session" else pl.coalesce("user_id", "session_id")


def _period(time: str, edges_us: Sequence[int]) -> pl.Expr:
    """How many edges lie before: a number from 0."""
    begun = [(pl.col(time) >= edge_us).cast(pl.Int32) for edge_us in edges_us]
    return pl.sum_horizontal(pl.lit(0, pl.Int32), *begun).alias("period")


def _number(metric: Metric) -> pl.Expr:
    count = metric.of == "count" or metric.kind == "proportion"
    return _ONE if count else pl.col("value").fill_null(0.0)


def _after(metric: Metric) -> pl.Expr:
    """On `ago_us`, the time since the unit's first slate."""
    if metric.window_days is None:
        return pl.lit(value=True)
    return pl.col("ago_us") < int(metric.window_days * US_PER_DAY)


def _sums(units: Units, rows: pl.DataFrame, number: pl.Expr) -> Float64Array:
    """(n_rows,) of the units; 0 for those without any."""
    found = rows.select("row", number=number)
    at, numbers = found["row"].to_numpy(), found["number"].to_numpy()
    return np.bincount(at, numbers, minlength=units.n_rows).astype(np.float64)


def _values(units: Units, rows: pl.DataFrame, mine: Int64Array) -> EventValues:
    """Of these units alone, numbered in their order."""
    place = np.full(units.n_rows, -1, np.int64)
    place[mine] = np.arange(len(mine))
    found = rows.drop_nulls("value")
    unit_rows = place[found["row"].to_numpy()]
    inside = unit_rows >= 0
    values = found["value"].to_numpy().astype(np.float64)
    return EventValues(values=values[inside], unit_rows=unit_rows[inside])
