"""Finds out what a path holds, by names of files and then by their columns."""

from functools import partial
from pathlib import Path

import polars as pl

from features.errors import DataError
from jobs.importing.columns import (
    EVENT_FIELDS,
    ITEM_FIELDS,
    event_columns,
    guessed_time_unit,
    item_columns,
)
from jobs.importing.movielens import is_movielens, movielens_parts
from jobs.importing.open_bandit import COLUMNS, CONTEXT, holds_open_bandit, open_bandit_parts
from jobs.importing.parts import ImportOptions, Part, unclear
from jobs.importing.readers import data_suffix, first_rows
from jobs.importing.sequences import sequence_converter
from jobs.importing.slates import slate_columns

TABLES = ("items", "users", "events", "sequences", "slates")


def find_parts(path: Path, options: ImportOptions) -> list[Part]:
    """The tables at `path`, items first; raises DataError where it is not clear what it holds."""
    if not path.exists():
        raise DataError(f"found nothing at {path}; expected a file or a folder; check the path")
    if options.kind == "movielens" or (options.kind == "auto" and is_movielens(path)):
        if not is_movielens(path):
            raise unclear(path, "no movies.csv and ratings.csv")
        return movielens_parts(path)
    if options.kind == "open-bandit":
        return open_bandit_parts(path)
    if options.kind == "auto" and path.is_dir():
        return _folder(path, options)
    options.columns.check(first_rows(_files(path)[0]).columns)
    if options.kind != "auto":
        return [_table(options.kind, path, options)]
    return _file(path, options)


def _folder(path: Path, options: ImportOptions) -> list[Part]:
    if holds_open_bandit(path):
        return open_bandit_parts(path)
    found = [
        (name, entry)
        for name in TABLES
        for entry in sorted(path.iterdir())
        if entry.name.split(".")[0] == name and (entry.is_dir() or data_suffix(entry))
    ]
    named = dict(found)
    if len(named) < len(found):
        names = ", ".join(entry.name for _, entry in found)
        raise unclear(path, f"more than one file of a kind ({names})")
    if not named.keys() & {"items", "events", "sequences", "slates"}:
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
        raise unclear(path, names)
    return [_table(name, entry, options) for name, entry in named.items() if name != "users"]


def _file(path: Path, options: ImportOptions) -> list[Part]:
    rows = first_rows(path)
    if set(rows.columns) >= COLUMNS and (path.parent / CONTEXT).is_file():
        return open_bandit_parts(path)
    fields = set(options.columns.renamed(rows, (*EVENT_FIELDS, "title", "tags")).columns)
    has_shopper = bool(fields & {"user_id", "session_id"})
    has_time = bool(fields & {"event_time", "event_time_us"})
    if "item_ids" in fields and "request_id" in fields:
        return [_table("slates", path, options)]
    if "item_id" in fields and has_shopper and has_time:
        return [_table("events", path, options)]
    if "item_id" in fields and "user_id" in fields and "position" in fields:
        return [_table("sequences", path, options)]
    if "item_id" in fields and fields & {"title", "description", "tags"} and not has_shopper:
        return [_table("items", path, options)]
    raise unclear(path, f"columns {', '.join(rows.columns)}")


def _table(kind: str, path: Path, options: ImportOptions) -> Part:
    files = _files(path)
    sample = first_rows(files[0])
    if kind == "slates":
        return Part(path.name, "slates", files, slate_columns)
    if kind == "items":
        _require({"item_id"}, sample, files[0], options, ITEM_FIELDS)
        return Part(path.name, "items", files, partial(item_columns, columns=options.columns))
    if kind == "sequences":
        _require({"user_id", "item_id", "position"}, sample, files[0], options, EVENT_FIELDS)
        convert = sequence_converter(files, options.columns, event_type=options.event_type)
        return Part(path.name, "events", files, convert)
    found = _require({"item_id"}, sample, files[0], options, EVENT_FIELDS)
    unit = options.time_unit
    if unit is None and "event_time" in found.columns:
        unit = guessed_time_unit(found["event_time"])
    read = partial(event_columns, columns=options.columns, event_type=options.event_type, unit=unit)
    return Part(path.name, "events", files, read)


def _files(path: Path) -> tuple[Path, ...]:
    """One file, or every table under a folder such as events/day=2025-01-01/."""
    if not path.is_dir():
        return (path,)
    files = tuple(sorted(f for f in path.rglob("*") if f.is_file() and data_suffix(f)))
    if not files:
        raise unclear(path, "no table")
    return files


def _require(
    needed: set[str],
    sample: pl.DataFrame,
    path: Path,
    options: ImportOptions,
    fields: tuple[str, ...],
) -> pl.DataFrame:
    found = options.columns.renamed(sample, fields)
    if missing := needed - set(found.columns):
        raise DataError(
            f"found columns {', '.join(sample.columns)} in {path}; expected also "
            f"{', '.join(sorted(missing))}; name them with --map column=field"
        )
    return found
