"""What was shown and what came of it, as ranking rows: which outcome belongs to which slate."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import Float32Array
from features.events import MAX_CLOCK_SKEW_US, US_PER_DAY
from features.interactions import shopper_ids
from features.views import FEATURE_NAMES
from recsys.training.queries import RankingRows

OUTCOME_WINDOW_US = US_PER_DAY  # without a request_id: thought of in the morning, bought at night
MOST_LOOKED_AT = 200_000  # newest slates whose outcomes are looked up; about 300 MB


@dataclass(frozen=True, slots=True)
class PastSlates:
    """Slates of which every feature row is of the current list, and all events that may follow."""

    exposures: pl.LazyFrame  # EXPOSURE_SCHEMA
    events: pl.DataFrame  # EVENT_SCHEMA


def exposure_rows(
    past: PastSlates,
    actions: tuple[str, ...],
    *,
    end_us: int,
    max_slates: int,
    held_out_share: float,
    rng: np.random.Generator,
) -> RankingRows:
    """Slates shown before `end` with the feature rows they were ranked by; nothing later counts.

    An outcome names the slate's request, or has no request and is the same shopper's on the same
    item within OUTCOME_WINDOW_US after it was shown last. Kept are the newest `max_slates` with an
    outcome, and a `held_out_share` of all that are as new, with or without.
    """
    shown = past.exposures.filter(pl.col("shown_at_us") < end_us)
    places = _newest(shown, MOST_LOOKED_AT).with_row_index("place")
    events = past.events.filter(
        (pl.col("event_time_us") < end_us) & pl.col("event_type").is_in(actions)
    )
    outcomes = pl.concat([_named(places, events), _unnamed(places, events)]).unique()
    slates = _chosen(places, outcomes, max_slates, held_out_share, rng)
    places = places.join(slates, on="request_id", maintain_order="left")
    wide = shown.select("request_id", "position", "features")
    rows = places.join(
        wide.join(slates.lazy().select("request_id"), on="request_id", how="semi").collect(),
        on=["request_id", "position"],
        maintain_order="left",
    )
    return RankingRows(
        offsets=np.r_[0, np.cumsum(rows["request_id"].rle().struct.field("len"))].astype(np.int64),
        features=_matrix(rows["features"]),
        labels=_labels(rows, outcomes, actions),
        stands_for=np.ones(len(rows), np.float32),
        positions=rows["position"].to_numpy().astype(np.int32),
        held_out=rows["held_out"]
        .filter(rows["request_id"].rle_id().diff().fill_null(1) > 0)
        .to_numpy()
        .astype(np.bool_),
    )


def _newest(shown: pl.LazyFrame, n_slates: int) -> pl.DataFrame:
    """Every place of the newest slates, in order of (time, request, position)."""
    newest = (
        shown.group_by("request_id")
        .agg(pl.col("shown_at_us").max())
        .sort("shown_at_us", "request_id")
        .tail(n_slates)
        .select("request_id")
    )
    shopper = shopper_ids()
    return (
        shown.select("request_id", "position", "item_id", "shown_at_us", shopper.alias("shopper"))
        .join(newest, on="request_id", how="semi")
        .unique(["request_id", "position"], keep="any")
        .sort("shown_at_us", "request_id", "position")
        .collect()
    )


def _named(places: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """(place, event_type) of events that name their request.

    They came after it whatever the browser's clock says, if that is not off by more than clocks
    are.
    """
    late = pl.col("event_time_us") > pl.col("shown_at_us") - MAX_CLOCK_SKEW_US
    return (
        events.filter(pl.col("request_id").is_not_null())
        .join(places, on=["request_id", "item_id"])
        .filter(late)
        .select("place", "event_type")
    )


def _unnamed(places: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    shopper = shopper_ids()
    loose = events.filter(pl.col("request_id").is_null()).with_columns(shopper=shopper)
    found = (
        loose.drop_nulls("shopper")
        .sort("event_time_us")
        .join_asof(
            places.drop_nulls("shopper").sort("shown_at_us"),
            left_on="event_time_us",
            right_on="shown_at_us",
            by=["shopper", "item_id"],
            strategy="backward",
            tolerance=OUTCOME_WINDOW_US,
            allow_exact_matches=False,
            check_sortedness=False,  # both are sorted just above
        )
    )
    return found.drop_nulls("place").select("place", "event_type")


def _chosen(
    places: pl.DataFrame,
    outcomes: pl.DataFrame,
    max_slates: int,
    held_out_share: float,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """(request_id, held_out) of the slates to keep, oldest first."""
    with_outcome = places.join(outcomes, on="place", how="semi")["request_id"].unique()
    slates = places.select("request_id").unique(maintain_order=True)
    slates = slates.with_columns(
        held_out=pl.Series(rng.random(len(slates)) < held_out_share),
        has_outcome=pl.col("request_id").is_in(with_outcome.implode()),
    )
    newer = pl.col("has_outcome").cum_sum(reverse=True) <= max_slates
    kept = newer & (pl.col("has_outcome") | pl.col("held_out"))
    return slates.filter(kept).select("request_id", "held_out")


def _matrix(features: pl.Series) -> Float32Array:
    flat = features.explode().to_numpy() if len(features) else np.empty(0)
    return np.asarray(flat, np.float32).reshape(len(features), len(FEATURE_NAMES))


def _labels(rows: pl.DataFrame, outcomes: pl.DataFrame, actions: tuple[str, ...]) -> Float32Array:
    at = rows.select("place").with_row_index("row").join(outcomes, on="place")
    column_of = {action: column for column, action in enumerate(actions)}
    columns = [column_of[event_type] for event_type in at["event_type"]]
    labels = np.zeros((len(rows), len(actions)), np.float32)
    labels[at["row"].to_numpy(), np.array(columns, np.int64)] = 1.0
    return labels
