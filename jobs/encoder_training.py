"""One training of a text encoder in a process of its own, so that its memory is its own too."""

import multiprocessing
import re
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import orjson
import polars as pl

from features.errors import RecsysError
from features.interactions import Interactions
from jobs.console import Terminal
from recsys.progress import Progress
from recsys.retrieval.text import item_texts
from recsys.retrieval.text_space import TextMaps
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.item_map import ItemMapConfig, fit_item_map
from recsys.training.text import fit_text_encoder, rows_to_whiten

RAW, CACHE, FACTS, ENCODER = "raw.npy", "vectors.safetensors", "facts.json", "encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What to learn from and where to leave it; `past` holds positive events only."""

    items: pl.DataFrame
    past: Interactions
    encoder: EncoderConfig
    item_map: ItemMapConfig
    folder: Path
    frozen: Path  # what `prepare_frozen` made


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What it took; the memory is the whole process's, of which libraries are about 400 MB."""

    shipped: bool
    reason: str
    map_shipped: bool
    map_reason: str
    tuning_cpu_s: float
    map_cpu_s: float
    total_cpu_s: float  # encoding the catalogue and the export included
    wall_s: float
    peak_mb: float


def train_apart(task: TrainingTask, progress: Progress) -> TrainingFacts:
    """Like `train`, in a new process that shows its own progress."""
    del progress
    process = multiprocessing.get_context("spawn").Process(target=_train_here, args=(task,))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RecsysError(
            f"training {task.encoder.strategy} ended with exit code {process.exitcode}; its output"
            " is above. What was measured before it is kept: run the same command again."
        )
    return read_facts(task.folder)


def _train_here(task: TrainingTask) -> None:
    train(task, Terminal())


def train(task: TrainingTask, progress: Progress) -> TrainingFacts:
    """Leaves an encoder, both maps and the catalogue's vectors in `task.folder`, as a night would.

    Without anything to tune, the encoder stays in `task.frozen`: see `encoder_folder`.
    """
    started, cpu = perf_counter(), process_time()
    task.folder.mkdir(parents=True, exist_ok=True)
    texts, cache = item_texts(task.items), task.folder / CACHE
    cache.write_bytes((task.frozen / CACHE).read_bytes())  # enough where the base is kept
    shipped, reason, tuning = False, "nothing to tune", 0.0
    if not task.encoder.tunes_nothing:
        report = fit_text_encoder(task.items, task.past, task.encoder, task.folder, progress)
        shipped, reason, tuning = report.tuned, report.reason, report.cpu_seconds
    raw = encode_catalogue(encoder_folder(task), texts, progress, cache=cache)
    visible = rows_to_whiten(raw, task.past, min_visible=1)  # of a cold item nothing is known
    whitening = Whitening.fit(visible)
    taste, learned = fit_item_map(raw, whitening, task.past, task.item_map, progress)
    TextMaps(whitening, taste).save(task.folder)
    np.save(task.folder / RAW, raw, allow_pickle=False)
    facts = TrainingFacts(
        shipped=shipped,
        reason=reason,
        map_shipped=learned.shipped,
        map_reason=learned.reason,
        tuning_cpu_s=tuning,
        map_cpu_s=learned.cpu_seconds,
        total_cpu_s=process_time() - cpu,
        wall_s=perf_counter() - started,
        peak_mb=peak_memory_mb(),
    )
    (task.folder / FACTS).write_bytes(orjson.dumps(facts))
    return facts


def encoder_folder(task: TrainingTask) -> Path:
    return (task.frozen if task.encoder.tunes_nothing else task.folder) / ENCODER


def prepare_frozen(
    items: pl.DataFrame, past: Interactions, config: EncoderConfig, folder: Path, progress: Progress
) -> Path:
    """The base as it is with the catalogue's vectors, made once for every task."""
    if not (folder / ENCODER).exists():
        draft = folder / ".draft"
        fit_text_encoder(items, past, replace(config, strategy="frozen"), draft, progress)
        (draft / ENCODER).rename(folder / ENCODER)
    encode_catalogue(folder / ENCODER, item_texts(items), progress, cache=folder / CACHE)
    return folder


def read_facts(folder: Path) -> TrainingFacts:
    return TrainingFacts(**orjson.loads((folder / FACTS).read_bytes()))


def peak_memory_mb() -> float:
    """Of this program; `ru_maxrss` on Linux also counts the parent's, before the exec."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("utf-8")) if status.exists() else None
    kilobytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 1024
