"""How far tuning moved an encoder: in one figure, and in examples a person can judge."""

import numpy as np

from features.arrays import Float32Array, Int64Array
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.config import NeighbourExample

NEIGHBOURS = 5


def anchor_similarity(before: Float32Array, after: Float32Array, rows: Int64Array) -> float | None:
    """Mean cosine of these rows with what they were; each side centred on all its rows.

    Without centring every pair of sentence vectors is alike (cosine .35 on Beauty, so that
    nothing could fall to 0). None where no row differs from the mean.
    """
    cosines = (_centred(before)[rows] * _centred(after)[rows]).sum(axis=1)
    return float(cosines.mean()) if len(cosines) else None


def neighbour_examples(
    before: Float32Array, after: Float32Array, item_rows: Int64Array, examples: Int64Array
) -> tuple[NeighbourExample, ...]:
    """Nearest whitened neighbours of the positions `examples`, named by their item rows."""
    sides = [_nearest(Whitening.fit(side)(side), examples) for side in (before, after)]
    return tuple(
        NeighbourExample(
            int(item_rows[position]),
            tuple(item_rows[old].tolist()),
            tuple(item_rows[new].tolist()),
        )
        for position, old, new in zip(examples, *sides, strict=True)
    )


def _nearest(vectors: Float32Array, examples: Int64Array) -> Int64Array:
    """(len(examples), NEIGHBOURS) positions, nearest first, themselves left out."""
    scores = vectors[examples] @ vectors.T
    scores[np.arange(len(examples)), examples] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    return order[:, : min(NEIGHBOURS, len(vectors) - 1)].astype(np.int64)


def _centred(vectors: Float32Array) -> Float32Array:
    centred = vectors - vectors.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norms, 1e-12), np.float32)
