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
TAUGHT: Final = 4096  # rows the 16 levels of each number are fitted to
SURE: Final = 0.002  # above the least recall: twice its standard error over 200 queries
ADDED_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """`auto` takes the quickest that finds enough."""

    kind: Literal["auto", "flat", "fp16", "pq4", "hnsw"] = "auto"
    half_from: int = 20_000  # rows; at 10k x 256 fp16 saves under 0.1 ms a query
    approximate_from: int = 50_000  # rows; here an exact scan of 256 numbers takes 2.5 ms and more
    graph_from: int = 1_000_000  # rows; at 100k pq4 is quicker than a graph of equal recall
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
    for kind in kinds:
        shortlist = build_shortlist(kind, vectors, tuning, config, progress)
        index = VectorIndex(vectors, shortlist)
        tried[kind] = _Tried(shortlist, recall_at(index, held_out), _milliseconds(index, held_out))
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
        ("hnsw", config.graph_from),
    )
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
    if kind == "pq4":
        shortlist = Shortlist(kind, _four_bits(vectors, progress))
    else:
        shortlist = Shortlist(kind, _graph(vectors, config, progress))
    for depth in DEPTHS:
        if depth > MANY_ALLOWED * len(vectors):
            break  # an exact search is quicker
        shortlist.depth = depth
        if recall_at(VectorIndex(vectors, shortlist), queries) >= config.min_recall + SURE:
            break
    return shortlist


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


def _four_bits(vectors: Float32Array, progress: Progress) -> faiss.Index:
    n, d = vectors.shape
    index = faiss.IndexPQFastScan(d, d, 4, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.niter = 8  # recall .9985 of the top 200 in 400 proposals, 100k x 256
    # One codebook a number is too little work for a team: 2 threads took 120 s, one 10 s.
    faiss.omp_set_num_threads(1)
    index.train(vectors[:: max(1, n // TAUGHT)][:TAUGHT])
    return _filled(index, vectors, progress)


def _graph(vectors: Float32Array, config: IndexConfig, progress: Progress) -> faiss.Index:
    index = faiss.IndexHNSWSQ(
        vectors.shape[1],
        faiss.ScalarQuantizer.QT_fp16,  # type: ignore[arg-type]  # FAISS's stubs are wrong here
        config.links,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.hnsw.efConstruction = config.build_depth
    faiss.omp_set_num_threads(config.threads)
    index.train(vectors[:1])
    return _filled(index, vectors, progress)


def _filled(index: faiss.Index, vectors: Float32Array, progress: Progress) -> faiss.Index:
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
    exact = exact_top(queries, index.vectors, k, allowed)[1]
    slack = 1e-6 * np.linalg.norm(queries, axis=1) * np.linalg.norm(index.vectors, axis=1).max()
    least = np.fmin.reduce(exact, axis=1) - slack
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
