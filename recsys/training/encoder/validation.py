"""Does an encoder find the next item of shoppers that its tuning has not seen?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float32Array, Int64Array
from recsys.training.encoder.batches import WINDOW, Visit, decayed_weights
from recsys.training.encoder.sequences import DistinctSequences

MAX_SCORES = 16_000_000  # 64 MB; a product per shopper took 7.5 s for Beauty's 1,000


def held_out_users(
    sequences: DistinctSequences, texts: Sequence[str], *, share: float, most: int
) -> Int64Array:
    """About `share` of the shoppers with two items, 1 to `most` of them, at most every second one.

    They are the same ones every night: who, depends only on a shopper's first contact and on what
    the first two items say, as rows of shoppers and items shift. An encoder that goes on learning
    must not be judged by shoppers whom it learned from last week.
    """
    users = sequences.users_with(2)
    start = sequences.indptr[users]
    rows = sequences.item_rows
    read = pl.Series(texts, dtype=pl.String)
    beginnings = pl.DataFrame(
        {"at": sequences.time_us[start], "first": read[rows[start]], "next": read[rows[start + 1]]}
    )
    lots = beginnings.hash_rows(seed=0).to_numpy()
    drawn = max(1, int((lots < share * 2.0**64).sum()))
    chosen = np.argsort(lots, kind="stable")[: min(drawn, most, len(users) // 2)]
    return np.sort(users[chosen])


@dataclass(frozen=True, slots=True)
class Recalls:
    """Shares of next items found, and of how many; None where nothing was asked."""

    all: float
    n: int
    new: float | None = None
    n_new: int = 0
    old: float | None = None
    n_old: int = 0


@dataclass(frozen=True, slots=True)
class Validation:
    """The next-item questions of shoppers held out of training, however strong their events."""

    visits: Sequence[Visit]
    is_new: BoolArray | None  # (questions,) in order of visits; None where nothing counts as new

    @classmethod
    def of(
        cls, sequences: DistinctSequences, users: Int64Array, since_us: int | None = None
    ) -> "Validation":
        """The latest stretch of each of `users`.

        A question is new where nobody at all had met its answer before `since_us`.
        """
        visits = [
            Visit(
                int(user),
                sequences.items(int(user))[-WINDOW:],
                sequences.weights_of(int(user))[-WINDOW:],
            )
            for user in users
        ]
        if since_us is None:
            return cls(visits, None)
        known = np.zeros(int(sequences.item_rows.max(initial=-1)) + 1, bool)
        known[sequences.item_rows[sequences.time_us < since_us]] = True
        answers = [visit.items[1:] for visit in visits]
        return cls(visits, ~known[np.concatenate([np.empty(0, np.int32), *answers])])

    @property
    def items(self) -> Int64Array:
        """Distinct item rows that need vectors, ascending; others may be ranked as well."""
        met = [visit.items for visit in self.visits]
        return np.unique(np.concatenate([np.empty(0, np.int64), *met]))

    def recall(self, vectors: Float32Array, cached_row: Int64Array, *, k: int = 10) -> Recalls:
        """Recall@k over all rows of `vectors` but those the shopper had met.

        `vectors` (n, d) are unit rows of the items that `cached_row` maps to. Ties count against
        the encoder, so equal vectors find nothing.
        """
        stretches = [cached_row[visit.items] for visit in self.visits]
        at_once = max(1, MAX_SCORES // (WINDOW * max(1, len(vectors))))
        ahead = [
            _ahead(vectors, stretches[start : start + at_once])
            for start in range(0, len(stretches), at_once)
        ]
        found = np.concatenate([np.empty(0, np.int64), *ahead]) < k
        everything, n = _share(found)
        if self.is_new is None:
            return Recalls(everything or 0.0, n)
        new, n_new = _share(found[self.is_new])
        old, n_old = _share(found[~self.is_new])
        return Recalls(everything or 0.0, n, new, n_new, old, n_old)


def _ahead(vectors: Float32Array, stretches: Sequence[Int64Array]) -> Int64Array:
    """(questions,) how many unmet items score at least as high as each next one."""
    queries = np.concatenate([decayed_weights(len(rows)) @ vectors[rows] for rows in stretches])
    scores = queries @ vectors.T
    answers = np.take_along_axis(
        scores, np.concatenate([rows[1:] for rows in stretches])[:, None], axis=1
    )
    ahead = (scores >= answers).sum(axis=1) - 1
    first = 0
    for rows in stretches:
        asked = slice(first, first + len(rows) - 1)
        history = np.tri(len(rows) - 1, len(rows), dtype=bool)
        ahead[asked] -= ((scores[asked][:, rows] >= answers[asked]) & history).sum(axis=1)
        first = asked.stop
    return np.asarray(ahead, np.int64)


def _share(found: BoolArray) -> tuple[float | None, int]:
    return (float(found.mean()), len(found)) if len(found) else (None, 0)
