"""Next items by vectors alone: a shopper is the decayed mean of what they took.

The text-only protocol: every other item is ranked by its cosine with that mean, what the shopper
already has is out of the running.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from features.history import STEP_DECAY
from recsys.evaluation.metrics import RowSets, full_ranking
from recsys.training.encoder.sequences import DistinctSequences

BLOCK = 1_024  # shoppers at a time: (BLOCK, n_items) scores


@dataclass(frozen=True, slots=True)
class NextItems:
    """Shoppers' items, oldest first, and what they took next."""

    histories: RowSets
    targets: Int32Array  # (n,)

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def last(cls, sequences: DistinctSequences, since_us: int | None = None) -> "NextItems":
        """Everybody's last item after all their others; shoppers of one item are left out.

        With `since_us`, only of shoppers who first met that item then or later.
        """
        users = sequences.users_with(2) if since_us is None else sequences.users_since(since_us)
        ends = sequences.indptr[users + 1]
        lengths = ends - 1 - sequences.indptr[users]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        offsets = np.repeat(sequences.indptr[users] - indptr[:-1], lengths)
        rows = sequences.item_rows[np.arange(indptr[-1]) + offsets]
        return cls(RowSets(indptr, rows), sequences.item_rows[ends - 1])

    def take(self, users: Int64Array) -> "NextItems":
        owned = [self.histories.indptr[users], self.histories.indptr[users + 1]]
        rows = [self.histories.rows[a:b] for a, b in zip(*owned, strict=True)]
        indptr = np.concatenate([[0], np.cumsum(owned[1] - owned[0])])
        kept = np.concatenate([np.empty(0, np.int32), *rows])
        return NextItems(RowSets(indptr, kept), self.targets[users])


@dataclass(frozen=True, slots=True)
class Ranking:
    """What vectors alone would show: `ranks` from 0 of the targets, and the best `k` rows."""

    ranks: Int64Array  # (n,) -1 where the target was not ranked
    top: Int32Array  # (n, k)
    n_ranked: Int64Array  # (n,) items in the running

    @property
    def percentiles(self) -> Float64Array:
        """(n,) share of the other items that the target is put before; half of them by chance."""
        share = 1 - self.ranks / np.maximum(self.n_ranked - 1, 1)
        return np.where(self.ranks < 0, 0.0, share)

    @property
    def gains(self) -> Float64Array:
        """(n,) nDCG of each target without a cut-off: 1 / log₂(rank + 1), ranks from 1."""
        return np.where(self.ranks < 0, 0.0, 1 / np.log2(np.maximum(self.ranks, 0) + 2))


def tastes(vectors: Float32Array, histories: RowSets) -> Float32Array:
    """(n_users, d) STEP_DECAY^age-weighted means of unit rows `vectors` (n_items, d)."""
    ends = np.repeat(histories.indptr[1:], np.diff(histories.indptr))
    weights = STEP_DECAY ** (ends - 1 - np.arange(len(histories.rows), dtype=np.float64))
    shape = (len(histories), len(vectors))
    mixed = sparse.csr_array((weights, histories.rows, histories.indptr), shape=shape) @ vectors
    return np.asarray(mixed, np.float32)


def target_ranks(
    vectors: Float32Array, asked: NextItems, among: BoolArray | None = None
) -> Int64Array:
    """(n,) rank from 0 of each target among the items `among` (n_items,), or among all."""
    parts = [ranks for ranks, _ in _blocks(vectors, asked, among)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def rank_next_items(vectors: Float32Array, asked: NextItems, *, k: int = 10) -> Ranking:
    ranks, top = [np.empty(0, np.int64)], [np.empty((0, k), np.int32)]
    for block_ranks, scores in _blocks(vectors, asked, None):
        best = np.argpartition(scores, -k, axis=1)[:, -k:] if k < scores.shape[1] else None
        ranks.append(block_ranks)
        top.append(_ordered(scores, best, k))
    n_ranked = len(vectors) - np.diff(asked.histories.indptr)
    return Ranking(np.concatenate(ranks), np.concatenate(top), n_ranked)


def _blocks(
    vectors: Float32Array, asked: NextItems, among: BoolArray | None
) -> Iterator[tuple[Int64Array, Float32Array]]:
    """Ranks of the targets and scores (b, n_items), -inf where out of the running."""
    mixed = tastes(vectors, asked.histories)
    for start in range(0, len(asked), BLOCK):
        users = np.arange(start, min(start + BLOCK, len(asked)))
        part = asked.take(users)
        scores = mixed[users] @ vectors.T
        if among is not None:
            scores[:, ~among] = -np.inf
        scores[part.histories.owners(), part.histories.rows] = -np.inf
        yield full_ranking(scores, part.histories, part.targets), scores


def _ordered(scores: Float32Array, best: Int64Array | None, k: int) -> Int32Array:
    """(b, k) rows by score, padded with -1 where fewer items are in the running."""
    rows = np.broadcast_to(np.arange(scores.shape[1]), scores.shape) if best is None else best
    found = np.take_along_axis(scores, rows, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    ranked = np.where(np.isinf(found), -1, rows)
    out = np.full((len(scores), k), -1, np.int32)
    out[:, : order.shape[1]] = np.take_along_axis(ranked, order, 1)[:, :k]
    return out
