"""Chooses at night how the day searches: exactly, unless what is quicker proves as good."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import Final, Literal

import faiss
import numpy as np

from features.arrays import BoolArray, Float32Array
from recsys.progress import Progress
from recsys.retrieval.exact import exact_top
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.shortlist import MANY_ALLOWED, IndexKind, IndexReport, Shortlist

K: Final = 200
MOST_QUERIES: Final = 400  # half of them to set a graph's depth, half to judge it
FEWEST_QUERIES: Final = 20
SMALLEST: Final = 2000  # rows; there an exact scan takes 0.1 ms
DEPTHS: Final = (256, 512, 1024, 2048, 4096)
MOST_CELLS: Final = 128  # looked into; where twice as many are needed pq4 is as quick
LEARNED_A_CELL: Final = 40  # rows its centre is learned from, at most
TAUGHT: Final = 4096  # rows the 16 levels of each number are fitted to
SURE: Final = 0.004  # above the least recall: of .992 in tuning, .9899 of held-out queries was left
ADDED_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """`auto` takes the quickest that finds enough."""

    kind: Literal["auto", "flat", "fp16", "pq4", "cells", "hnsw"] = "auto"
    half_from: int = 20_000  # rows; at 10k x 256 fp16 saves under 0.1 ms a query
    approximate_from: int = 50_000  # rows; here an exact scan of 256 numbers takes 2.5 ms and more
    cells_a_root: float = 2.0  # cells for each square root of the rows: 2,000 for a million
    min_recall: float = 0.99
    worth_it: float = 0.9  # of the exact search's time: below this a copy earns its memory
    links: int = 32  # of a row to others in the graph
    build_depth: int = 80
    threads: int = 2


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """What was chosen, and the copy of the vectors that goes with it."""

    report: IndexReport
    shortlist: Shortlist | None

    def save(self, vectors: Path) -> None:
        """Beside the matrix `vectors` (.npy), where VectorIndex.load finds it."""
        self.report.save(vectors)
        if self.shortlist is not None:
            self.shortlist.save(vectors)


@dataclass(frozen=True, slots=True)
class _Tried:
    shortlist: Shortlist | None
    recall: float
    milliseconds: float


def choose_index(
    vectors: Float32Array,
    *,
    sample_queries: Float32Array,
    config: IndexConfig,
    progress: Progress,
) -> IndexChoice:
    """`vectors` (n, d) and queries (q, d) of the kind that will be asked, C-contiguous float32.

    Recall is measured on queries that set nothing, through the search that will serve.
    """
    queries = sample_queries[np.any(sample_queries, axis=1)][:MOST_QUERIES]
    tuning, held_out = (np.ascontiguousarray(queries[half::2]) for half in (0, 1))
    flat = _Tried(None, 1.0, _milliseconds(VectorIndex(vectors), held_out))
    tried: dict[IndexKind, _Tried] = {"flat": flat}
    kinds = _kinds(config, len(vectors))
    if len(held_out) < FEWEST_QUERIES and kinds:
        reason = f"{len(queries)} queries are too few to measure recall with"
        return _choice(vectors, "flat", tried, reason)
    exact = _exact_scores(vectors, held_out)
    for kind in kinds:
        shortlist = build_shortlist(kind, vectors, tuning, config, progress)
        index = VectorIndex(vectors, shortlist)
        found = _share_found(index, held_out, exact)
        tried[kind] = _Tried(shortlist, found, _milliseconds(index, held_out))
    return _choice(vectors, *_best(tried, config))


def _kinds(config: IndexConfig, n: int) -> tuple[IndexKind, ...]:
    """What to try besides the flat search."""
    if config.kind == "flat" or n < SMALLEST:
        return ()
    if config.kind != "auto":
        return (config.kind,)
    kinds: tuple[tuple[IndexKind, int], ...] = (
        ("fp16", config.half_from),
        ("pq4", config.approximate_from),
        ("cells", config.approximate_from),
    )  # no graph: one of 1M x 256 takes longer to build than the rest of the night
    return tuple(kind for kind, least in kinds if n >= least)


def _best(
    tried: dict[IndexKind, _Tried], config: IndexConfig
) -> tuple[IndexKind, dict[IndexKind, _Tried], str]:
    if len(tried) == 1:
        return "flat", tried, "so configured" if config.kind == "flat" else "the catalogue is small"
    good = {
        kind: one
        for kind, one in tried.items()
        if kind != "flat" and one.recall >= config.min_recall
    }
    refused = [
        f"{kind} found {one.recall:.4f} of the exact 200, under {config.min_recall}"
        for kind, one in tried.items()
        if kind not in good and kind != "flat"
    ]
    quickest = min(good, key=lambda kind: good[kind].milliseconds, default=None)
    if quickest is None:
        return "flat", tried, "; ".join(refused)
    one, exact_ms = good[quickest], tried["flat"].milliseconds
    figures = (
        f"{quickest} takes {one.milliseconds:.2f} ms a query, an exact scan {exact_ms:.2f}, "
        f"and finds {one.recall:.4f} of the exact 200"
    )
    if config.kind == "auto" and one.milliseconds > config.worth_it * exact_ms:
        return "flat", tried, "; ".join([*refused, f"{figures}: not worth its memory"])
    return quickest, tried, "; ".join([*refused, figures])


def _choice(
    vectors: Float32Array, kind: IndexKind, tried: dict[IndexKind, _Tried], reason: str
) -> IndexChoice:
    chosen = tried[kind]
    report = IndexReport(
        kind=kind,
        n=len(vectors),
        dim=vectors.shape[1],
        recall_at_200=chosen.recall,
        recalls={name: one.recall for name, one in tried.items()},
        milliseconds={name: one.milliseconds for name, one in tried.items()},
        reason=reason,
        depth=0 if chosen.shortlist is None else chosen.shortlist.depth,
        cells=0 if chosen.shortlist is None else chosen.shortlist.cells,
        max_error=None if chosen.shortlist is None else chosen.shortlist.max_error,
    )
    return IndexChoice(report, chosen.shortlist)


def build_shortlist(
    kind: IndexKind,
    vectors: Float32Array,
    queries: Float32Array,
    config: IndexConfig,
    progress: Progress,
) -> Shortlist | None:
    """The copy of that kind, None for flat; `queries` set its depth."""
    if kind == "flat":
        return None
    if kind == "fp16":
        return _half_precision(vectors)
    shortlist = Shortlist(kind, _filled(_empty(kind, vectors, config), vectors, config, progress))
    exact = _exact_scores(vectors, queries)
    for depth in DEPTHS:
        if depth > MANY_ALLOWED * len(vectors):
            break  # an exact search is quicker
        shortlist.depth = depth
        if _finds_enough(shortlist, vectors, queries, exact, config):
            break
    return shortlist


def _empty(kind: IndexKind, vectors: Float32Array, config: IndexConfig) -> faiss.Index:
    if kind == "hnsw":
        return _graph(vectors, config)
    return _cells(vectors, config) if kind == "cells" else _four_bits(vectors)


def _finds_enough(
    shortlist: Shortlist,
    vectors: Float32Array,
    queries: Float32Array,
    exact: Float32Array,
    config: IndexConfig,
) -> bool:
    """At its depth; of cells, twice the fewest that do, because a few queries tell of many."""
    index = VectorIndex(vectors, shortlist)

    def enough() -> bool:
        return _share_found(index, queries, exact) >= config.min_recall + SURE

    if shortlist.kind != "cells":
        return enough()
    shortlist.cells = MOST_CELLS
    most = shortlist.cells
    if not enough():
        return False
    while shortlist.cells > 1 and enough():
        shortlist.cells //= 2
    shortlist.cells = min(4 * shortlist.cells, most)
    return True


def _half_precision(vectors: Float32Array) -> Shortlist:
    n, d = vectors.shape
    index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:1])
    max_error = 0.0
    for block in _blocks(n):
        rows = vectors[block]
        index.add(rows)
        copies = index.reconstruct_n(block.start, len(rows))
        # 1e-6 of its length for the rounding of float32 sums
        error = np.linalg.norm(rows - copies, axis=1) + 1e-6 * np.linalg.norm(rows, axis=1)
        max_error = float(np.fmax.reduce(error, initial=max_error))  # NaN rows answer nothing
    return Shortlist("fp16", index, max_error=max_error)


def _four_bits(vectors: Float32Array) -> faiss.Index:
    d = vectors.shape[1]
    index = faiss.IndexPQFastScan(d, d, 4, faiss.METRIC_INNER_PRODUCT)
    _teach(index, vectors)
    return index


def _teach(index: "faiss.IndexPQFastScan | faiss.IndexIVFPQFastScan", rows: Float32Array) -> None:
    index.pq.cp.niter = 8  # recall .9985 of the top 200 in 400 proposals, 100k x 256
    # One codebook a number is too little work for a team: 2 threads took 120 s, one 10 s.
    faiss.omp_set_num_threads(1)
    index.train(rows[:: max(1, len(rows) // TAUGHT)][:TAUGHT])


def _cells(vectors: Float32Array, config: IndexConfig) -> faiss.Index:
    n, d = vectors.shape
    n_cells = max(int(config.cells_a_root * n**0.5), 1)
    faiss.omp_set_num_threads(config.threads)
    learner = faiss.Kmeans(
        d,
        n_cells,
        niter=8,
        spherical=True,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=LEARNED_A_CELL,
    )
    # drawn, not every tenth: catalogues come in an order that repeats itself
    drawn = np.random.default_rng(1).permutation(n)[: LEARNED_A_CELL * n_cells]
    learner.train(vectors[np.sort(drawn)])
    centres = faiss.IndexFlatIP(d)
    centres.add(np.asarray(learner.centroids, np.float32))
    index = faiss.IndexIVFPQFastScan(centres, d, n_cells, d, 4, faiss.METRIC_INNER_PRODUCT)
    centres.this.disown()  # type: ignore[attr-defined]  # SWIG's; the index deletes them
    index.own_fields = True
    _teach(index, vectors)
    return index


def _graph(vectors: Float32Array, config: IndexConfig) -> faiss.Index:
    index = faiss.IndexHNSWSQ(
        vectors.shape[1],
        faiss.ScalarQuantizer.QT_fp16,  # type: ignore[arg-type]  # FAISS's stubs are wrong here
        config.links,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.hnsw.efConstruction = config.build_depth
    index.train(vectors[:1])
    return index


def _filled(
    index: faiss.Index, vectors: Float32Array, config: IndexConfig, progress: Progress
) -> faiss.Index:
    faiss.omp_set_num_threads(config.threads)
    blocks = list(_blocks(len(vectors)))
    for block in progress.track(blocks, total=len(blocks), label="approximate index"):
        index.add(vectors[block])
    return index


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, ADDED_AT_ONCE):
        yield slice(start, min(start + ADDED_AT_ONCE, n))


def recall_at(
    index: VectorIndex, queries: Float32Array, k: int = K, *, allowed: BoolArray | None = None
) -> float:
    """Share of the exact k best that a search finds; a row that scores the same is as good."""
    return _share_found(index, queries, _exact_scores(index.vectors, queries, k, allowed), allowed)


def _exact_scores(
    vectors: Float32Array, queries: Float32Array, k: int = K, allowed: BoolArray | None = None
) -> Float32Array:
    """(b, k) less what rounding may take."""
    longest = np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max(initial=0))
    slack = 1e-6 * np.linalg.norm(queries, axis=1) * longest
    return np.asarray(exact_top(queries, vectors, k, allowed)[1] - slack[:, None], np.float32)


def _share_found(
    index: VectorIndex,
    queries: Float32Array,
    exact: Float32Array,
    allowed: BoolArray | None = None,
) -> float:
    least = np.fmin.reduce(exact, axis=1)
    k = exact.shape[1]
    # One by one, as the day asks: many queries at once are searched exactly by every kind.
    found = np.vstack([index.search(query[None], k, allowed)[1] for query in queries])
    return float(np.sum(found >= least[:, None]) / max(1, np.isfinite(exact).sum()))


def _milliseconds(index: VectorIndex, queries: Float32Array) -> float:
    """Median of CPU time, which other processes disturb less than they do the clock's."""
    taken = []
    for query in queries[:50]:
        start = thread_time()
        index.search(query[None], K)
        taken.append(thread_time() - start)
    return 1e3 * float(np.median(taken)) if taken else 0.0
