"""How long an experiment will take: what it would have told of the days that are past."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from features.events import US_PER_DAY
from features.lake import Lake
from jobs.experiments.reading import events_of
from recsys.evaluation.experiment.analysis import Analysis, analyse
from recsys.evaluation.experiment.units import unit_of
from recsys.experiments.assignment import dealer
from recsys.experiments.experiment import Design, Experiment
from recsys.experiments.lifecycle import drafted, started

DAYS = 14  # looked back at: two weeks have every weekday twice


@dataclass(frozen=True, slots=True)
class Outlook:
    """An A/A experiment of the same design on the past; `problem` says why there is none."""

    past: Analysis | None = None
    problem: str | None = None


def outlook(design: Design, lake: Lake, *, now_us: int) -> Outlook:
    """Its units are dealt as they will be when ramps are over; all were answered alike."""
    if design.kind == "interleave":
        return Outlook(problem="an interleaved experiment needs far fewer units than are told here")
    start_us = now_us - DAYS * US_PER_DAY
    start = datetime.fromtimestamp(start_us / 1e6, UTC)
    whole = max([design.coverage, *(step.coverage for step in design.ramp)])
    ramped = design.model_copy(update={"coverage": whole, "ramp": ()})
    imagined = started(drafted(ramped, start), start, "", ())
    slates = _slates(design, lake, start_us, now_us)
    if slates.is_empty():
        where = f" on {', '.join(design.placements)}" if design.placements else ""
        return Outlook(problem=f"no slates of units were logged{where} in the last {DAYS} days")
    events = events_of(imagined, lake, as_of_us=now_us).collect()
    return Outlook(analyse(imagined, _dealt(imagined, slates, now_us), events, as_of_us=now_us))


def _slates(design: Design, lake: Lake, start_us: int, now_us: int) -> pl.DataFrame:
    """One row a slate that would have been in the experiment."""
    shown = lake.scan_exposures(start_us=start_us, end_us=now_us)
    if design.placements:
        shown = shown.filter(pl.col("placement").is_in(design.placements))
    first = ("user_id", "session_id", "placement", "shown_at_us")
    by_slate = shown.group_by("request_id").agg(
        *(pl.col(name).first() for name in first), pl.len().cast(pl.Int32).alias("n_items")
    )
    return by_slate.with_columns(unit_id=unit_of(design.unit)).drop_nulls("unit_id").collect()


def _dealt(imagined: Experiment, slates: pl.DataFrame, now_us: int) -> pl.DataFrame:
    """ASSIGNMENT_SCHEMA rows; targeting is not asked, so there may be more units than will be."""
    key = dealer(imagined)
    names = slates["unit_id"].unique().to_list()
    variants = pl.DataFrame(
        {"unit_id": names, "variant": [key(name, now_us) for name in names]},
        schema_overrides={"variant": pl.String},
    ).drop_nulls("variant")
    return slates.join(variants, on="unit_id").with_columns(
        experiment=pl.lit(imagined.name),
        phase=pl.lit(1, pl.Int32),
        how=pl.lit("hash"),
        teams=pl.lit(None, pl.String),
    )
