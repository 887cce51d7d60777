"""What happened in an experiment: read from the lake, as little of it as the analysis needs."""

import polars as pl

from features.errors import DataError
from features.events import US_PER_DAY
from features.lake import Lake
from recsys.evaluation.experiment.analysis import Analysis, analyse
from recsys.evaluation.experiment.interleaved import Interleaved, analyse_interleaved
from recsys.experiments.experiment import Experiment, Phase, Plan, microseconds

Found = Analysis | Interleaved
_COLUMNS = ("user_id", "session_id", "event_type", "event_time_us", "request_id", "value")
_OTHER = "-"  # no event type has this name


def analysed(experiment: Experiment, lake: Lake, *, as_of_us: int) -> Found:
    """Of the newest phase; DataError for what never ran."""
    phase = experiment.phase
    if phase is None:
        raise DataError(f"the experiment {experiment.name!r} never ran: start it first")
    dealt = dealt_in(experiment, phase, lake, as_of_us)
    exposures = lake.scan_exposures(start_us=microseconds(phase.started_at), end_us=as_of_us).join(
        dealt.select("request_id").unique(), on="request_id", how="semi"
    )
    if experiment.design.kind == "interleave":
        shown = exposures.select("request_id", "position", "item_id").collect()
        happened = lake.scan_events(start_us=microseconds(phase.started_at), end_us=as_of_us)
        credited = happened.filter(_counted(experiment.design.plan)).join(
            dealt.select("request_id").unique(), on="request_id", how="semi"
        )
        return analyse_interleaved(
            experiment, dealt.collect(), shown, credited.collect(), as_of_us=as_of_us
        )
    unknown = exposures.select(pl.col("propensity").is_null().mean()).collect().item()
    return analyse(
        experiment,
        dealt.collect(),
        events_of(experiment, lake, as_of_us=as_of_us).collect(),
        as_of_us=as_of_us,
        unknown_chances=unknown,
    )


def dealt_in(experiment: Experiment, phase: Phase, lake: Lake, as_of_us: int) -> pl.LazyFrame:
    """ASSIGNMENT_SCHEMA rows of the phase."""
    own = (pl.col("experiment") == experiment.name) & (pl.col("phase") == phase.number)
    started_us = microseconds(phase.started_at)
    return lake.scan_assignments(start_us=started_us, end_us=as_of_us).filter(own)


def _counted(plan: Plan) -> pl.Expr:
    named = {name for m in plan.metrics for name in (m.event_type, m.per) if name is not None}
    return pl.col("event_type").is_in(sorted(named))


def events_of(experiment: Experiment, lake: Lake, *, as_of_us: int) -> pl.LazyFrame:
    """Those that metrics count; of a shopper's others the first alone, which tells who is new.

    From as long before the newest phase as its metrics look back.
    """
    plan, phase = experiment.design.plan, experiment.phase
    assert phase is not None
    past_us = US_PER_DAY * max(metric.cuped_days for metric in plan.metrics)
    start_us = microseconds(phase.started_at) - past_us
    rows = lake.scan_events(start_us=start_us, end_us=as_of_us).select(_COLUMNS)
    first = (
        rows.filter(~_counted(plan))
        .group_by("user_id", "session_id")
        .agg(pl.col("event_time_us").min())
        .with_columns(
            event_type=pl.lit(_OTHER),
            request_id=pl.lit(None, pl.String),
            value=pl.lit(None, pl.Float64),
        )
    )
    return pl.concat([rows.filter(_counted(plan)), first.select(_COLUMNS)])
