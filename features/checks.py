"""Rows are checked by ordered rules over whole columns, so a million rows cost one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from features.errors import DataError
from features.events import MAX_ID_LENGTH, CheckedRows

PREVIEW_LENGTH = 60  # enough to recognise a value, short enough for a log line


@dataclass(frozen=True, slots=True)
class Rule:
    """`fails` marks rows (null counts as passing); `reason` is built for those rows alone."""

    fails: pl.Expr
    reason: pl.Expr


def rule(fails: pl.Expr, *reason: str | pl.Expr) -> Rule:
    """The parts of the reason are joined; a text is taken literally."""
    parts = [pl.lit(part) if isinstance(part, str) else part.cast(pl.String) for part in reason]
    return Rule(fails, pl.concat_str(parts, ignore_nulls=True))


def split(
    frame: pl.DataFrame, rules: Sequence[Rule], schema: Mapping[str, pl.DataType]
) -> CheckedRows:
    """A row is rejected with the reason of the first rule it fails."""
    fails = pl.any_horizontal(r.fails.fill_null(value=False) for r in rules)
    marked = frame.lazy().with_row_index("row").with_columns(fails.alias("fails")).collect()
    accepted = marked.filter(~pl.col("fails")).select(
        pl.col(name).cast(dtype) for name, dtype in schema.items()
    )
    bad = marked.filter("fails")
    if bad.is_empty():  # no reason to word: half of the fixed cost of a small batch
        return CheckedRows(accepted, bad.select("row", reason=pl.lit(None, pl.String)))
    reason = pl.coalesce(pl.when(r.fails).then(r.reason) for r in rules)
    return CheckedRows(accepted, bad.select("row", reason.alias("reason")))


def preview(name: str) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), pl.col(name).str.slice(0, PREVIEW_LENGTH), pl.lit('"'))


def wrong_type(name: str, dtype: pl.DataType, expected: str) -> Rule:
    return rule(pl.lit(value=True), f"{name} has type {dtype}, expected {expected}")


def text_column(frame: pl.DataFrame, name: str) -> tuple[pl.Expr, list[Rule]]:
    """The column as text and, if its type can never be text, the rule that says so."""
    dtype = frame.schema.get(name)
    if dtype is None:
        return pl.lit(None, pl.String).alias(name), []
    if dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return pl.col(name).cast(pl.String), []
    return pl.lit(None, pl.String).alias(name), [wrong_type(name, dtype, "text")]


def id_rules(name: str, *, required: bool) -> list[Rule]:
    expected = f"expected 1 to {MAX_ID_LENGTH} characters"
    column = pl.col(name)
    missing = [rule(column.is_null(), f"{name} is missing, {expected}")] if required else []
    length = column.str.len_chars()
    return [
        *missing,
        rule(~column.str.contains(r"\S"), f"{name} is empty, {expected}"),
        rule(length > MAX_ID_LENGTH, f"{name} has ", length, f" characters, {expected}"),
        rule(column.str.contains(r"\p{Cc}"), f"{name} contains a control character"),
    ]


def expect_schema(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> None:
    """DataError for rows that were not checked."""
    if frame.schema != pl.Schema(schema):
        raise DataError(
            f"found columns {dict(frame.schema)}, expected {dict(schema)}; "
            "check the rows first and store what was accepted"
        )
