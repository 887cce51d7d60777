"""What each kind of index costs and finds, on one catalogue at several sizes."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np

from features.arrays import BoolArray, Float32Array
from recsys.progress import Progress
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.shortlist import IndexKind
from recsys.training.index import IndexConfig, build_shortlist, recall_at

K = 200
NOISE = 0.8  # of a row's length: a copy is then as near to its original as .78, as kin items are


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpeed:
    """One query of one kind; times of kinds are taken in turn, so that `ratio` can be trusted."""

    kind: str
    n: int
    d: int
    allowed: float  # share of rows
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    ratio: float  # of p50 to that of the flat search
    recall_at_200: float
    build_s: float
    mib: float  # of the matrix or, besides it, of the copy


def index_speed(
    vectors: Float32Array,
    sizes: Sequence[int],
    *,
    kinds: Sequence[IndexKind] = ("flat", "fp16", "pq4"),
    shares: Sequence[float] = (1.0,),
    n_queries: int = 100,
    seed: int = 0,
    config: IndexConfig,
    progress: Progress,
) -> list[IndexSpeed]:
    """`vectors` (n, d) enlarged to each size; queries are decayed means of three rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in progress.track(sizes, total=len(sizes), label="index sizes"):
        matrix = enlarged(vectors, n, rng)
        queries, tuning = _taste(matrix, n_queries, rng), _taste(matrix, n_queries, rng)
        built = {kind: _built(kind, matrix, tuning, config, progress) for kind in kinds}
        for share in shares:
            allowed = None if share == 1.0 else rng.random(n) < share
            rows += _compared(matrix, built, queries, allowed, share)
    return rows


def enlarged(vectors: Float32Array, n: int, rng: np.random.Generator) -> Float32Array:
    """(n, d) unit rows: a sample, or all rows and noisy copies of them."""
    picked = rng.permutation(max(n, len(vectors)))[:n]
    matrix = vectors[picked % len(vectors)]
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    copies = picked >= len(vectors)
    scale = NOISE / np.sqrt(matrix.shape[1])
    matrix[copies] += rng.normal(0, scale, (copies.sum(), matrix.shape[1]))
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    return np.ascontiguousarray(matrix, np.float32)


def _taste(matrix: Float32Array, n: int, rng: np.random.Generator) -> Float32Array:
    weights = np.array([1.0, 0.7, 0.49], np.float32)
    slots = matrix[rng.integers(len(matrix), size=(n, 3))]
    return np.asarray(np.einsum("l,nld->nd", weights / weights.sum(), slots), np.float32)


@dataclass(frozen=True, slots=True)
class _Built:
    index: VectorIndex
    seconds: float
    mib: float


def _built(
    kind: IndexKind,
    matrix: Float32Array,
    tuning: Float32Array,
    config: IndexConfig,
    progress: Progress,
) -> _Built:
    start = perf_counter()
    shortlist = build_shortlist(kind, matrix, tuning, config, progress)
    seconds = perf_counter() - start
    if shortlist is None:
        return _Built(VectorIndex(matrix), 0.0, matrix.nbytes / 2**20)
    with tempfile.TemporaryDirectory(prefix="index-benchmark-") as folder:
        shortlist.save(Path(folder) / "vectors.npy")
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return _Built(VectorIndex(matrix, shortlist), seconds, size / 2**20)


def _compared(
    matrix: Float32Array,
    built: dict[IndexKind, _Built],
    queries: Float32Array,
    allowed: BoolArray | None,
    share: float,
) -> list[IndexSpeed]:
    wall, cpu = _timed({kind: one.index for kind, one in built.items()}, queries, allowed)
    flat_ms = float(np.median(wall.get("flat", wall[next(iter(wall))])))
    return [
        IndexSpeed(
            kind=kind,
            n=len(matrix),
            d=matrix.shape[1],
            allowed=share,
            p50_ms=float(np.median(wall[kind])),
            p99_ms=float(np.percentile(wall[kind], 99)),
            cpu_ms=float(np.median(cpu[kind])),
            ratio=float(np.median(wall[kind])) / flat_ms,
            recall_at_200=recall_at(one.index, queries, allowed=allowed),
            build_s=one.seconds,
            mib=one.mib,
        )
        for kind, one in built.items()
    ]


def _timed(
    indexes: dict[IndexKind, VectorIndex], queries: Float32Array, allowed: BoolArray | None
) -> tuple[dict[IndexKind, list[float]], dict[IndexKind, list[float]]]:
    """Milliseconds by the clock and of CPU, one query at a time, the kinds in turn."""
    wall: dict[IndexKind, list[float]] = {kind: [] for kind in indexes}
    cpu: dict[IndexKind, list[float]] = {kind: [] for kind in indexes}
    for query in queries:
        for kind, index in indexes.items():
            index.search(query[None], K, allowed)  # the cache as this kind leaves it
            before, cpu_before = perf_counter(), thread_time()
            index.search(query[None], K, allowed)
            cpu[kind].append(1e3 * (thread_time() - cpu_before))
            wall[kind].append(1e3 * (perf_counter() - before))
    return wall, cpu
