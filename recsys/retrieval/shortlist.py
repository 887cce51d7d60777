"""A quicker copy of the night's vectors, which names the rows worth an exact look."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import faiss
import numpy as np

from features.arrays import BoolArray, Float32Array
from features.errors import ReleaseError
from recsys.retrieval.exact import MANY_QUERIES, Found, one_thread

# pq4: four bits for each number, compared in registers (FAISS's fast scan: André, Kermarrec and Le
# Scouarnec 2015). cells: the same, looking only into the cells nearest to the query (Sivic and
# Zisserman 2003). hnsw: a graph (Malkov and Yashunin 2016). fp16: half precision, proved exact.
IndexKind = Literal["flat", "fp16", "pq4", "cells", "hnsw"]

SLACK: Final = 16  # more rows than asked for: proves 200 of 200 fp16 answers exact, 4 more 181
# Below this share of allowed rows an exact scan, which reads only those, is as quick: 100k x 256,
# 25 % allowed, fp32 3.0 ms, fp16 2.9 ms. A graph loses its way: recall .98 at any bearable depth.
MANY_ALLOWED: Final = 0.25
# A filter that has nothing to do with the query leaves 512 proposals within 6 deviations of this.
LEAST_KEPT: Final = 0.75
MEASURED_AT: Final = 200  # rows asked for when `depth` was set


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What was chosen and why; kept beside the vectors and in the manifest."""

    kind: IndexKind
    n: int
    dim: int
    recall_at_200: float  # of the chosen kind, against exact, on queries it was not tuned on
    recalls: dict[str, float]  # by kind tried
    milliseconds: dict[str, float]  # of CPU for one query, by kind tried
    reason: str
    depth: int = 0  # rows looked at for an answer (pq4, cells) or kept in view in the graph (hnsw)
    cells: int = 0  # looked into (cells)
    max_error: float | None = None  # longest distance of a row from its copy (fp16)

    def save(self, vectors: Path) -> None:
        _card(vectors).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


class Shortlist:
    """Row i of the copy is row i of the matrix it was made of."""

    def __init__(
        self,
        kind: IndexKind,
        index: faiss.Index,
        *,
        depth: int = 0,
        max_error: float | None = None,
    ) -> None:
        self.kind = kind
        self.index = index
        self.depth = depth
        self.max_error = max_error

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def cells(self) -> int:
        """How many are looked into; 0 where there are none."""
        return int(self.index.nprobe) if isinstance(self.index, faiss.IndexIVF) else 0

    @cells.setter
    def cells(self, n: int) -> None:
        """At most as many as there are."""
        if isinstance(self.index, faiss.IndexIVF):
            self.index.nprobe = min(n, self.index.nlist)

    def suits(self, n_queries: int, n: int, n_allowed: int) -> bool:
        """Whether it is quicker than an exact search."""
        if n_allowed < MANY_ALLOWED * len(self):
            return False
        if self._width(n) * len(self) > MANY_ALLOWED * n_allowed * n_allowed:
            return False
        return self.kind == "hnsw" or n_queries < MANY_QUERIES

    def propose(self, queries: Float32Array, n: int, allowed: BoolArray | None) -> Found:
        """Rows (b, at least n) and their rough products, best first; -1 where there is no row."""
        one_thread()
        width = self._width(n)
        share = 1.0 if allowed is None else np.count_nonzero(allowed) / len(allowed)
        if self.kind != "fp16":
            return self._propose_unfiltered(queries, width, share, allowed)
        # Held for the search, which reads its memory.
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        selector = bits if bits is None else faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # FAISS's stubs
        scores, rows = self.index.search(queries, n + SLACK, params=parameters)
        return rows.astype(np.int32), scores

    def _propose_unfiltered(
        self, queries: Float32Array, width: int, share: float, allowed: BoolArray | None
    ) -> Found:
        """Looks deeper and drops what is not allowed.

        A fast scan takes no filter; a graph's own filter goes astray unnoticed where all rows
        near the query are forbidden.
        """
        k = int(width / share)
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=k)  # type: ignore[attr-defined]
            scores, found = self.index.search(queries, k, params=parameters)
        else:
            scores, found = self.index.search(queries, k)
        rows = found.astype(np.int32)
        if allowed is None:
            return rows, scores
        keep = allowed[rows] & (rows >= 0)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :width]
        rows = np.where(keep, rows, np.int32(-1))
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)

    def _width(self, n: int) -> int:
        return max(int(self.depth * max(1.0, n / MEASURED_AT)), n + SLACK)

    def proves(
        self, queries: Float32Array, proposed: Found, worst_of_answer: Float32Array
    ) -> BoolArray:
        """(b,) whether no row that was not proposed can belong into the answer.

        By Cauchy-Schwarz a product with a half-precision row is off by at most |query| x
        max_error. The recall of other kinds was measured; it holds where enough was allowed.
        """
        if self.max_error is None:  # a filter may forbid just the neighbourhood of a query
            enough = np.mean(proposed[0] >= 0, axis=1) >= LEAST_KEPT
            return np.asarray(enough & np.isfinite(worst_of_answer), np.bool_)
        if not np.isfinite(self.max_error):
            return np.zeros(len(queries), np.bool_)
        rows, scores = proposed
        bound = scores[:, -1] + np.linalg.norm(queries, axis=1) * self.max_error
        return np.asarray((rows[:, -1] < 0) | (worst_of_answer >= bound), np.bool_)

    def save(self, vectors: Path) -> None:
        faiss.write_index(self.index, str(_file(vectors)))

    @classmethod
    def load(cls, vectors: Path, shape: tuple[int, ...]) -> "Shortlist | None":
        """None where the night chose a flat index, or none was chosen.

        Maps the file: workers of one machine share its pages. Raises ReleaseError where it is
        missing, damaged, or not of the matrix `vectors` of that shape.
        """
        if not _card(vectors).exists():
            return None
        try:
            report = IndexReport(**json.loads(_card(vectors).read_text("utf-8")))
            if report.kind == "flat":
                return None
            index = faiss.read_index(str(_file(vectors)), faiss.IO_FLAG_MMAP_IFC)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ReleaseError(
                f"{_card(vectors)}: expected an index report and the file it tells of, found "
                f"{error!r}. Run the night again or activate an older release."
            ) from error
        found = (_kind(index), index.metric_type, (index.ntotal, index.d))
        if found != (report.kind, faiss.METRIC_INNER_PRODUCT, shape):
            raise ReleaseError(
                f"{_file(vectors)}: expected a {report.kind} index by dot product of {shape} "
                f"vectors, found {type(index).__name__} of {found[2]}. Run the night again."
            )
        return cls(report.kind, index, depth=report.depth, max_error=report.max_error)


def _card(vectors: Path) -> Path:
    return vectors.with_suffix(".index.json")


def _file(vectors: Path) -> Path:
    return vectors.with_suffix(".faiss")


def _kind(index: faiss.Index) -> IndexKind | None:
    if isinstance(index, faiss.IndexHNSWSQ):
        return "hnsw"
    if isinstance(index, faiss.IndexPQFastScan):
        return "pq4"
    if isinstance(index, faiss.IndexIVFPQFastScan):
        return "cells"
    is_half = isinstance(index, faiss.IndexScalarQuantizer) and (
        index.sq.qtype == faiss.ScalarQuantizer.QT_fp16
    )
    return "fp16" if is_half else None
