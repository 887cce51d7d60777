"""Shoppers' next-item questions for a map of all items, where an item costs a row and no text."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import BoolArray, Float32Array, Int64Array
from recsys.training.encoder.batches import WINDOW, decayed_weights
from recsys.training.encoder.sequences import DistinctSequences


@dataclass(frozen=True, slots=True)
class MapBatch:
    """`weights @` the first h item vectors are the queries; query i's answer is `targets[i]`."""

    items: Int64Array  # (m,) distinct item rows: h that shoppers met, then the drawn ones
    weights: Float32Array  # (q, h) rows sum to 1
    targets: Int64Array  # (q,)
    excluded: BoolArray  # (q, m) the shopper's own items, except the answer
    question_weights: Float32Array  # (q,) sum to q


@dataclass(frozen=True, slots=True)
class MapQuestions:
    """Batches of about `per_batch` questions, of whole shoppers, over and over again."""

    sequences: DistinctSequences
    users: Int64Array
    per_batch: int
    negatives: int

    @property
    def n_questions(self) -> int:
        """Asked in one round."""
        return int(self._counts(self.users).sum())

    def batches(self, rng: np.random.Generator) -> Iterator[MapBatch]:
        """Without end, unless there are no users; every one of them once a round."""
        known = np.unique(self.sequences.item_rows).astype(np.int64)
        column = np.full(int(known.max(initial=-1)) + 1, -1, np.int64)
        while len(self.users):
            users = rng.permutation(self.users)
            n_before = np.cumsum(self._counts(users)) - 1
            of_batch = n_before // self.per_batch
            for _, batch in itertools.groupby(range(len(users)), key=lambda i: int(of_batch[i])):
                yield self._batch(users[list(batch)], known, column, rng)

    def _counts(self, users: Int64Array) -> Int64Array:
        indptr = self.sequences.indptr
        counts: Int64Array = np.minimum(indptr[users + 1] - indptr[users], WINDOW) - 1
        return counts

    def _batch(
        self, users: Int64Array, known: Int64Array, column: Int64Array, rng: np.random.Generator
    ) -> MapBatch:
        """`column` is room to look items up in, all -1 before and after."""
        stretches = [self._stretch(int(user), rng) for user in users]
        met = np.unique(self.sequences.item_rows[np.concatenate(stretches)]).astype(np.int64)
        drawn = known[rng.choice(len(known), min(self.negatives, len(known)), replace=False)]
        items = np.concatenate([met, np.setdiff1d(drawn, met)])
        column[items] = np.arange(len(items))
        weights, targets, own = [], [], []
        for user, stretch in zip(users, stretches, strict=True):
            columns = column[self.sequences.item_rows[stretch]]
            rows = decayed_weights(len(columns))
            dense = np.zeros((len(rows), len(met)), np.float32)
            dense[:, columns] = rows
            weights.append(dense)
            targets.append(columns[1:])
            everything = column[self.sequences.items(int(user))]
            mask = np.zeros(len(items), bool)
            mask[everything[everything >= 0]] = True
            own.append(np.broadcast_to(mask, (len(rows), len(items))))
        column[items] = -1
        return MapBatch(
            items,
            np.concatenate(weights),
            np.concatenate(targets),
            _except_answers(np.concatenate(own), np.concatenate(targets)),
            self._question_weights(stretches),
        )

    def _stretch(self, user: int, rng: np.random.Generator) -> Int64Array:
        """Positions of at most WINDOW consecutive events."""
        first, end = self.sequences.indptr[user : user + 2]
        start = int(rng.integers(first, max(first, end - WINDOW) + 1))
        return np.arange(start, min(start + WINDOW, end))

    def _question_weights(self, stretches: Sequence[Int64Array]) -> Float32Array:
        answers = np.concatenate([stretch[1:] for stretch in stretches])
        weights = self.sequences.weights[answers]
        return np.asarray(weights * (len(weights) / weights.sum()), np.float32)


def _except_answers(own: BoolArray, targets: Int64Array) -> BoolArray:
    own[np.arange(len(targets)), targets] = False
    return own
