"""Snapshot views: what closed time says about every item, on a grid of whole days."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from features.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from features.events import US_PER_DAY
from features.interactions import Interactions
from features.popularity import USUAL_DAYS, decayed_counts

Table: TypeAlias = nw.LazyFrame[Any]

WINDOWS_DAYS = (1, 7, 14, 30)
FAST_DAYS, WEEK_DAYS, SLOW_DAYS = 2.0, 7.0, 30.0  # half-lives beside the shop's own
STRONG_WEIGHT = 3.0  # events of at least this weight count as engagement, lighter ones as a look
# A rate for each: events of at least this weight among the positive ones.
RATE_WEIGHTS = {"interest": 2.0, "engagement": STRONG_WEIGHT, "commitment": 5.0}
PRIOR_EVENTS = 20.0  # how many average events a new item starts with in each of its rates
NICHE_ITEMS = 20  # a tag of fewer items has no popularity of its own to compare with

SNAPSHOT_VIEWS = (
    "events_1d",
    "events_7d",
    "events_30d",
    "events_all",
    "shoppers_all",
    "trend_7d",
    "weekly_change",
    *(f"{rate}_rate" for rate in RATE_WEIGHTS),
    "dismissal_rate",
    "decayed_popularity",
    "decayed_2d",
    "decayed_7d",
    "decayed_30d",
    "decayed_trend",
    "niche_popularity",
    "niche_share",
    "age_days",
)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Item views at each grid tick: `values[t]` knows events in [-∞, ticks_us[t])."""

    ticks_us: Int64Array  # (n_ticks,), ascending
    values: Float32Array  # (n_ticks, n_items, n_views)
    half_life_days: float = USUAL_DAYS  # of decayed_popularity, which `trending` serves

    def tick_at(self, now_us: Int64Array) -> Int64Array:
        """(n,) index of the last tick ≤ now; the first tick for anything earlier."""
        return np.maximum(np.searchsorted(self.ticks_us, now_us, side="right") - 1, 0)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "ticks_us.npy", self.ticks_us, allow_pickle=False)
        np.save(folder / "values.npy", self.values, allow_pickle=False)
        np.save(folder / "half_life_days.npy", self.half_life_days, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "Snapshots":
        names = ("ticks_us", "values", "half_life_days")
        ticks_us, values, half_life_days = (np.load(folder / f"{name}.npy") for name in names)
        return cls(ticks_us, values, float(half_life_days))


def daily_cells(log: Table) -> Table:
    """Rows (item_row, day, events, dismissed, one column a rate): an item's events of a day."""
    counted = ("events", "dismissed", *RATE_WEIGHTS)
    return log.group_by("item_row", "day").agg(*(nw.col(name).sum() for name in counted))


def window_counts(cells: Table, tick_day: int) -> Table:
    """Rows (item_row, events in each window before the tick, and of all time, each rate's too)."""
    past = cells.filter(nw.col("day") < tick_day)
    for days in WINDOWS_DAYS:
        inside = (nw.col("day") >= tick_day - days).cast(nw.Int64())
        past = past.with_columns((nw.col("events") * inside).alias(f"events_{days}d"))
    return past.group_by("item_row").agg(
        *(nw.col(f"events_{days}d").sum() for days in WINDOWS_DAYS),
        *(nw.col(name).sum() for name in ("dismissed", *RATE_WEIGHTS)),
        events_all=nw.col("events").sum(),
    )


def niches(tags: pl.Series) -> Int32Array:
    """(n_items,) the number of each item's rarest tag that NICHE_ITEMS items have, or -1."""
    each = pl.DataFrame({"tag": tags}).with_row_index("item_row").explode("tag").drop_nulls()
    each = each.with_columns(n=pl.len().over("tag"), niche=pl.col("tag").rank("dense"))
    rarest = (
        each.filter(pl.col("n") >= NICHE_ITEMS).sort("n", "tag").unique("item_row", keep="first")
    )
    out = np.full(len(tags), -1, np.int32)
    out[rarest["item_row"].to_numpy()] = rarest["niche"].to_numpy().astype(np.int32) - 1
    return out


def item_snapshots(
    interactions: Interactions,
    ticks_us: Sequence[int],
    published_at_us: Float64Array,
    niche: Int32Array,
    *,
    half_life_days: float = USUAL_DAYS,
) -> Snapshots:
    """SNAPSHOT_VIEWS of every item at every tick (whole days, ascending).

    `published_at_us` (n_items,) is NaN where unknown; the first event stands in for it. `niche`
    (n_items,) is of `niches`.
    """
    weights = interactions.weights
    log = pl.DataFrame(
        {
            "item_row": interactions.item_rows,
            "user_row": interactions.user_rows,
            "day": interactions.time_us // US_PER_DAY,
            "events": (weights > 0).astype(np.int64),
            "dismissed": (weights < 0).astype(np.int64),
        }
        | {rate: (weights >= least).astype(np.int64) for rate, least in RATE_WEIGHTS.items()}
    )
    cells = daily_cells(nw.from_native(log.lazy())).to_native().collect(engine="streaming")
    positive = log.filter(pl.col("events") > 0)
    first_seen = positive.group_by("item_row", "user_row").agg(pl.col("day").min())
    ticks = np.asarray(ticks_us, np.int64)
    days = (int(tick // US_PER_DAY) for tick in ticks)
    values = [
        _views_at(cells, first_seen, day, published_at_us, niche, half_life_days) for day in days
    ]
    return Snapshots(ticks, np.stack(values), half_life_days)


def _views_at(
    cells: pl.DataFrame,
    first_seen: pl.DataFrame,
    tick_day: int,
    published_at_us: Float64Array,
    niche: Int32Array,
    half_life_days: float,
) -> Float32Array:
    n_items = len(published_at_us)
    counts = window_counts(nw.from_native(cells.lazy()), tick_day).to_native().collect()
    rows = counts["item_row"].to_numpy()

    def column(name: str) -> Float64Array:
        return np.bincount(rows, counts[name].to_numpy(), n_items).astype(np.float64)

    events, week, dismissed = column("events_all"), column("events_7d"), column("dismissed")
    known = first_seen.filter(pl.col("day") < tick_day)
    born_day = published_at_us / US_PER_DAY
    np.fmin.at(born_day, known["item_row"].to_numpy(), known["day"].to_numpy().astype(np.float64))
    past = cells.filter(pl.col("day") < tick_day)
    of_day = [past[name].to_numpy() for name in ("item_row", "day", "events")]
    decayed, fast, weekly, slow = (
        decayed_counts(of_day[0], tick_day - of_day[1], of_day[2], n_items=n_items, half_life=days)
        for days in (half_life_days, FAST_DAYS, WEEK_DAYS, SLOW_DAYS)
    )
    of_niche, share = _in_niche(decayed, niche)
    views = {
        **{f"events_{days}d": np.log1p(column(f"events_{days}d")) for days in (1, 7, 30)},
        "events_all": np.log1p(events),
        "shoppers_all": np.log1p(np.bincount(known["item_row"].to_numpy(), minlength=n_items)),
        "trend_7d": np.log1p(week) - np.log1p(column("events_30d") * 7 / 30),
        "weekly_change": np.log1p(week) - np.log1p(column("events_14d") - week),
        **{f"{rate}_rate": _rate(column(rate), events) for rate in RATE_WEIGHTS},
        "dismissal_rate": _rate(dismissed, events + dismissed),
        "decayed_popularity": np.log1p(decayed),
        "decayed_2d": np.log1p(fast),
        "decayed_7d": np.log1p(weekly),
        "decayed_30d": np.log1p(slow),
        "decayed_trend": np.log1p(fast) - np.log1p(slow * FAST_DAYS / SLOW_DAYS),
        "niche_popularity": np.log1p(of_niche),
        "niche_share": share,
        "age_days": np.log1p(np.maximum(tick_day - born_day, 0.0)),
    }
    return np.stack([views[name] for name in SNAPSHOT_VIEWS], axis=1).astype(np.float32)


def _rate(hits: Float64Array, events: Float64Array) -> Float64Array:
    """The share of hits, as if each item had begun with PRIOR_EVENTS average ones."""
    average = hits.sum() / max(events.sum(), 1.0)
    rate: Float64Array = (hits + PRIOR_EVENTS * average) / (events + PRIOR_EVENTS)
    return rate


def _in_niche(decayed: Float64Array, niche: Int32Array) -> tuple[Float64Array, Float64Array]:
    """Popularity of each item's niche, and the item's share of it; NaN without a niche."""
    known = niche >= 0
    total = np.bincount(niche[known], decayed[known], minlength=1)[niche]
    share = decayed / np.maximum(total, 1e-9)
    return np.where(known, total, np.nan), np.where(known, share, np.nan)
