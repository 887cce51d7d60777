"""Does an encoder find the next item of shoppers that its tuning has not seen?"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from features.arrays import BoolArray, Float32Array, Int64Array
from recsys.training.encoder.batches import WINDOW, Visit, decayed_weights
from recsys.training.encoder.sequences import DistinctSequences

MAX_SCORES = 16_000_000  # 64 MB; a product per shopper took 7.5 s for Beauty's 1,000
SHARE = 0.1
SURE = 1.645  # standard errors of a gain that ships
MOST_ASKED = 1_000  # all their next items: ±0.4 percentage points of recall@10


def held_out_users(
    sequences: DistinctSequences, *, share: float = SHARE, most: int = MOST_ASKED
) -> tuple[Int64Array, Int64Array]:
    """Of the shoppers with two items: up to `most` to ask, and those to train on.

    Who is in the share held out hangs on a shopper's id alone, for good: an encoder that goes on
    learning must not be judged by shoppers whom it learned from last week. The share's others are
    neither asked nor trained on.
    """
    users = sequences.users_with(2)
    lots = np.array([_lot(sequences.user_ids[user]) for user in users], np.float64)
    held_out = np.flatnonzero(lots < share)
    asked = held_out[np.argsort(lots[held_out], kind="stable")[:most]]
    return np.sort(users[asked]), users[lots >= share]


def _lot(user_id: str) -> float:
    """In [0, 1); the key keeps it apart from other uses of a hashed id, such as A/B tests."""
    drawn = hashlib.blake2b(user_id.encode(), digest_size=8, key=b"held out").digest()
    return int.from_bytes(drawn) / 2**64


@dataclass(frozen=True, slots=True)
class Recalls:
    """Shares of next items found, and of how many; None where nothing was asked."""

    all: float
    n: int
    new: float | None = None
    n_new: int = 0
    old: float | None = None
    n_old: int = 0
    found: Int64Array = field(  # (shoppers,) how many next items of each
        default_factory=lambda: np.empty(0, np.int64), compare=False, repr=False
    )

    def gain_over(self, before: "Recalls") -> tuple[float, float]:
        """What `all` has gained on the same questions, and the standard error of that.

        The error is that of shoppers, as questions of one hang together. Of 60 small encoders
        tuned on shoppers at random, the best of up to four looks was above the start in 35, by more
        than the error in 13, by more than twice the error in 3.
        """
        gained = self.found - before.found
        if len(gained) < 2:
            return self.all - before.all, math.inf
        return self.all - before.all, float(gained.std(ddof=1)) * math.sqrt(len(gained)) / self.n

    def is_gain_over(self, before: "Recalls") -> bool:
        """Beyond luck, one-sided at 5 %."""
        gain, error = self.gain_over(before)
        return gain > SURE * error


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
        """Recall@k over all rows of `vectors` but those met earlier in the stretch.

        What the shopper met before the stretch stays a rival. `vectors` (n, d) are unit rows of
        the items that `cached_row` maps to. Ties count against the encoder, so equal vectors find
        nothing.
        """
        stretches = [cached_row[visit.items] for visit in self.visits]
        at_once = max(1, MAX_SCORES // (WINDOW * max(1, len(vectors))))
        ahead = [
            _ahead(vectors, stretches[start : start + at_once])
            for start in range(0, len(stretches), at_once)
        ]
        hits = np.concatenate([np.empty(0, np.int64), *ahead]) < k
        questions = np.array([len(rows) - 1 for rows in stretches], np.int64)
        asker = np.repeat(np.arange(len(stretches)), questions)
        found = np.bincount(asker[hits], minlength=len(stretches))
        everything, n = _share(hits)
        recalls = Recalls(everything or 0.0, n, found=found)
        if self.is_new is None:
            return recalls
        new, n_new = _share(hits[self.is_new])
        old, n_old = _share(hits[~self.is_new])
        return replace(recalls, new=new, n_new=n_new, old=old, n_old=n_old)


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


def _share(hits: BoolArray) -> tuple[float | None, int]:
    return (float(hits.mean()), len(hits)) if len(hits) else (None, 0)
