"""Hand-written sequences for tests of the encoder's training data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array
from recsys.training.encoder.sequences import DistinctSequences


@dataclass(frozen=True)
class Events:
    user_ids: Sequence[str]
    indptr: Int64Array
    item_rows: Int32Array
    weights: Float32Array
    time_us: Int64Array


def sequences(
    *users: Sequence[int],
    weights: Sequence[Sequence[float]] | None = None,
    times: Sequence[Sequence[int]] | None = None,
    ids: Sequence[str] | None = None,
) -> DistinctSequences:
    """One list of item rows a shopper; without more, weights are 1 and times the positions."""
    lengths = [len(items) for items in users]
    weights = weights or [[1.0] * n for n in lengths]
    times = times or [list(range(n)) for n in lengths]
    return DistinctSequences.of(
        Events(
            ids or shopper_ids(len(users)),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.array([item for items in users for item in items], np.int32),
            np.array([weight for row in weights for weight in row], np.float32),
            np.array([time for row in times for time in row], np.int64),
        )
    )


def shopper_ids(n: int) -> list[str]:
    return [f"shopper {row}" for row in range(n)]


def distinct_texts(n_items: int) -> list[str]:
    return [f"item {row}" for row in range(n_items)]
