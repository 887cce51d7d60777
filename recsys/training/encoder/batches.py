"""Shoppers' sequences as contrastive batches: which items to encode and who is whose answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array

DECAY = 0.7  # weight of an item relative to the next one; best of the user models tried on text
HISTORY = 10  # items in a user query; 0.7^10 = 0.03 of the latest one's weight
WINDOW = 20  # items of one shopper in one batch, so that nobody fills it alone
BATCH_ITEMS = 256  # texts encoded per step; about 45 shoppers
MAX_VISITS = 128  # shoppers per step where the catalogue is too small to fill a batch


class Sequenced(Protocol):
    """User u owns `item_rows[indptr[u]:indptr[u + 1]]`, in the order of contact."""

    @property
    def indptr(self) -> Int64Array: ...

    @property
    def item_rows(self) -> Int32Array: ...


@dataclass(frozen=True, slots=True)
class DistinctSequences:
    """Each shopper's items in order of first contact: the next item is never in the history."""

    indptr: Int64Array  # (n_users + 1,)
    item_rows: Int32Array  # (n,)

    @classmethod
    def of(cls, sequences: Sequenced) -> "DistinctSequences":
        n_users = len(sequences.indptr) - 1
        users = np.repeat(np.arange(n_users), np.diff(sequences.indptr))
        width = int(sequences.item_rows.max(initial=0)) + 1
        _, first = np.unique(users * width + sequences.item_rows, return_index=True)
        first.sort()
        counts = np.bincount(users[first], minlength=n_users)
        return cls(np.concatenate([[0], np.cumsum(counts)]), sequences.item_rows[first])

    def items(self, user: int) -> Int32Array:
        return self.item_rows[self.indptr[user] : self.indptr[user + 1]]

    def users_with(self, n_items: int) -> Int64Array:
        return np.flatnonzero(np.diff(self.indptr) >= n_items)


@dataclass(frozen=True, slots=True)
class Visit:
    """A stretch of one shopper's sequence, at most WINDOW items."""

    user: int
    items: Int32Array


@dataclass(frozen=True, slots=True)
class ContrastiveBatch:
    """`weights @ item vectors` are the queries; query i's answer is column `targets[i]`."""

    items: Int64Array  # (m,) unique item rows
    weights: Float32Array  # (q, m) rows sum to 1
    targets: Int64Array  # (q,)
    excluded: BoolArray  # (q, m) the shopper's own items, except the answer


def plan_visits(
    sequences: DistinctSequences, users: Int64Array, *, max_texts: int, rng: np.random.Generator
) -> list[list[Visit]]:
    """Batches of visits that together encode about `max_texts` texts; every user once a round."""
    batches: list[list[Visit]] = []
    batch: list[Visit] = []
    seen: set[int] = set()
    encoded = 0
    for visit in _rounds(sequences, users, rng):
        batch.append(visit)
        seen.update(visit.items.tolist())
        full = len(seen) >= min(BATCH_ITEMS, max_texts - encoded)
        if full or len(batch) >= MAX_VISITS:
            batches.append(batch)
            encoded += len(seen)
            batch, seen = [], set()
        if encoded >= max_texts:
            break
    return batches


def _rounds(
    sequences: DistinctSequences, users: Int64Array, rng: np.random.Generator
) -> Iterator[Visit]:
    while len(users):
        for user in rng.permutation(users):
            items = sequences.items(int(user))
            start = int(rng.integers(max(0, len(items) - WINDOW) + 1))
            yield Visit(int(user), items[start : start + WINDOW])


def build_batch(visits: Sequence[Visit], sequences: DistinctSequences) -> ContrastiveBatch:
    """All next-item questions of the visits over their pooled items."""
    items = np.unique(np.concatenate([visit.items for visit in visits])).astype(np.int64)
    weights, targets, excluded = [], [], []
    for visit in visits:
        columns = np.searchsorted(items, visit.items)
        rows = decayed_weights(len(columns))
        dense = np.zeros((len(rows), len(items)), np.float32)
        dense[:, columns] = rows
        weights.append(dense)
        targets.append(columns[1:])
        own = np.isin(items, sequences.items(visit.user))
        excluded.append(np.broadcast_to(own, dense.shape))
    answer = np.concatenate(targets)
    mask = np.concatenate(excluded)
    mask[np.arange(len(answer)), answer] = False
    return ContrastiveBatch(items, np.concatenate(weights), answer, mask)


def decayed_weights(length: int) -> Float32Array:
    """(length - 1, length): row i weighs items 0..i, the question before item i + 1."""
    age = np.arange(length - 1)[:, None] - np.arange(length)[None, :]
    weights = np.where((age >= 0) & (age < HISTORY), DECAY ** np.maximum(age, 0), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
