"""Slates from a table: one row a slate, with its items in order and their propensities."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from features.checks import id_rules, rule, split
from features.events import CheckedRows
from features.slates import Assignment, SlateRecord
from jobs.importing.columns import PROBLEM

SLATE_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "user_id": pl.String(),
    "session_id": pl.String(),
    "placement": pl.String(),
    "shown_at_us": pl.Int64(),
    "experiment": pl.String(),
    "variant": pl.String(),
    "first_position": pl.Int64(),
    "item_ids": pl.List(pl.String()),
    "propensities": pl.List(pl.Float32()),  # empty where the policy did not log any
}
RELEASE_ID = "imported"  # no release of this system showed these slates


def slate_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """SLATE_SCHEMA as far as the file has it; the rest is null."""
    # list columns come from Parquet only: text in their place is refused, not guessed at
    fits = {
        name: name in rows.columns
        and (not isinstance(dtype, pl.List) or isinstance(rows.schema[name], pl.List))
        for name, dtype in SLATE_SCHEMA.items()
    }
    return rows.select(
        (pl.col(name) if fits[name] else pl.lit(None)).cast(dtype, strict=False).alias(name)
        for name, dtype in SLATE_SCHEMA.items()
    ).with_columns(pl.lit(None, pl.String).alias(PROBLEM))


def check_slates(frame: pl.DataFrame) -> CheckedRows:
    empty = pl.lit([], SLATE_SCHEMA["propensities"])
    prepared = frame.with_columns(
        pl.col("placement").fill_null("imported"),
        pl.col("first_position").fill_null(0),
        pl.col("propensities").fill_null(empty),
    )
    n_items, n_chances = pl.col("item_ids").list.len(), pl.col("propensities").list.len()
    outside = (pl.element() > 0) & (pl.element() <= 1)
    is_chance = pl.col("propensities").list.eval(outside).list.all()
    rules = [
        *id_rules("request_id", required=True),
        *id_rules("user_id", required=False),
        *id_rules("session_id", required=False),
        rule(pl.col("shown_at_us").is_null(), "shown_at_us is missing, expected microseconds"),
        rule(n_items.fill_null(0) == 0, "item_ids is missing, expected a list of item ids"),
        rule(
            (n_chances > 0) & (n_chances != n_items),
            "propensities holds ",
            n_chances,
            " numbers, expected one for each of ",
            n_items,
            " items",
        ),
        rule(~is_chance, "a propensity lies outside (0, 1]"),
        rule(pl.col("first_position") < 0, "first_position is negative, expected 0 or more"),
    ]
    return split(prepared, rules, SLATE_SCHEMA)


def slate_records(checked: pl.DataFrame) -> Iterator[SlateRecord]:
    """Unknown propensities are NaN; scores and features of another system are not ours."""
    for row in checked.iter_rows(named=True):
        item_ids, chances = tuple(row.pop("item_ids")), row.pop("propensities")
        k = len(item_ids)
        experiment, variant = row.pop("experiment"), row.pop("variant")
        unit_id = row["user_id"] or row["session_id"] or row["request_id"]
        unknown = np.full(k, np.nan, np.float32)
        yield SlateRecord(
            **row,
            release_id=RELEASE_ID,
            item_ids=item_ids,
            propensities=np.array(chances, np.float32) if chances else unknown,
            scores=unknown,
            source_scores=np.empty((k, 0), np.float32),
            features=np.empty((k, 0), np.float32),
            assignments=(Assignment(experiment, 1, variant, "hash", unit_id),)
            if experiment is not None and variant is not None
            else (),
        )
