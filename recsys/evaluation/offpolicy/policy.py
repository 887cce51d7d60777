"""What the policy to be judged would have shown: its chances beside those that were logged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import polars as pl

from features.arrays import Float64Array, Int64Array
from features.errors import DataError
from recsys.evaluation.offpolicy.log import ExposureLog

By = Literal["nothing", "position", "context"]
_ROUNDING = 0.01  # a table of chances written with few digits sums to about 1


@dataclass(frozen=True, slots=True, eq=False)
class Distributions:
    """Chances of every item; the rest to 1 is for items that the log does not name."""

    table: Float64Array  # (m, n_items)
    cells: Int64Array  # (n,) which of the m holds for a row of the log


@dataclass(frozen=True, slots=True, eq=False)
class Chances:
    """Of the items shown where they were shown; without `all_items` there is no DM and no DR."""

    shown: Float64Array  # (n,)
    all_items: Distributions | None


class TargetPolicy(Protocol):
    """Anything that tells P(item at position | context) of each row."""

    def chances(self, log: ExposureLog) -> Chances: ...


@dataclass(frozen=True, slots=True, eq=False)
class TablePolicy:
    """Chances of items by cell: `by` says whether a row's cell is its position or its context."""

    table: Float64Array  # (m, n_items) in the order of the log's item_ids, each row sums to ≤ 1
    by: By = "nothing"

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.by not in get_args(By):
            raise DataError(
                f"found a table of shape {self.table.shape} by {self.by!r}, expected (cells, items)"
                " by nothing, position or context"
            )
        _check(self.table)

    def chances(self, log: ExposureLog) -> Chances:
        if self.table.shape[1] != len(log.item_ids):
            raise DataError(
                f"found chances of {self.table.shape[1]} items, expected one for each of the "
                f"log's {len(log.item_ids)}: align them with its item_ids"
            )
        cells = self._cells(log)
        if cells.max() >= len(self.table):
            raise DataError(
                f"found {self.by} {cells.max()} in the log, expected below {len(self.table)}, "
                "those that the target has chances for: add it, or leave its rows out"
            )
        return Chances(self.table[cells, log.item_rows], Distributions(self.table, cells))

    def _cells(self, log: ExposureLog) -> Int64Array:
        if self.by == "position":
            return log.positions
        if self.by == "nothing":
            return np.zeros(len(log), np.int64)
        if log.contexts is None:
            raise DataError("found a log without contexts, expected the context of each row")
        return log.contexts


@dataclass(frozen=True, slots=True, eq=False)
class RowPolicy:
    """Chances of nothing but the items shown, (n,) in the log's order."""

    shown: Float64Array

    def chances(self, log: ExposureLog) -> Chances:
        if self.shown.shape != (len(log),):
            raise DataError(
                f"found chances of shape {self.shown.shape}, expected one for each of the log's "
                f"{len(log)} rows"
            )
        _check(self.shown[:, None])
        return Chances(self.shown, None)


def uniform(log: ExposureLog, n_items: int | None = None) -> TablePolicy:
    """Any of `n_items`, at least those that the log names, as likely as any other."""
    n = n_items or len(log.item_ids)
    if n < len(log.item_ids):
        raise DataError(f"found {n} items, expected at least the log's {len(log.item_ids)}")
    return TablePolicy(np.full((1, len(log.item_ids)), 1 / n))


def explored_at(log: ExposureLog, exploration: float) -> RowPolicy:
    """The policy that was logged, had it explored more or less; 0 tells what exploring costs.

    For logs of `recsys.ranking.slate.explore`: an item is shown as planned with 1 - exploration, or
    drawn with exploration / |pool|, so chances above a half tell the planned from the drawn.
    """
    planned = log.propensities > 0.5
    logged = 1 - np.unique(np.round(log.propensities[planned], 6))  # logged as float32
    if len(logged) != 1 or logged[0] <= 0 or not 0 <= exploration < 1:
        found = ", ".join(f"{value:.4g}" for value in logged[:3]) or "none below a half"
        raise DataError(
            f"found exploration {found} in the log and {exploration} asked for, expected one above "
            "0 logged throughout and one from 0 to below 1 asked for: narrow the log to a "
            "placement and days with one"
        )
    by_draw = log.propensities * (exploration / logged[0])
    return RowPolicy(np.where(planned, 1 - exploration, by_draw))


def from_table(table: pl.DataFrame, log: ExposureLog) -> TargetPolicy:
    """From item_id, chance and maybe position; or from request_id, position and chance."""
    names = set(table.columns)
    if "chance" not in names or not names & {"item_id", "request_id"}:
        raise DataError(
            f"found columns {', '.join(table.columns)}, expected item_id, chance and maybe "
            "position, or request_id, position and chance"
        )
    types = {"request_id": pl.String, "position": pl.Int64, "item_id": pl.String}
    rows = table.select(
        *(pl.col(name).cast(to, strict=False) for name, to in types.items() if name in names),
        pl.col("chance").cast(pl.Float64, strict=False).fill_nan(None),
    )
    if n := sum(column.null_count() for column in rows):
        raise DataError(
            f"found {n} empty cells in {', '.join(rows.columns)}, or of another type, expected a "
            "value in each"
        )
    return _by_request(rows, log) if "request_id" in names else _by_item(rows, log)


def _by_item(table: pl.DataFrame, log: ExposureLog) -> TablePolicy:
    by: By = "position" if "position" in table.columns else "nothing"
    cell = pl.col("position") if by == "position" else pl.lit(0, pl.Int64)
    rows = table.select(cell.alias("cell"), "item_id", "chance")
    _unique(rows, ["cell", "item_id"])
    sums = rows.group_by("cell").agg(pl.col("chance").sum()).sort("cell")
    wrong = sums.filter((pl.col("chance") - 1).abs() > _ROUNDING)
    if len(wrong):
        cell, total = wrong["cell"][0], wrong["chance"][0]
        where = f"at position {cell}" if by == "position" else "in all"
        raise DataError(f"found chances that sum to {total:.4g} {where}, expected 1 there")
    asked = set(log.positions.tolist() if by == "position" else [0])
    if absent := sorted(asked - set(sums["cell"].to_list())):
        raise DataError(
            f"found no chances at position {absent[0]}, expected them at each position of the log: "
            "add them, or leave its rows out"
        )
    items = pl.DataFrame({"item_id": log.item_ids, "row": np.arange(len(log.item_ids))})
    known = rows.join(items, on="item_id")
    found = np.zeros((int(log.positions.max()) + 1 if by == "position" else 1, len(items)))
    inside = known.filter(pl.col("cell").is_between(0, len(found) - 1))
    found[inside["cell"].to_numpy(), inside["row"].to_numpy()] = inside["chance"].to_numpy()
    return TablePolicy(found, by)


def _by_request(rows: pl.DataFrame, log: ExposureLog) -> RowPolicy:
    if log.request_ids is None or "position" not in rows.columns:
        raise DataError("found chances by request_id, expected also position, and a log with ids")
    shown = pl.DataFrame(
        {
            "request_id": log.request_ids.gather(log.request_rows),
            "position": log.positions,
            "shown_id": log.item_ids.gather(log.item_rows),
        }
    )
    keys = ["request_id", "position"]
    if "item_id" in rows.columns:
        shown, keys = shown.rename({"shown_id": "item_id"}), [*keys, "item_id"]
    _unique(rows, keys)
    joined = shown.join(rows.select(*keys, "chance"), on=keys, how="left", maintain_order="left")
    if n := joined["chance"].null_count():
        raise DataError(
            f"found no chance for {n} of the log's {len(log)} rows, expected one for each "
            f"{' and '.join(keys)} shown: say 0 where the target would not show it"
        )
    return RowPolicy(joined["chance"].to_numpy())


def _unique(rows: pl.DataFrame, keys: Sequence[str]) -> None:
    if n := len(rows) - rows.select(keys).n_unique():
        raise DataError(f"found {n} rows twice by {', '.join(keys)}, expected one chance for each")


def _check(table: Float64Array) -> None:
    inside = (table >= 0) & (table <= 1 + 1e-9)
    if not inside.all():
        n = int(np.count_nonzero(~inside))
        raise DataError(f"found {n} chances of the target outside 0 to 1, expected chances")
    if table.size and table.sum(axis=1).max() > 1 + _ROUNDING:
        raise DataError(
            f"found chances of the target that sum to {table.sum(axis=1).max():.4g}, expected 1: "
            "divide by their sum"
        )
