"""Exact nearest items by dot product, over a matrix that grows while it is searched."""

from pathlib import Path
from typing import Final

import faiss
import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array
from features.errors import DataError, ReleaseError
from recsys.growing import GrowingArray

# Below this share of allowed rows, copying them out beats searching all rows more deeply.
FEW_ALLOWED: Final = 0.25
# Search deeper than the expected loss to the filter, so that a second search stays rare.
DEPTH_MARGIN: Final = 1.2
DEPTH_SLACK: Final = 16


class VectorIndex:
    """Row i of the matrix is item_row i; the matrix is the only copy.

    FAISS's flat search runs on NumPy's memory. An IndexFlatIP would own the vectors, and move them
    when it grows, under whoever still reads a view of them.
    """

    def __init__(self, vectors: Float32Array) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise DataError(
                f"an index needs a float32 matrix (n, d); found {vectors.dtype} of shape "
                f"{vectors.shape}. Convert it with np.asarray(rows, np.float32)."
            )
        is_contiguous = vectors.flags.c_contiguous
        self._rows = GrowingArray(vectors if is_contiguous else np.ascontiguousarray(vectors))

    def __len__(self) -> int:
        return len(self._rows.rows)

    @property
    def dim(self) -> int:
        return int(self._rows.rows.shape[1])

    @property
    def vectors(self) -> Float32Array:
        """(n, d) view; one taken before an `append` stays valid and does not grow."""
        return self._rows.rows

    def append(self, vectors: Float32Array) -> None:
        """Rows after the last one; found by the next search."""
        self._rows.append(self._checked(vectors))

    def replace(self, row: int, vector: Float32Array) -> None:
        self._rows.rows[row] = self._checked(vector[None])[0]

    def search(
        self, queries: Float32Array, n: int, allowed: BoolArray | None = None
    ) -> tuple[Int32Array, Float32Array]:
        """The n best of the `allowed` rows (n_items,) for each query (b, d), best first.

        Returns item rows (b, n) padded with -1 and dot products (b, n) padded with NaN. Rows
        beyond the end of `allowed` are not allowed.
        """
        queries = np.ascontiguousarray(self._checked(queries))
        matrix = self.vectors
        if allowed is None:
            return _top(queries, matrix, n)
        mask = np.zeros(len(matrix), np.bool_)
        mask[: len(allowed)] = allowed[: len(matrix)]
        n_allowed = int(np.count_nonzero(mask))
        if n_allowed == len(matrix):
            return _top(queries, matrix, n)
        if n_allowed < FEW_ALLOWED * len(matrix):
            return _top_of_few(queries, matrix, n, mask)
        return _top_filtered(queries, matrix, n, mask, n_allowed)

    def _checked(self, vectors: Float32Array) -> Float32Array:
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise DataError(
                f"this index holds vectors of {self.dim} numbers; found shape {vectors.shape}. "
                "Make the vectors with the model of the same release."
            )
        return np.asarray(vectors, np.float32)

    def save(self, path: Path) -> None:
        np.save(path, self.vectors, allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> "VectorIndex":
        """Maps the file copy-on-write: workers of one machine share its pages."""
        try:
            mapped = np.load(path, mmap_mode="c", allow_pickle=False)
            return cls(np.asarray(mapped))  # a plain view: np.memmap slows every gather
        except (OSError, ValueError, DataError) as error:
            raise ReleaseError(
                f"{path}: expected a float32 matrix in an .npy file, found {error!r}. "
                "Run the night again or activate an older release."
            ) from error


def _top(queries: Float32Array, matrix: Float32Array, n: int) -> tuple[Int32Array, Float32Array]:
    rows = np.full((len(queries), n), -1, np.int32)
    scores = np.full((len(queries), n), np.nan, np.float32)
    k = min(n, len(matrix))
    if k > 0 and len(queries) > 0 and matrix.shape[1] > 0:
        found, best = faiss.knn(queries, matrix, k, metric=faiss.METRIC_INNER_PRODUCT)
        rows[:, :k] = best
        scores[:, :k] = np.where(best >= 0, found, np.nan)  # FAISS drops items that score NaN
    return rows, scores


def _top_of_few(
    queries: Float32Array, matrix: Float32Array, n: int, mask: BoolArray
) -> tuple[Int32Array, Float32Array]:
    kept = np.flatnonzero(mask).astype(np.int32)
    rows, scores = _top(queries, matrix[kept], n)
    if len(kept):
        rows = np.where(rows >= 0, kept[rows], np.int32(-1))
    return rows, scores


def _top_filtered(
    queries: Float32Array, matrix: Float32Array, n: int, mask: BoolArray, n_allowed: int
) -> tuple[Int32Array, Float32Array]:
    """Search deeper, drop what is not allowed; search once more for queries left short."""
    depth = min(int(n * len(matrix) / n_allowed * DEPTH_MARGIN) + DEPTH_SLACK, len(matrix))
    rows, scores = _top(queries, matrix, depth)
    keep = mask[rows] & (rows >= 0)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :n]
    rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    keep = np.take_along_axis(keep, order, 1)
    rows[~keep], scores[~keep] = -1, np.nan
    short = keep.sum(axis=1) < min(n, n_allowed)
    if short.any() or rows.shape[1] < n:
        return _second_search(queries, matrix, n, mask, short, (rows, scores))
    return rows, scores


def _second_search(
    queries: Float32Array,
    matrix: Float32Array,
    n: int,
    mask: BoolArray,
    short: BoolArray,
    first: tuple[Int32Array, Float32Array],
) -> tuple[Int32Array, Float32Array]:
    rows = np.full((len(queries), n), -1, np.int32)
    scores = np.full((len(queries), n), np.nan, np.float32)
    rows[:, : first[0].shape[1]], scores[:, : first[1].shape[1]] = first
    if short.any():
        rows[short], scores[short] = _top_of_few(queries[short], matrix, n, mask)
    return rows, scores
