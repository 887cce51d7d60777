"""What each shopper met, in the order of first contact: what the encoder's training learns from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array


class Sequenced(Protocol):
    """User u owns rows `indptr[u]:indptr[u + 1]`, in the order of contact; all of it positive."""

    @property
    def user_ids(self) -> Sequence[str]: ...

    @property
    def indptr(self) -> Int64Array: ...

    @property
    def item_rows(self) -> Int32Array: ...

    @property
    def weights(self) -> Float32Array: ...

    @property
    def time_us(self) -> Int64Array: ...


@dataclass(frozen=True, slots=True)
class DistinctSequences:
    """Each shopper's items in order of first contact: the next item is never in the history."""

    user_ids: Sequence[str]
    indptr: Int64Array  # (n_users + 1,)
    item_rows: Int32Array  # (n,)
    weights: Float32Array  # (n,) of the strongest event of this shopper on this item
    time_us: Int64Array  # (n,) of the first contact, ascending within a shopper

    @classmethod
    def of(cls, sequences: Sequenced) -> "DistinctSequences":
        n_users = len(sequences.indptr) - 1
        users = np.repeat(np.arange(n_users), np.diff(sequences.indptr))
        width = int(sequences.item_rows.max(initial=0)) + 1
        _, first, pair = np.unique(
            users * width + sequences.item_rows, return_index=True, return_inverse=True
        )
        strongest = np.zeros(len(first), np.float32)
        np.maximum.at(strongest, pair, sequences.weights)
        order = np.argsort(first)
        first = first[order]
        return cls(
            sequences.user_ids,
            _indptr(np.bincount(users[first], minlength=n_users)),
            sequences.item_rows[first],
            strongest[order],
            sequences.time_us[first],
        )

    def only(self, users: Int64Array) -> "DistinctSequences":
        """The same user rows, of which all but `users` are empty."""
        lengths = np.diff(self.indptr)
        kept = np.zeros(len(lengths), bool)
        kept[users] = True
        of_event = np.repeat(kept, lengths)
        return DistinctSequences(
            self.user_ids,
            _indptr(np.where(kept, lengths, 0)),
            self.item_rows[of_event],
            self.weights[of_event],
            self.time_us[of_event],
        )

    def items(self, user: int) -> Int32Array:
        return self.item_rows[self.indptr[user] : self.indptr[user + 1]]

    def weights_of(self, user: int) -> Float32Array:
        return self.weights[self.indptr[user] : self.indptr[user + 1]]

    def times(self, user: int) -> Int64Array:
        return self.time_us[self.indptr[user] : self.indptr[user + 1]]

    def event_users(self) -> Int64Array:
        """(n,) whose row each one is."""
        lengths = np.diff(self.indptr)
        return np.repeat(np.arange(len(lengths)), lengths)

    def users_with(self, n_items: int) -> Int64Array:
        return np.flatnonzero(np.diff(self.indptr) >= n_items)

    def users_since(self, since_us: int) -> Int64Array:
        """Shoppers with two items who have met one of them at `since_us` or later."""
        users = self.users_with(2)
        latest = self.time_us[self.indptr[users + 1] - 1]
        return users[latest >= since_us]


def _indptr(lengths: Int64Array) -> Int64Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
