"""Nearest items by dot product, over a matrix that grows while it is searched."""

from pathlib import Path
from threading import Lock

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array
from features.errors import DataError, ReleaseError
from recsys.growing import GrowingArray
from recsys.retrieval.exact import Found, exact_top
from recsys.retrieval.shortlist import Shortlist

RESCORED_AT_ONCE = 16  # queries; 800 rows of 256 numbers for each are 13 MB


class VectorIndex:
    """Row i of the matrix is item_row i. Scores always come from the matrix.

    A shortlist made at night says which of the rows it knows are worth a look. Rows that were
    appended or replaced since are looked at exactly. Any threads may read while one writes; those
    that write wait for one another.
    """

    def __init__(self, vectors: Float32Array, shortlist: Shortlist | None = None) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise DataError(
                f"an index needs a float32 matrix (n, d); found {vectors.dtype} of shape "
                f"{vectors.shape}. Convert it with np.asarray(rows, np.float32)."
            )
        is_contiguous = vectors.flags.c_contiguous
        self._rows = GrowingArray(vectors if is_contiguous else np.ascontiguousarray(vectors))
        self.shortlist = shortlist
        self._writing = Lock()
        self._replaced = np.zeros(0 if shortlist is None else len(shortlist), np.bool_)
        self._any_replaced = False

    def __len__(self) -> int:
        return len(self._rows.rows)

    @property
    def dim(self) -> int:
        return int(self._rows.rows.shape[1])

    @property
    def vectors(self) -> Float32Array:
        """(n, d) view; one taken before an `append` stays valid and does not grow."""
        return self._rows.rows

    def reserve(self, n: int) -> None:
        """Room for n more rows, so that appending them is quick; slow itself."""
        with self._writing:
            self._rows.reserve(n)

    def append(self, vectors: Float32Array) -> None:
        """Rows after the last one; found by the next search."""
        checked = self._checked(vectors)
        with self._writing:
            self._rows.append(checked)

    def replace(self, row: int, vector: Float32Array) -> None:
        checked = self._checked(vector[None])[0]
        with self._writing:
            if row < len(self._replaced):
                self._replaced[row] = True  # first, so that no search trusts the shortlist with it
                self._any_replaced = True
            self._rows.rows[row] = checked

    def search(self, queries: Float32Array, n: int, allowed: BoolArray | None = None) -> Found:
        """The n best of the `allowed` rows (n_items,) for each query (b, d), best first.

        Returns item rows (b, n) padded with -1 and dot products (b, n) padded with NaN. Rows
        beyond the end of `allowed` are not allowed.
        """
        queries = np.ascontiguousarray(self._checked(queries))
        matrix = self.vectors
        mask = None if allowed is None else allowed[: len(matrix)]
        if mask is not None and len(mask) < len(matrix):
            mask = np.append(mask, np.zeros(len(matrix) - len(mask), np.bool_))
        if mask is not None and mask.all():
            mask = None
        if self.shortlist is None or n == 0:
            return exact_top(queries, matrix, n, mask)
        return self._search_shortlist(self.shortlist, queries, matrix, n, mask)

    def _search_shortlist(
        self,
        shortlist: Shortlist,
        queries: Float32Array,
        matrix: Float32Array,
        n: int,
        mask: BoolArray | None,
    ) -> Found:
        known, since = self._split(matrix, mask)
        n_known = len(shortlist) if known is None else int(np.count_nonzero(known))
        if not shortlist.suits(len(queries), n, n_known):
            return exact_top(queries, matrix, n, mask)
        proposed = shortlist.propose(queries, n, known)
        found = _best(_rescored(queries, matrix, proposed[0]), n)
        unsure = ~shortlist.proves(queries, proposed, found[1][:, -1])
        if since is not None:
            found = _best(_joined(found, exact_top(queries, matrix, n, since)), n)
        if unsure.any():
            found[0][unsure], found[1][unsure] = exact_top(queries[unsure], matrix, n, mask)
        return found

    def _split(
        self, matrix: Float32Array, mask: BoolArray | None
    ) -> tuple[BoolArray | None, BoolArray | None]:
        """Allowed rows that are as the shortlist knows them, and the others; None: all, nothing."""
        if len(matrix) == len(self._replaced) and not self._any_replaced:
            return mask, None
        replaced = self._replaced.copy()  # a row replaced meanwhile must be in one of the two
        since = np.ones(len(matrix), np.bool_)
        since[: len(replaced)] = replaced
        known = None
        if mask is not None:
            known = mask[: len(replaced)] & ~replaced
            since &= mask
        elif replaced.any():
            known = ~replaced
        return known, since if since.any() else None

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
        """Maps the file copy-on-write: workers of one machine share its pages.

        Takes the shortlist that was saved beside it, if any.
        """
        try:
            mapped = np.load(path, mmap_mode="c", allow_pickle=False)
            vectors = np.asarray(mapped)  # a plain view: np.memmap slows every gather
            return cls(vectors, Shortlist.load(path, vectors.shape))
        except (OSError, ValueError, DataError) as error:
            raise ReleaseError(
                f"{path}: expected a float32 matrix in an .npy file, found {error!r}. "
                "Run the night again or activate an older release."
            ) from error


def _rescored(queries: Float32Array, matrix: Float32Array, rows: Int32Array) -> Found:
    """Exact products of the proposed rows; NaN where there is no row."""
    if len(queries) == 1:
        one = matrix[rows[0]] @ queries[0]
        return rows, np.where(rows >= 0, one[None], np.float32(np.nan))
    scores = np.empty(rows.shape, np.float32)
    for start in range(0, len(queries), RESCORED_AT_ONCE):
        block = slice(start, start + RESCORED_AT_ONCE)
        vectors = matrix[rows[block]]  # row -1 is read too, and dropped below
        scores[block] = np.matmul(vectors, queries[block][:, :, None])[:, :, 0]
    return rows, np.where(rows >= 0, scores, np.nan)


def _joined(first: Found, second: Found) -> Found:
    return np.hstack([first[0], second[0]]), np.hstack([first[1], second[1]])


def _best(found: Found, n: int) -> Found:
    """Best first, NaN behind all others."""
    rows, scores = found
    if len(rows) == 1:  # indexing one row is a third of taking along an axis
        first = np.argsort(-scores[0], kind="stable")[:n]
        rows, scores = rows[:, first], scores[:, first]
        return np.where(np.isnan(scores), np.int32(-1), rows), scores
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    return np.where(np.isnan(scores), np.int32(-1), rows), scores
