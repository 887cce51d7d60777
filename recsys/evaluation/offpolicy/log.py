"""What a policy showed and what came of it, as the columns that replay reads."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl

from features.arrays import BoolArray, Float64Array, Int64Array
from features.errors import DataError

COLUMNS = ("unit_id", "request_id", "position", "item_id", "reward", "propensity")
_ROWS = ("unit_rows", "request_rows", "positions", "item_rows", "rewards", "propensities")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExposureLog:
    """One row an item at a position of a slate, each with the chance its policy gave it there.

    Rows whose chance nobody knows are no part of it; `n_unknown` counts them.
    """

    unit_rows: Int64Array  # (n,) whose it was: what intervals resample
    request_rows: Int64Array  # (n,) the slate
    positions: Int64Array  # (n,) from 0
    item_rows: Int64Array  # (n,) of `item_ids`
    rewards: Float64Array  # (n,)
    propensities: Float64Array  # (n,) in (0, 1]: P(this item at this position | its context)
    item_ids: pl.Series  # what could be shown
    request_ids: pl.Series | None = None
    contexts: Int64Array | None = None  # (n,) what a policy saw, from 0
    n_unknown: int = 0

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in _ROWS}
        if len(set(shapes.values())) != 1 or len(shapes["rewards"]) != 1:
            raise DataError(f"found columns of shapes {shapes}, expected one number a row in each")
        if not len(self):
            raise DataError(
                f"found {self.n_unknown} rows, none of them with a propensity; expected exposures "
                "of a policy that leaves something to chance: set exploration above 0"
            )
        _all(np.isfinite(self.rewards), "rewards", "finite numbers: count no reward as 0")
        chance = self.propensities
        _all((chance > 0) & (chance <= 1), "propensities", "chances above 0, at most 1")
        _all(self.positions >= 0, "positions", "whole numbers from 0")
        for name in ("unit_rows", "request_rows"):
            _all(getattr(self, name) >= 0, name, "row numbers from 0")
        inside = (self.item_rows >= 0) & (self.item_rows < len(self.item_ids))
        _all(inside, "item_rows", f"row numbers below {len(self.item_ids)}")
        if self.contexts is not None and np.shape(self.contexts) != (len(self),):
            raise DataError(f"found {len(self.contexts)} contexts for {len(self)} rows")
        slots = self.request_rows * (int(self.positions.max()) + 1) + self.positions
        if (n_twice := len(self) - len(np.unique(slots))) > 0:
            raise DataError(
                f"found {n_twice} rows at a position of a slate that another row fills, expected "
                "one item a position: remove duplicates"
            )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def unknown_share(self) -> float:
        return self.n_unknown / (self.n_unknown + len(self))


def from_frame(frame: pl.DataFrame | pd.DataFrame) -> ExposureLog:
    """From COLUMNS; `unit_id` is the shopper, a null `propensity` one nobody knows."""
    table = frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"found columns {', '.join(table.columns)}, expected also {', '.join(missing)}"
        )
    chance = pl.col("propensity").cast(pl.Float64, strict=False).fill_nan(None)
    position = pl.col("position").cast(pl.Int64, strict=False)
    known = table.with_columns(chance, position).filter(pl.col("propensity").is_not_null())
    for name in ("unit_id", "request_id", "position", "item_id"):
        if n := known[name].null_count():
            raise DataError(f"found {n} rows without {name}, expected one in each: fill or remove")
    units, requests, items = (
        known[name].cast(pl.String) for name in ("unit_id", "request_id", "item_id")
    )
    return ExposureLog(
        unit_rows=_codes(units),
        request_rows=_codes(requests),
        positions=known["position"].to_numpy(),
        item_rows=_codes(items),
        rewards=known["reward"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy(),
        propensities=known["propensity"].to_numpy(),
        item_ids=items.unique().sort(),
        request_ids=requests.unique().sort(),
        n_unknown=len(table) - len(known),
    )


def from_lake(exposures: pl.LazyFrame, events: pl.LazyFrame, reward_event: str) -> ExposureLog:
    """EXPOSURE_SCHEMA and EVENT_SCHEMA rows: 1 where such an event names the slate and the item.

    A shopper is the user, else the session, else the slate.
    """
    rewarded = (
        events.filter(pl.col("event_type") == reward_event)
        .select("request_id", "item_id", reward=1.0)
        .drop_nulls()
        .unique()
    )
    rows = exposures.join(
        rewarded, on=("request_id", "item_id"), how="left", maintain_order="left"
    ).select(
        pl.coalesce("user_id", "session_id", "request_id").alias("unit_id"),
        *("request_id", "position", "item_id", "propensity"),
        pl.col("reward").fill_null(0.0),
    )
    return from_frame(rows.collect())


def _codes(values: pl.Series) -> Int64Array:
    """Row numbers in `values.unique().sort()`."""
    return (values.rank("dense").cast(pl.Int64) - 1).to_numpy()


def _all(holds: BoolArray, name: str, expected: str) -> None:
    if not holds.all():
        n = int(np.count_nonzero(~holds))
        raise DataError(f"found {n} {name} that are none, expected {expected}")
