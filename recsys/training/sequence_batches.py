"""Histories cut into windows and gathered into batches of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import BoolArray, Int64Array
from features.interactions import Interactions

MIN_HELD_OUT = 100  # the mean log2 rank of 100 users is known to about 0.3
SORTED_TOGETHER = 20  # batches' worth of windows sorted by length: little padding, still shuffled


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded on the right; `targets` are the items after each real position, in order."""

    inputs: Int64Array  # (b, length) item rows
    lengths: Int64Array  # (b,)
    targets: Int64Array  # (sum of lengths,)

    @property
    def is_real(self) -> BoolArray:
        return np.asarray(np.arange(self.inputs.shape[1]) < self.lengths[:, None], np.bool_)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Questions kept from the training, to see when it stops getting better."""

    histories: list[Int64Array]
    targets: Int64Array


def user_sequences(interactions: Interactions) -> list[Int64Array]:
    """Each user's positive items in order, consecutive repeats once, users with two or more."""
    positive = interactions.positive()
    rows, users = positive.item_rows.astype(np.int64), positive.user_rows
    keep = np.ones(len(rows), np.bool_)
    keep[1:] = (rows[1:] != rows[:-1]) | (users[1:] != users[:-1])
    rows, users = rows[keep], users[keep]
    sequences = np.split(rows, np.flatnonzero(np.diff(users)) + 1)
    return [sequence for sequence in sequences if len(sequence) > 1]


def hold_out(
    sequences: Sequence[Int64Array], n_users: int, rng: np.random.Generator
) -> tuple[list[Int64Array], HeldOut]:
    """Takes the last item of some users away; of no more than one user in fifty.

    Of nobody where that leaves fewer than MIN_HELD_OUT: too few answers say nothing.
    """
    n_users = min(n_users, len(sequences) // 50)
    n_users = n_users if n_users >= MIN_HELD_OUT else 0
    chosen = set(rng.choice(len(sequences), n_users, replace=False).tolist())
    kept = [s[:-1] if i in chosen else s for i, s in enumerate(sequences)]
    held = [sequences[i] for i in sorted(chosen)]
    targets = np.array([s[-1] for s in held], np.int64)
    return [s for s in kept if len(s) > 1], HeldOut([s[:-1] for s in held], targets)


def windows(sequences: Sequence[Int64Array], max_length: int, most: int) -> list[Int64Array]:
    """Pieces of max_length inputs and the item after them, the latest `most` of each sequence.

    Neighbouring pieces share one item, so every item but the first is a target once.
    """
    pieces = []
    for sequence in sequences:
        end = len(sequence)
        for _ in range(most):
            if end < 2:
                break
            start = max(end - max_length - 1, 0)
            pieces.append(sequence[start:end])
            end = start + 1
    return pieces


def batches(
    pieces: Sequence[Int64Array], positions: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Every piece once, in shuffled batches with about `positions` real positions each."""
    lengths = np.array([len(piece) - 1 for piece in pieces], np.int64)
    groups: list[Int64Array] = []
    for part in _cut(rng.permutation(len(pieces)), lengths, SORTED_TOGETHER * positions):
        by_length = part[np.argsort(lengths[part], kind="stable")]
        groups += _cut(by_length, lengths, positions)
    for group in rng.permutation(len(groups)):
        yield _padded([pieces[i] for i in groups[group]])


def _cut(order: Int64Array, lengths: Int64Array, size: int) -> list[Int64Array]:
    """Consecutive parts of `order` of about `size` positions, evenly sized, none empty."""
    ends = np.cumsum(lengths[order])
    n_parts = max(round(ends[-1] / size), 1)
    edges = np.searchsorted(ends, np.arange(1, n_parts) * ends[-1] / n_parts)
    return [part for part in np.split(order, edges) if len(part)]


def _padded(pieces: Sequence[Int64Array]) -> Batch:
    lengths = np.array([len(piece) - 1 for piece in pieces], np.int64)
    inputs = np.zeros((len(pieces), int(lengths.max())), np.int64)
    batch = Batch(inputs, lengths, np.concatenate([piece[1:] for piece in pieces]))
    inputs[batch.is_real] = np.concatenate([piece[:-1] for piece in pieces])
    return batch
