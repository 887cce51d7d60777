"""Ordered sequences without times, laid on a clock so that everything built on time works.

Each user's last item happens at LAST_EVENT_US, the one before it a day earlier, and so on: a cut
one day before the end is leave-one-out, a cut two days before it leaves the validation item too.
A gap in the positions stays a gap in the days. A file with one more item for a user has other
times for all of them, so it belongs into a new store.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from features.events import US_PER_DAY, US_PER_SECOND
from jobs.importing.columns import PROBLEM, ColumnMap
from jobs.importing.readers import read_batches

FIELDS = ("user_id", "item_id", "position", "event_type", "value")
LONGEST_DAYS = 10_000  # back to 1987
LAST_EVENT_US = 1_404_172_800 * US_PER_SECOND  # 2014-07-01: the month the Amazon sets end


def sequence_converter(
    files: Iterable[Path], columns: ColumnMap, *, event_type: str
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Reads the files once for each user's last position: memory grows with users only."""
    last = pl.DataFrame(schema={"user_id": pl.String, "last": pl.Int64})
    for path in files:
        for batch in read_batches(path):
            found = sequence_fields(batch.rows, columns)
            seen = found.select("user_id", last="position")
            last = pl.concat([last, seen]).group_by("user_id").agg(pl.col("last").max())

    def convert(rows: pl.DataFrame) -> pl.DataFrame:
        found = sequence_fields(rows, columns)
        kind = pl.col("event_type").fill_null(event_type)
        steps_before_last = pl.col("last") - pl.col("position")
        return found.join(last, on="user_id", how="left", maintain_order="left").select(
            pl.lit(None, pl.String).alias("event_id"),
            "user_id",
            pl.lit(None, pl.String).alias("session_id"),
            "item_id",
            kind,
            _on_the_clock(steps_before_last).alias("event_time_us"),
            pl.lit(None, pl.String).alias("request_id"),
            "value",
            PROBLEM,
        )

    return convert


def _on_the_clock(steps_before_last: pl.Expr) -> pl.Expr:
    """A day a step; beyond LONGEST_DAYS a second a step, so that no history reaches before 1980."""
    days = pl.min_horizontal(steps_before_last, LONGEST_DAYS)
    seconds = steps_before_last - days
    return LAST_EVENT_US - days * US_PER_DAY - seconds * US_PER_SECOND


def sequence_fields(rows: pl.DataFrame, columns: ColumnMap) -> pl.DataFrame:
    found = columns.renamed(rows, FIELDS)
    for name in FIELDS:
        if name not in found.columns:
            found = found.with_columns(pl.lit(None).alias(name))
    position = pl.col("position").cast(pl.Int64, strict=False)
    given = pl.col("position").cast(pl.String).fill_null("")
    unread = position.is_null() | (position < 0)
    return found.select(
        pl.col("user_id", "item_id", "event_type").cast(pl.String),
        pl.when(~unread).then(position),
        pl.col("value").cast(pl.Float64, strict=False),
        pl.when(unread)
        .then(pl.format("position is {}, expected a whole number from 0", given))
        .alias(PROBLEM),
    )
