"""The lake's slates as a log to replay, and the tables that say what a target would show."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from features.errors import ConfigError, DataError
from features.lake import Lake
from jobs.page_words import minute
from recsys.evaluation.offpolicy.log import ExposureLog, from_lake
from recsys.evaluation.offpolicy.policy import TargetPolicy, explored_at, from_table


def lake_log(
    lake: Lake,
    *,
    reward: str,
    since: str | None = None,
    until_us: int | None = None,
    placements: Sequence[str] = (),
) -> ExposureLog:
    """Slates shown from that day on, before that moment, at some placements or all.

    DataError where there are none.
    """
    start_us = _start_us(since)
    shown = lake.scan_exposures(start_us=start_us, end_us=until_us)
    if placements:
        shown = shown.filter(pl.col("placement").is_in(placements))
    if not shown.select(pl.len()).collect().item():
        where = "".join(
            [
                f" since {since}" if since else "",
                f" before {minute(until_us)}" if until_us is not None else "",
                f" at {', '.join(placements)}" if placements else "",
            ]
        )
        raise DataError(
            f"found no slates{where} in {lake.root}, expected some: the night brings them in"
        )
    return from_lake(shown, lake.scan_events(start_us=start_us, end_us=until_us), reward)


def target_policy(log: ExposureLog, table: Path | None, exploration: float | None) -> TargetPolicy:
    """From a file of chances, or the logged policy with another exploration."""
    if table is not None and exploration is None:
        return from_table(_read(table), log)
    if table is None and exploration is not None:
        return explored_at(log, exploration)
    raise ConfigError(
        f"found TARGET {table} and --exploration {exploration}, expected one of the two"
    )


def _read(path: Path) -> pl.DataFrame:
    """Parquet by its ending, else CSV."""
    try:
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"found {path} unreadable ({error}), expected Parquet or CSV") from error


def _start_us(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        day = date.fromisoformat(since)
    except ValueError as error:
        raise ConfigError(f"--since: found {since!r}, expected YYYY-MM-DD") from error
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
