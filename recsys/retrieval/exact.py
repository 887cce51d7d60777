"""Exact best rows of a matrix by dot product: one scan for a few queries, products for many."""

from typing import Final, TypeAlias

import faiss
import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array

Found: TypeAlias = tuple[Int32Array, Float32Array]  # rows and dot products, both (b, n)

# From here a matrix product beats a scan per query: 100k x 256, ms a query, scan and product at
# 4 queries 7.2 and 6.6, at 8 7.2 and 3.9, at 16 7.2 and 2.1, at 128 7.9 and 1.0.
MANY_QUERIES: Final = 8
# Below this share copying the allowed rows out beats testing a bit for each row: at 100k x 256
# and 1 % allowed 0.20 against 0.30 ms, at 5 % 1.2 against 0.9.
FEW_ALLOWED: Final = 0.03
MOST_PRODUCTS: Final = 8_000_000  # held at once, 32 MB


def exact_top(
    queries: Float32Array, matrix: Float32Array, n: int, allowed: BoolArray | None = None
) -> Found:
    """Best first; rows padded with -1, dot products with NaN. Rows that score NaN are left out.

    queries (b, d) and matrix (m, d) are C-contiguous float32, `allowed` is (m,).
    """
    if allowed is not None and np.count_nonzero(allowed) < FEW_ALLOWED * len(matrix):
        kept = np.flatnonzero(allowed).astype(np.int32)
        rows, scores = exact_top(queries, matrix[kept], n)
        return (np.where(rows >= 0, kept[rows], np.int32(-1)) if len(kept) else rows), scores
    rows = np.full((len(queries), n), -1, np.int32)
    scores = np.full((len(queries), n), np.nan, np.float32)
    k = min(n, len(matrix))
    if k == 0 or len(queries) == 0 or matrix.shape[1] == 0:
        return rows, scores
    search = _products if len(queries) >= MANY_QUERIES else _scan
    rows[:, :k], found = search(queries, matrix, k, allowed)
    scores[:, :k] = np.where(rows[:, :k] >= 0, found, np.nan)
    return rows, scores


def one_thread() -> None:
    """For FAISS calls of this thread: its team of threads waits for the busiest core.

    One query of 100k x 256 with another process on each of 2 cores: 20 ms alone, 80 ms as a team.
    """
    faiss.omp_set_num_threads(1)


def _scan(
    queries: Float32Array, matrix: Float32Array, k: int, allowed: BoolArray | None
) -> tuple[Int32Array, Float32Array]:
    """FAISS on NumPy's memory; it does not read the rows that are not allowed."""
    one_thread()
    scores = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    bits = None if allowed is None else np.packbits(allowed, bitorder="little")
    selector = None if bits is None else faiss.IDSelectorBitmap(len(matrix), faiss.swig_ptr(bits))
    data = [faiss.swig_ptr(array) for array in (queries, matrix, scores, rows)]
    sizes = (matrix.shape[1], len(queries), len(matrix), k)
    # FAISS's stubs do not know the selector.
    faiss.knn_inner_product(*data[:2], *sizes, *data[2:], selector)  # type: ignore[call-arg]
    return rows.astype(np.int32), scores


def _products(
    queries: Float32Array, matrix: Float32Array, k: int, allowed: BoolArray | None
) -> tuple[Int32Array, Float32Array]:
    """Costs are negative products, so that NaN sorts behind all of them."""
    rows = np.empty((len(queries), k), np.int32)
    costs = np.empty((len(queries), k), np.float32)
    forbidden = None if allowed is None else np.where(allowed, 0, np.inf).astype(np.float32)
    step = max(1, MOST_PRODUCTS // len(matrix))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        cost = -queries[block] @ matrix.T
        if forbidden is not None:
            cost += forbidden
        best = np.argpartition(cost, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(cost, best, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        rows[block] = np.take_along_axis(best, order, axis=1)
        costs[block] = np.take_along_axis(found, order, axis=1)
    rows[~np.isfinite(costs)] = -1
    return rows, -costs
