"""How fast each engine embeds a catalogue here, and how long a shopper's query waits."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Float32Array, Int64Array
from features.errors import DataError
from recsys.retrieval.encoder import BATCH_SIZE, EncoderCard, OnnxEncoder
from recsys.training.encoder.base import compute_device
from recsys.training.encoder.embedding import onnx_vectors, torch_vectors
from recsys.training.encoder.export import TORCH_FOLDER
from recsys.training.encoder.tokens import CUDA_CHUNK

QUERIES = ("red lipstick", "warm light for reading", "shampoo for dry curly hair")
QUERY_ROUNDS = 100

Vectors = Iterator[tuple[Int64Array, Float32Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpeed:
    """One engine on one set of texts; `ratio` is its rate over the first engine's."""

    engine: str
    texts_per_second: float  # the best of the rounds: others may use the machine too
    texts_per_core_second: float  # by the process's own clock, which others hardly disturb
    ratio: float  # of texts per core-second
    smallest_cosine: float  # to the first engine's vectors
    query_p50_ms: float | None  # one text through `encode_queries`; None where no day uses it


def embedding_speed(folder: Path, texts: Sequence[str], *, rounds: int = 3) -> list[EngineSpeed]:
    """ONNX Runtime first, as the day has it, then torch where its weights are kept.

    Engines take turns in each round, so that a busy moment meets all of them; loading is timed
    with the texts, as at night. `torch.set_num_threads` decides about the threads of both.
    """
    if not texts:
        raise DataError("embedding_speed: found no texts, expected some. Give it a catalogue.")
    engines = _engines(folder, texts)
    dim = EncoderCard.load(folder).dim
    wall: dict[str, list[float]] = {name: [] for name in engines}
    busy: dict[str, list[float]] = {name: [] for name in engines}
    vectors = {name: np.zeros((len(texts), dim), np.float32) for name in engines}
    for _ in range(rounds):
        for name, embed in engines.items():
            began, used = time.perf_counter(), time.process_time()
            for rows, part in embed():
                vectors[name][rows] = part
            wall[name].append(time.perf_counter() - began)
            busy[name].append(time.process_time() - used)
    first = next(iter(engines))
    query_p50_ms = {first: _query_p50_ms(folder)}
    return [
        EngineSpeed(
            engine=name,
            texts_per_second=len(texts) / min(wall[name]),
            texts_per_core_second=len(texts) / min(busy[name]),
            ratio=min(busy[first]) / min(busy[name]),
            smallest_cosine=float((vectors[first] * vectors[name]).sum(axis=1).min()),
            query_p50_ms=query_p50_ms.get(name),
        )
        for name in engines
    ]


def _engines(folder: Path, texts: Sequence[str]) -> dict[str, Callable[[], Vectors]]:
    engines: dict[str, Callable[[], Vectors]] = {
        "ONNX Runtime": lambda: onnx_vectors(folder, texts)
    }
    if (folder / TORCH_FOLDER).is_dir():
        device = compute_device()
        size = CUDA_CHUNK if device.type == "cuda" else BATCH_SIZE
        engines[f"torch, {device.type}"] = lambda: torch_vectors(folder, texts, device, size)
    return engines


def _query_p50_ms(folder: Path) -> float:
    """With one thread, as a server has it."""
    encoder = OnnxEncoder.load(folder)
    waits = []
    for turn in range(QUERY_ROUNDS):
        began = time.perf_counter()
        encoder.encode_queries([QUERIES[turn % len(QUERIES)]])
        waits.append(time.perf_counter() - began)
    return 1_000 * float(np.median(waits))
