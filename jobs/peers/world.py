"""What a peer is told of a split, as files that need neither this system nor its libraries.

Nothing that happens after a question is in them, so no peer can look up an answer.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array

FILE = "world.npz"
DAY_US = 86_400_000_000  # features.events says so too, but needs Polars


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Events known when the questions are asked, sorted by (user, time), and who asks.

    Events from `cut_us` on are for validation: settings are chosen on them. The last fit may
    learn from them only where `refit` says so; the history of a question always holds them.
    """

    n_users: int
    n_items: int
    cut_us: int
    refit: bool
    users: Int32Array  # (n,)
    items: Int32Array  # (n,) item rows
    weights: Float32Array  # (n,) of the event's type; negative is aversion
    time_us: Int64Array  # (n,)
    asked: Int32Array  # (n_questions,) users
    tag_indptr: Int64Array  # (n_items + 1,)
    tags: Int32Array  # ids of each item's tags

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / FILE, allow_pickle=False, **asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "World":
        with np.load(folder / FILE, allow_pickle=False) as found:
            fields = {name: found[name] for name in found.files}
        scalars = {name: value.item() for name, value in fields.items() if value.ndim == 0}
        return cls(**{**fields, **scalars})

    @property
    def is_validation(self) -> BoolArray:
        return np.asarray(self.time_us >= self.cut_us, np.bool_)

    def positives(self, chosen: BoolArray) -> sparse.csr_matrix:
        """(n_users, n_items) 1 where one of the chosen events is positive."""
        return self._matrix(chosen & (self.weights > 0))

    def touched(self, chosen: BoolArray) -> sparse.csr_matrix:
        """(n_users, n_items) 1 where a chosen event is, of any type."""
        return self._matrix(chosen)

    def _matrix(self, chosen: BoolArray) -> sparse.csr_matrix:
        pairs = (self.users[chosen], self.items[chosen])
        ones = np.ones(len(pairs[0]), np.float32)
        found = sparse.csr_matrix((ones, pairs), shape=(self.n_users, self.n_items))
        found.data[:] = 1  # a pair that occurs twice was added up
        return found


@dataclass(frozen=True, slots=True)
class Round:
    """One fit and the questions put to it: events learned from, events known, who asks."""

    learned: BoolArray  # (n,) over the world's events
    known: BoolArray  # (n,) history and mask of the questions
    asked: Int32Array


def last_round(world: World) -> Round:
    everything = np.ones(len(world.users), np.bool_)
    learned = everything if world.refit else ~world.is_validation
    return Round(learned, everything, world.asked)


def validation_round(world: World, max_users: int, seed: int) -> Round:
    """At most `max_users` of those with positive validation events, drawn by `seed`."""
    past = ~world.is_validation
    asked = np.unique(world.users[world.is_validation & (world.weights > 0)])
    if len(asked) > max_users:
        rng = np.random.default_rng(seed)
        asked = np.sort(rng.choice(asked, max_users, replace=False))
    return Round(past, past, asked.astype(np.int32))
