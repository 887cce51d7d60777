"""What the sample shop showed before anyone learned anything, with exact propensities."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array, Int32Array, Int64Array
from features.events import US_PER_DAY
from jobs.sample.storefront import Storefront
from jobs.sample.taxonomy import CATEGORIES
from jobs.sample.world import SLATE_LENGTH

POPULAR, RANDOM, SIMILAR = 0.5, 0.2, 0.3  # how often a slot is filled by each
_C = len(CATEGORIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingPolicy:
    """The catalogue of one day dealt into SLATE_LENGTH pools, sorted by (pool, category).

    Each position of a slate draws from a pool of its own and the pools rotate by a random step,
    so that no item is shown twice and every propensity is exact: 1/SLATE_LENGTH that the pool has
    the position, times the mixture's probability of the item within its pool.
    """

    items: Int32Array  # rows on the shelves
    pool_start: Int64Array  # (pools + 1,)
    cell_start: Int64Array  # (pools * categories + 1,)
    popularity: Float64Array  # (n,) share within the pool
    popularity_cdf: Float64Array  # (n,) pool number + cumulative share within it
    category: Int64Array  # (n,) of `items`

    @classmethod
    def of_day(cls, storefront: Storefront, day: int) -> "LoggingPolicy":
        """Popularity follows an item's quality and fades with its age: blind to taste."""
        catalogue = storefront.catalogue
        now_us = storefront.day_start_us(day)
        rows = np.arange(catalogue.n_arrived(now_us))
        pool, category = rows % SLATE_LENGTH, catalogue.category[rows]
        order = np.argsort(pool * _C + category, kind="stable")
        rows, cell = rows[order], (pool * _C + category)[order]
        age_days = (now_us - catalogue.arrival_us[rows]) / US_PER_DAY
        weight = np.exp(1.0 * catalogue.quality[rows]) * (0.5 + 0.5 ** (age_days / 60))
        totals = np.bincount(pool[order], weight, minlength=SLATE_LENGTH)
        popularity = weight / totals[pool[order]]
        starts = np.searchsorted(cell, np.arange(SLATE_LENGTH * _C + 1))
        pool_start = starts[::_C]
        before = np.concatenate([[0.0], np.cumsum(popularity)])
        cdf = before[1:] - before[pool_start[pool[order]]] + pool[order]
        return cls(
            items=rows.astype(np.int32),
            pool_start=pool_start,
            cell_start=starts,
            popularity=popularity,
            popularity_cdf=cdf,
            category=catalogue.category[rows],
        )

    def slates(
        self, context: Int64Array, rng: np.random.Generator
    ) -> tuple[Int32Array, Float64Array]:
        """(n, SLATE_LENGTH) item rows and propensities.

        `context` (n,) is the category a visit came from, or -1; without one, or where the pool
        has nothing of the category, "similar" means any item.
        """
        n = len(context)
        pools = (np.arange(SLATE_LENGTH) + rng.integers(SLATE_LENGTH, size=(n, 1))) % SLATE_LENGTH
        pick, u = rng.random((n, SLATE_LENGTH)), rng.random((n, SLATE_LENGTH))
        start, stop = self.pool_start[pools], self.pool_start[pools + 1]
        cell = pools * _C + context[:, None]
        has_similar = (context[:, None] >= 0) & (self.cell_start[cell + 1] > self.cell_start[cell])
        near_start = np.where(has_similar, self.cell_start[cell], start)
        near_stop = np.where(has_similar, self.cell_start[cell + 1], stop)
        similar = pick >= POPULAR + RANDOM
        low, high = np.where(similar, near_start, start), np.where(similar, near_stop, stop)
        place = low + (u * (high - low)).astype(np.int64)
        popular = pick < POPULAR
        drawn = np.searchsorted(self.popularity_cdf, (pools + u)[popular], side="right")
        place[popular] = np.clip(drawn, start[popular], stop[popular] - 1)
        is_near = (place >= near_start) & (place < near_stop)
        chance = (
            POPULAR * self.popularity[place]
            + RANDOM / (stop - start)
            + SIMILAR * is_near / (near_stop - near_start)
        )
        return self.items[place], chance / SLATE_LENGTH
