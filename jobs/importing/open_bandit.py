"""The Open Bandit Dataset (Saito et al. 2021): impressions with logged propensities.

A row is one item at one of three places of a page. Shoppers have features but no ids, so each row
is a session of its own. Item numbers mean something else in every campaign, so the campaign is
part of the item id.
"""

from functools import partial
from pathlib import Path

import polars as pl

from features.errors import DataError
from features.event_checks import parse_times
from jobs.importing.columns import PROBLEM
from jobs.importing.parts import Part

CONTEXT = "item_context.csv"
POLICIES = ("random", "bts")
COLUMNS = {"timestamp", "item_id", "position", "click", "propensity_score"}


def open_bandit_parts(path: Path) -> list[Part]:
    """All logs under a folder or one log; a campaign's items come once, from its first log."""
    logs = _logs(path) if path.is_dir() else [path]
    parts: dict[str, Part] = {}
    for log in logs:
        context = log.parent / CONTEXT
        if not context.is_file():
            raise DataError(
                f"found no {CONTEXT} beside {log}; expected the folder as published; add the file"
            )
        campaign = log.name.split(".")[0]
        policy = next((p for p in POLICIES if p in log.parent.parts[-2:]), None)
        name = f"{policy or 'log'}-{campaign}"
        items = Part(f"{campaign}-{CONTEXT}", "items", (context,), partial(_items, campaign))
        parts.setdefault(f"items {campaign}", items)
        shown = partial(_slates, campaign, policy, name)
        parts[f"slates {log}"] = Part(f"{name}-slates", "slates", (log,), shown)
        clicked = pl.col("click").cast(pl.String) == "1"
        clicks = partial(_clicks, campaign, name)
        parts[f"clicks {log}"] = Part(f"{name}-clicks", "events", (log,), clicks, only=clicked)
    return list(parts.values())


def holds_open_bandit(folder: Path) -> bool:
    return bool(_logs(folder))


def _logs(folder: Path) -> list[Path]:
    found = (context.parent for context in folder.rglob(CONTEXT))
    return sorted(
        log
        for place in found
        for log in place.iterdir()
        if log.name != CONTEXT and log.name.endswith((".csv", ".csv.gz"))
    )


def _items(campaign: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Features are anonymous: one number and three hashed categories, which become tags."""
    hashed = [c for c in rows.columns if c.startswith("item_feature_") and c[-1] != "0"]
    tags = [pl.lit(f"{c.removeprefix('item_')} ") + pl.col(c).str.head(8) for c in hashed]
    number = pl.col("item_feature_0").cast(pl.Float64, strict=False)
    return rows.select(
        item_id=_item_id(campaign),
        tags=pl.concat_list(tags),
        attributes=pl.when(number.is_not_null()).then(
            pl.concat_str(pl.lit('{"feature_0":'), number, pl.lit("}"))
        ),
    ).with_columns(pl.lit(None, pl.String).alias(PROBLEM))


def _slates(campaign: str, policy: str | None, name: str, rows: pl.DataFrame) -> pl.DataFrame:
    position = pl.col("position").cast(pl.Int64, strict=False) - 1  # counted from 1 in the file
    chance = pl.col("propensity_score").cast(pl.Float32, strict=False)
    problem = (
        pl.when(position.is_null() | (position < 0))
        .then(pl.lit("position is not a whole number from 1"))
        .when(chance.is_null())
        .then(pl.lit("propensity_score is not a number"))
        .otherwise(pl.col("time_problem"))
    )
    return rows.hstack(parse_times(rows["timestamp"], name="time")).select(
        _request_id(rows, name).alias("request_id"),
        pl.lit(None, pl.String).alias("user_id"),
        (pl.lit("session-") + _request_id(rows, name)).alias("session_id"),
        pl.lit(campaign).alias("placement"),
        pl.col("time_us").alias("shown_at_us"),
        pl.lit("open-bandit").alias("experiment"),
        pl.lit(policy, pl.String).alias("variant"),
        position.alias("first_position"),
        pl.concat_list(_item_id(campaign)).alias("item_ids"),
        pl.concat_list(chance).alias("propensities"),
        problem.alias(PROBLEM),
    )


def _clicks(campaign: str, name: str, rows: pl.DataFrame) -> pl.DataFrame:
    request_id = _request_id(rows, name)
    return (
        rows.select(
            event_id=pl.lit("click-") + request_id,
            user_id=pl.lit(None, pl.String),
            session_id=pl.lit("session-") + request_id,
            item_id=_item_id(campaign),
            event_type=pl.lit("click"),
            request_id=request_id,
            value=pl.lit(None, pl.Float64),
        )
        .hstack(parse_times(rows["timestamp"]))
        .with_columns(pl.lit(None, pl.String).alias(PROBLEM))
    )


def _request_id(rows: pl.DataFrame, name: str) -> pl.Expr:
    """From the row number that the published files carry in a first column without a name."""
    number = ["column_0"] if "column_0" in rows.columns else ["timestamp", "item_id", "position"]
    return pl.concat_str(pl.lit(name), *(pl.col(column) for column in number), separator="-")


def _item_id(campaign: str) -> pl.Expr:
    return pl.lit(f"{campaign}-") + pl.col("item_id")
