"""Does an encoder find the next item of shoppers that its tuning has not seen?"""

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32Array, Int64Array
from recsys.training.encoder.batches import WINDOW, DistinctSequences, Visit, decayed_weights


def validation_visits(sequences: DistinctSequences, users: Int64Array) -> list[Visit]:
    """The latest stretch of each of these shoppers."""
    return [Visit(int(user), sequences.items(int(user))[-WINDOW:]) for user in users]


def next_item_recall(
    vectors: Float32Array, visits: Sequence[Visit], cached_row: Int64Array, *, k: int = 10
) -> tuple[float, int]:
    """Share of next items among the k nearest to the shopper so far, and how many were asked.

    `vectors` (n, d) are unit rows of the items that `cached_row` maps to; items the shopper has
    met are left out. Ties count against the encoder, so equal vectors find nothing.
    """
    hits, questions = 0, 0
    for visit in visits:
        rows = cached_row[visit.items]
        scores = decayed_weights(len(rows)) @ vectors[rows] @ vectors.T
        answers = scores[np.arange(len(scores)), rows[1:]]
        history = np.tri(len(scores), len(rows), dtype=bool)
        known = scores[:, rows]
        ahead = (scores >= answers[:, None]).sum(axis=1) - 1
        ahead -= ((known >= answers[:, None]) & history).sum(axis=1)
        hits += int((ahead < k).sum())
        questions += len(scores)
    return hits / max(1, questions), questions
