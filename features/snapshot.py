"""Snapshot views: what closed time says about every item, on a grid of whole days."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from features.arrays import Float32Array, Float64Array, Int64Array
from features.events import US_PER_DAY
from features.interactions import Interactions

Table: TypeAlias = nw.LazyFrame[Any]

WINDOWS_DAYS = (1, 7, 30)
HALF_LIFE_DAYS = 7.0  # of the popularity that `trending` serves
STRONG_WEIGHT = 3.0  # events of at least this weight count as engagement, lighter ones as a look
PRIOR_EVENTS = 20.0  # how many average events a new item starts with in its engagement rate

SNAPSHOT_VIEWS = (
    "events_1d",
    "events_7d",
    "events_30d",
    "events_all",
    "shoppers_all",
    "trend_7d",
    "engagement_rate",
    "decayed_popularity",
    "age_days",
)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Item views at each grid tick: `values[t]` knows events in [-∞, ticks_us[t])."""

    ticks_us: Int64Array  # (n_ticks,), ascending
    values: Float32Array  # (n_ticks, n_items, n_views)

    def tick_at(self, now_us: Int64Array) -> Int64Array:
        """(n,) index of the last tick ≤ now; the first tick for anything earlier."""
        return np.maximum(np.searchsorted(self.ticks_us, now_us, side="right") - 1, 0)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "ticks_us.npy", self.ticks_us, allow_pickle=False)
        np.save(folder / "values.npy", self.values, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "Snapshots":
        return cls(np.load(folder / "ticks_us.npy"), np.load(folder / "values.npy"))


def daily_cells(log: Table) -> Table:
    """Rows (item_row, day, events, strong): positive events of an item on a day."""
    return log.group_by("item_row", "day").agg(
        events=nw.len().cast(nw.Int64()), strong=nw.col("is_strong").sum()
    )


def window_counts(cells: Table, tick_day: int) -> Table:
    """Rows (item_row, events in each window before the tick, all events, strong events)."""
    past = cells.filter(nw.col("day") < tick_day)
    for days in WINDOWS_DAYS:
        inside = (nw.col("day") >= tick_day - days).cast(nw.Int64())
        past = past.with_columns((nw.col("events") * inside).alias(f"events_{days}d"))
    return past.group_by("item_row").agg(
        *(nw.col(f"events_{days}d").sum() for days in WINDOWS_DAYS),
        events_all=nw.col("events").sum(),
        strong_all=nw.col("strong").sum(),
        first_day=nw.col("day").min(),
    )


def item_snapshots(
    interactions: Interactions, ticks_us: Sequence[int], published_at_us: Float64Array
) -> Snapshots:
    """SNAPSHOT_VIEWS of every item at every tick (whole days, ascending).

    `published_at_us` (n_items,) is NaN where unknown; the first event stands in for it.
    """
    positive = interactions.positive()
    log = pl.DataFrame(
        {
            "item_row": positive.item_rows,
            "user_row": positive.user_rows,
            "day": positive.time_us // US_PER_DAY,
            "is_strong": (positive.weights >= STRONG_WEIGHT).astype(np.int64),
        }
    )
    cells = daily_cells(nw.from_native(log.lazy())).to_native().collect(engine="streaming")
    first_seen = log.group_by("item_row", "user_row").agg(pl.col("day").min())
    ticks = np.asarray(ticks_us, np.int64)
    values = [
        _views_at(cells, first_seen, int(tick // US_PER_DAY), published_at_us) for tick in ticks
    ]
    return Snapshots(ticks, np.stack(values))


def _views_at(
    cells: pl.DataFrame, first_seen: pl.DataFrame, tick_day: int, published_at_us: Float64Array
) -> Float32Array:
    n_items = len(published_at_us)
    counts = window_counts(nw.from_native(cells.lazy()), tick_day).to_native().collect()
    rows = counts["item_row"].to_numpy()

    def column(name: str, missing: float = 0.0) -> Float64Array:
        out = np.full(n_items, missing)
        out[rows] = counts[name].to_numpy()
        return out

    events = column("events_all")
    strong = column("strong_all")
    average_rate = strong.sum() / max(events.sum(), 1.0)
    known = first_seen.filter(pl.col("day") < tick_day)["item_row"].to_numpy()
    born_day = np.fmin(published_at_us / US_PER_DAY, column("first_day", np.nan))
    return np.stack(
        [
            *(np.log1p(column(f"events_{days}d")) for days in WINDOWS_DAYS),
            np.log1p(events),
            np.log1p(np.bincount(known, minlength=n_items)),
            np.log1p(column("events_7d")) - np.log1p(column("events_30d") * 7 / 30),
            (strong + PRIOR_EVENTS * average_rate) / (events + PRIOR_EVENTS),
            np.log1p(_decayed(cells, tick_day, n_items)),
            np.log1p(np.maximum(tick_day - born_day, 0.0)),
        ],
        axis=1,
    ).astype(np.float32)


def _decayed(cells: pl.DataFrame, tick_day: int, n_items: int) -> Float64Array:
    """Σ events · 2^(-age / half-life); a year ago still counts a little, so nothing is all zero."""
    past = cells.filter(pl.col("day") < tick_day)
    age = tick_day - past["day"].to_numpy()
    weight = np.exp2(-np.minimum(age, 365) / HALF_LIFE_DAYS) + 1e-6
    weighted: Float64Array = past["events"].to_numpy() * weight
    return np.bincount(past["item_row"].to_numpy(), weighted, minlength=n_items).astype(np.float64)
