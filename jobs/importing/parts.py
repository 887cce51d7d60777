"""What a path holds: the parts an import consists of, told apart by their columns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from features.errors import DataError
from features.event_checks import TimeUnit
from jobs.importing.columns import ColumnMap

Kind: TypeAlias = Literal["auto", "movielens", "open-bandit", "items", "events", "sequences"]
Target: TypeAlias = Literal["items", "events", "slates"]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to read what a file does not say about itself."""

    kind: Kind = "auto"
    columns: ColumnMap = field(default_factory=lambda: ColumnMap({}))
    time_unit: TimeUnit | None = None  # None: from the size of the numbers
    event_type: str = "view"


@dataclass(frozen=True, slots=True)
class Part:
    """One table of an import; `convert` keeps rows aligned, `only` picks rows before it."""

    name: str
    target: Target
    files: tuple[Path, ...]
    convert: Callable[[pl.DataFrame], pl.DataFrame]
    only: pl.Expr | None = None


def unclear(path: Path, found: str) -> DataError:
    return DataError(
        f"found {found} in {path}; expected a MovieLens folder (movies.csv, ratings.csv), an Open "
        "Bandit folder (item_context.csv beside a log), files named items.*, events.*, "
        "sequences.* or slates.*, or one table with item_id and a title (items), item_id, "
        "a user_id or session_id and a time (events), or user_id, position and item_id "
        "(sequences); say what it is with --kind and name the columns with --map column=field"
    )
