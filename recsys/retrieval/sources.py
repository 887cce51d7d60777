"""The candidate sources: each answers queries with items and its own score for them."""

from dataclasses import dataclass

import numpy as np

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array
from features.covisitation import Neighbours, step_weights
from features.events import US_PER_DAY
from features.history import STEP_DECAY
from features.snapshot import SNAPSHOT_VIEWS, Snapshots
from recsys.retrieval.collaborative import FactorModel
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.sequence import SequenceModel
from recsys.types import Queries, Retrieved

FRESH_DAYS = 30.0  # how long an item counts as new
MOST_FRESH = 2000  # newest items compared with the shopper's taste: 2 MB of vectors a request
MOST_ALLOWED = 0.5  # of them; where a filter lets fewer pass, it looks further back for as many


def taste_weights(queries: Queries, type_weights: Float32Array) -> Float32Array:
    """(n, length) weight of each history slot: STEP_DECAY a step back, times its event type's.

    Aversion keeps its sign; empty slots are 0; |weights| of a shopper sum to 1.
    """
    length = queries.history_rows.shape[1]
    decay = STEP_DECAY ** np.arange(length)[::-1].astype(np.float32)
    return _weighted(queries, decay, type_weights)


def liking_weights(queries: Queries, type_weights: Float32Array) -> Float32Array:
    """(n, length) as `taste_weights`, with the slower decay of `step_weights`; aversion is 0.

    What is liked sums to 1 whatever was disliked, as in the means the map from histories learned.
    """
    decay = step_weights(queries.history_rows.shape[1])
    return _weighted(queries, decay, np.maximum(type_weights, np.float32(0.0)))


def _weighted(queries: Queries, decay: Float32Array, type_weights: Float32Array) -> Float32Array:
    weights = decay * type_weights[queries.history_types] * (queries.history_rows >= 0)
    total = np.abs(weights).sum(axis=1, keepdims=True)
    return np.asarray(weights / np.maximum(total, 1e-9), np.float32)


def taste_vectors(
    queries: Queries, vectors: Float32Array, type_weights: Float32Array
) -> Float32Array:
    """(n, d) decayed mean of the vectors of the history's items; zero for an empty history."""
    if len(vectors) == 0:
        return np.zeros((len(queries), vectors.shape[1]), np.float32)
    weights = taste_weights(queries, type_weights)
    slots = vectors[np.maximum(queries.history_rows, 0)]
    return np.asarray(np.einsum("nl,nld->nd", weights, slots), np.float32)


def _nothing(n_queries: int, n: int) -> Retrieved:
    return Retrieved(
        np.full((n_queries, n), -1, np.int32), np.full((n_queries, n), np.nan, np.float32)
    )


def _search(index: VectorIndex, vectors: Float32Array, n: int, queries: Queries) -> Retrieved:
    """Queries without a vector get no answer rather than an arbitrary one."""
    rows, scores = index.search(vectors, n, queries.allowed)
    silent = ~np.any(vectors, axis=1)
    rows[silent] = -1
    scores[silent] = np.nan
    return Retrieved(rows, scores, vectors)


@dataclass(frozen=True, slots=True)
class NextItem:
    """The sequence model's guess at the next item."""

    model: SequenceModel
    type_weights: Float32Array
    name: str = "next_item"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        liked = self.type_weights[queries.history_types] > 0  # as in its training
        vectors = self.model.user_vectors(np.where(liked, queries.history_rows, np.int32(-1)))
        return _search(self.model.index, vectors, n, queries)


@dataclass(frozen=True, slots=True)
class SimilarText:
    """Items whose words are near those of the shopper's last items."""

    index: VectorIndex
    type_weights: Float32Array
    name: str = "similar_text"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        vectors = taste_vectors(queries, self.index.vectors, self.type_weights)
        return _search(self.index, vectors, n, queries)


@dataclass(frozen=True, slots=True)
class Collaborative:
    """LightFM's item factors against where the history places the shopper among them.

    Shoppers without a history keep the factors of their training; of strangers it says nothing.
    """

    model: FactorModel
    type_weights: Float32Array
    name: str = "collaborative"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        vectors = self.model.user_vectors(queries.user_rows)
        items = self.model.index.vectors
        if len(items):
            weights = liking_weights(queries, self.type_weights)
            slots = items[np.maximum(queries.history_rows, 0)]
            placed = self.model.vectors_from_history(np.einsum("nl,nld->nd", weights, slots))
            vectors = np.where(placed.any(axis=1, keepdims=True), placed, vectors)
        return _search(self.model.index, vectors, n, queries)


@dataclass(frozen=True, slots=True)
class CoVisited:
    """Items that others took soon after the shopper's last items."""

    neighbours: Neighbours
    type_weights: Float32Array
    name: str = "co_visited"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        answer = _nothing(len(queries), n)
        weights = liking_weights(queries, self.type_weights)
        for query, history in enumerate(queries.history_rows):
            rows, scores = self._merged(history, weights[query])
            if queries.allowed is not None and len(rows):
                keep = queries.allowed[rows]
                rows, scores = rows[keep], scores[keep]
            best = np.lexsort((rows, -scores))[:n]
            answer.item_rows[query, : len(best)] = rows[best]
            answer.scores[query, : len(best)] = scores[best]
        return answer

    def _merged(
        self, history: Int32Array, weights: Float32Array
    ) -> tuple[Int32Array, Float64Array]:
        """Σ over history items of weight · list score, by item."""
        slots = np.flatnonzero(weights > 0)
        rows, scores, sizes = self.neighbours.of_all(history[slots])
        scores = scores * np.repeat(weights[slots], sizes)
        unique, inverse = np.unique(rows, return_inverse=True)
        summed = np.bincount(inverse, scores, len(unique))
        return unique.astype(np.int32), summed.astype(np.float64)


class Trending:
    """The same answer for everybody who asks on a day: time-decayed popularity at its snapshot."""

    name = "trending"

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._popularity = snapshots.values[:, :, SNAPSHOT_VIEWS.index("decayed_popularity")]
        self._order_at: dict[int, Int32Array] = {}  # by tick, most popular first

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        answer = _nothing(len(queries), n)
        ticks = self._snapshots.tick_at(queries.now_us)
        for tick in np.unique(ticks):
            best = self._first(int(tick), queries.allowed, n)
            best = best[best < self._popularity.shape[1]]
            answer.item_rows[ticks == tick, : len(best)] = best
            answer.scores[ticks == tick, : len(best)] = self._popularity[tick, best]
        return answer

    def first(self, allowed: BoolArray, n: int) -> Int32Array:
        """The n now most popular allowed rows, then rows that came after the last snapshot."""
        return self._first(len(self._popularity) - 1, allowed, n)

    def _first(self, tick: int, allowed: BoolArray | None, n: int) -> Int32Array:
        """Looks no further down the order than it has to."""
        order = self._order(tick)
        if allowed is None:
            return order[:n]
        span = 4 * n
        while True:
            kept = order[:span][allowed[order[:span]]]
            if len(kept) >= n:
                return kept[:n]
            if span >= len(order):
                newer = len(order) + np.flatnonzero(allowed[len(order) :])
                return np.concatenate([kept, newer.astype(np.int32)])[:n]
            span *= 4

    def _order(self, tick: int) -> Int32Array:
        if tick not in self._order_at:
            order = np.argsort(-self._popularity[tick], kind="stable")
            self._order_at[tick] = order.astype(np.int32)
        return self._order_at[tick]


class NewItems:
    """Fresh items nearest to the shopper's taste; the freshest where no taste is known."""

    name = "new_items"

    def __init__(
        self, index: VectorIndex, published_at_us: Float64Array, type_weights: Float32Array
    ) -> None:
        self._index = index
        self._type_weights = type_weights
        self.arrived(published_at_us)

    def arrived(self, published_at_us: Float64Array) -> None:
        """Take the catalogue's publication times (n_items,), NaN where unknown."""
        known = np.flatnonzero(np.isfinite(published_at_us))
        oldest_first = known[np.argsort(published_at_us[known], kind="stable")]
        self._rows = oldest_first.astype(np.int32)
        self._published_us = published_at_us[oldest_first]
        self._newest: tuple[int, int, Int32Array, Float32Array] | None = None

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        answer = _nothing(len(queries), n)
        taste = taste_vectors(queries, self._index.vectors, self._type_weights)
        rows, published = self._rows, self._published_us
        first = np.searchsorted(published, queries.now_us - FRESH_DAYS * US_PER_DAY)
        stop = np.searchsorted(published, queries.now_us, side="right")
        for query, (start, end) in enumerate(zip(first, stop, strict=True)):
            fresh, vectors = self._newest_of(int(start), int(end))
            if queries.allowed is not None:
                keep = queries.allowed[fresh]
                if np.count_nonzero(keep) < MOST_ALLOWED * len(fresh):
                    older = rows[start:end][::-1]
                    fresh = older[queries.allowed[older]][:MOST_FRESH]
                    vectors = self._index.vectors[fresh]
                elif not keep.all():
                    fresh, vectors = fresh[keep], vectors[keep]
            scores = vectors @ taste[query]
            best = np.argsort(-scores, kind="stable")[:n]
            answer.item_rows[query, : len(best)] = fresh[best]
            answer.scores[query, : len(best)] = scores[best]
        return answer

    def _newest_of(self, start: int, end: int) -> tuple[Int32Array, Float32Array]:
        """Rows and vectors, newest first, which decides among equals; those of now are kept."""
        newest = self._newest
        if newest is None or newest[:2] != (start, end):
            rows = self._rows[start:end][::-1][:MOST_FRESH]
            newest = self._newest = (start, end, rows, self._index.vectors[rows])
        return newest[2:]
