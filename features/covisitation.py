"""Co-visitation: which items shoppers take soon after which, counted once as table expressions.

The expressions are narwhals, so that one definition runs on Polars here and on Spark elsewhere;
weights are integers, so that sums do not depend on the engine's order of addition.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from features.arrays import Float32Array, Int32Array, Int64Array
from features.interactions import Interactions

Table: TypeAlias = nw.LazyFrame[Any]

FIXED_POINT = 1 << 20
WEIGHT_STEPS = 16  # event weights are kept to a sixteenth
FOLLOWS_PRIOR = 2  # steps elsewhere that every item starts with: one sighting is no rule
# R@100 (nDCG@10) on Beauty, MovieLens, sample. .5: .2440 (.0620), .2313 (.0479), .2638 (.0374);
# .75: .2445 (.0653), .2277 (.0465), .2630 (.0359); 1: .2445 (.0661), .2213 (.0458), .2580 (.0345).
STEP_POWER = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class CovisitationConfig:
    """Read off validation windows of Beauty, MovieLens and the sample shop, by what 100 find."""

    max_distance: int = 10  # steps apart within one shopper's history
    distance_decay: float = 0.8  # weight of each further step
    backward: float = 0.5  # a pair seen against the order of events counts half
    neighbour_power: float = (
        0.0  # popularity of the neighbour, divided out; .3 found 5 to 13 % less
    )
    item_power: float = 0.5  # popularity of the item itself, divided out
    neighbours: int = 100  # kept for each item


_FILES = ("indptr", "item_rows", "scores", "follows")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Item-to-item lists as CSR: item i owns `indptr[i]:indptr[i + 1]`, best first."""

    indptr: Int64Array
    item_rows: Int32Array
    scores: Float32Array
    follows: Float32Array  # share of the next steps after item i that lead to the neighbour

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "Neighbours":
        """Maps the files: workers of one machine share their pages."""
        mapped = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES)
        return cls(*map(np.asarray, mapped))  # plain views: np.memmap slows every gather

    def of(self, item_row: int) -> tuple[Int32Array, Float32Array]:
        """Items newer than the counts have no neighbours."""
        rows, scores, _ = self.of_all(np.array([item_row], np.int32))
        return rows, scores

    def of_all(self, item_rows: Int32Array) -> tuple[Int32Array, Float32Array, Int64Array]:
        """The lists of several items end to end, and the length of each (n,)."""
        at, sizes = self.places(item_rows)
        return self.item_rows[at], self.scores[at], sizes

    def places(self, item_rows: Int32Array) -> tuple[Int64Array, Int64Array]:
        """Where in the arrays those lists are, and the length of each (n,)."""
        n_items = len(self.indptr) - 1
        known = (item_rows >= 0) & (item_rows < n_items)
        first = self.indptr[np.where(known, item_rows, 0)]
        sizes = np.where(known, self.indptr[np.where(known, item_rows, -1) + 1] - first, 0)
        begins = np.cumsum(sizes) - sizes
        at = np.repeat(first - begins, sizes) + np.arange(int(sizes.sum()))
        return at, sizes


def step_weights(length: int) -> Float32Array:
    """(length,) oldest first: the lists of the event k steps back count (1 + k)^-STEP_POWER."""
    steps = np.arange(length, 0, -1, dtype=np.float32)
    return np.asarray(steps**-STEP_POWER, np.float32)


def positions(interactions: Interactions) -> pl.DataFrame:
    """Positive events numbered within each user, in the columns `pair_weights` takes.

    Consecutive events on one item (view, click, cart) are one step with the strongest weight.
    """
    log = interactions.positive()
    begins = np.ones(len(log), np.bool_)
    begins[1:] = (log.user_rows[1:] != log.user_rows[:-1]) | (
        log.item_rows[1:] != log.item_rows[:-1]
    )
    strongest = (
        np.maximum.reduceat(log.weights, np.flatnonzero(begins)) if len(log) else log.weights
    )
    log = log.where(begins)
    return pl.DataFrame(
        {
            "user_row": log.user_rows,
            "position": np.arange(len(log), dtype=np.int64) - log.indptr[log.user_rows],
            "item_row": log.item_rows,
            "weight": np.round(strongest * WEIGHT_STEPS).astype(np.int64),
        }
    )


def pair_weights(steps: Table, config: CovisitationConfig) -> Table:
    """Rows (item_row, neighbour_row, weight): fixed-point weight of every ordered pair.

    `steps` has user_row, position, item_row, weight. A pair d steps apart counts
    decay^(d-1) times the weight of the action on the neighbour.
    """
    later = steps.select(
        "user_row",
        "position",
        neighbour_row=nw.col("item_row"),
        neighbour_weight=nw.col("weight"),
    )
    parts = []
    for distance in range(1, config.max_distance + 1):
        decay = round(FIXED_POINT * config.distance_decay ** (distance - 1))
        pairs = steps.with_columns(position=nw.col("position") + distance).join(
            later, on=["user_row", "position"]
        )
        forward = pairs.select(
            "item_row", "neighbour_row", weight=nw.col("neighbour_weight") * decay
        )
        backward = pairs.select(
            item_row=nw.col("neighbour_row"),
            neighbour_row=nw.col("item_row"),
            weight=nw.col("weight") * round(decay * config.backward),
        )
        parts += [_summed(forward), _summed(backward)]
    return _summed(nw.concat(parts)).filter(nw.col("item_row") != nw.col("neighbour_row"))


def _summed(pairs: Table) -> Table:
    return pairs.group_by("item_row", "neighbour_row").agg(nw.col("weight").sum())


def fit_covisitation(
    interactions: Interactions, n_items: int, config: CovisitationConfig
) -> Neighbours:
    """Score(i → j) = pair weight / (count_j^neighbour_power · count_i^item_power), top lists."""
    return lists_of(positions(interactions), n_items, config)


def lists_of(
    steps: pl.DataFrame, n_items: int, config: CovisitationConfig, *, least: int = 0
) -> Neighbours:
    """Of `steps` as of `positions`; pairs of less than the fixed-point weight `least` are none."""
    pairs = (
        pair_weights(nw.from_native(steps.lazy()), config)
        .filter(nw.col("weight") >= least)
        .to_native()
        .collect(engine="streaming")
    )
    counts = np.maximum(np.bincount(steps["item_row"].to_numpy(), minlength=n_items), 1)
    item = pairs["item_row"].to_numpy()
    neighbour = pairs["neighbour_row"].to_numpy()
    score = (
        pairs["weight"].to_numpy()
        / (WEIGHT_STEPS * FIXED_POINT)
        / counts[neighbour] ** config.neighbour_power
        / counts[item] ** config.item_power
    )
    order = np.lexsort((neighbour, -score, item))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=n_items))])
    rank = np.arange(len(order)) - indptr[item[order]]
    kept = order[rank < config.neighbours]
    sizes = np.bincount(item[kept], minlength=n_items)
    return Neighbours(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        neighbour[kept].astype(np.int32),
        score[kept].astype(np.float32),
        _follows(steps, counts, item[kept], neighbour[kept]),
    )


def _follows(
    steps: pl.DataFrame, counts: Int64Array, item: Int64Array, neighbour: Int64Array
) -> Float32Array:
    """Of each pair, (steps from item right to neighbour) / (steps of item + FOLLOWS_PRIOR)."""
    users, rows = steps["user_row"].to_numpy(), steps["item_row"].to_numpy().astype(np.int64)
    goes_on = users[1:] == users[:-1]
    n_items = len(counts)
    moves, n = np.unique((rows[:-1] * n_items + rows[1:])[goes_on], return_counts=True)
    if len(moves) == 0:
        return np.zeros(len(item), np.float32)
    wanted = item.astype(np.int64) * n_items + neighbour
    at = np.minimum(np.searchsorted(moves, wanted), len(moves) - 1)
    times = np.where(moves[at] == wanted, n[at], 0)
    return np.asarray(times / (counts[item] + FOLLOWS_PRIOR), np.float32)
