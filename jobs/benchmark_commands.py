"""The commands that measure parts of the system; `__main__` gives them their names."""

import os
import time
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_args

import typer

from features.errors import ConfigError, ReleaseError
from jobs.console import Terminal
from jobs.reports import writable
from recsys.releases import Releases
from recsys.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

N = TypeVar("N", int, float)
JSON_OUT = typer.Option("--json", help="Write the figures here", callback=writable)
ReleaseId = Annotated[str | None, typer.Option("--release", help="Empty: the live one")]


def benchmark_encoder(
    items: Annotated[Path, typer.Option(help="JSONL, CSV or Parquet, gz too")],
    sequences: Annotated[Path, typer.Option(help="user_id, position, item_id")],
    json_out: Annotated[Path, JSON_OUT],
    strategies: Annotated[
        str, typer.Option(help="Beside frozen and item_map: top_layers, lora, full")
    ] = "top_layers",
    folds: Annotated[int, typer.Option(min=1, max=10, help="Tenths of the items, cold")] = 10,
    seeds: Annotated[str, typer.Option(help="Taken in turn by the folds")] = "0,1,2",
) -> None:
    """What each way to tune the encoder adds to the frozen one, by text alone, fold by fold."""
    from jobs.benchmark import read_items, read_sequences
    from jobs.encoder_benchmark import EncoderPlan, run_encoder_benchmark
    from jobs.encoder_table import show_encoder_benchmark
    from jobs.night_config import night_config

    terminal, recipe = Terminal(), night_config(read_settings()).recipe
    report = run_encoder_benchmark(
        read_items(items),
        read_sequences(sequences),
        dataset=items.resolve().parent.name,
        configs=(recipe.encoder, recipe.text.item_map),
        plan=EncoderPlan.parse(strategies, folds, seeds),
        out=json_out,
        progress=terminal,
    )
    show_encoder_benchmark(terminal, report)


def benchmark_index(
    sizes: Annotated[str, typer.Option(help="Rows, the release's own enlarged")] = "10000,100000",
    kinds: Annotated[str, typer.Option(help="Of flat, fp16, pq4, cells, hnsw")] = "flat,fp16,pq4",
    allowed: Annotated[str, typer.Option(help="Shares of the rows a filter lets pass")] = "1,0.9",
    release: ReleaseId = None,
) -> None:
    """What each kind of index costs and finds, on the text vectors of a release."""
    import numpy as np

    from jobs.index_benchmark import K, index_speed
    from recsys.retrieval.shortlist import IndexKind
    from recsys.retrieval.text_space import load_taste_vectors
    from recsys.training.index import IndexConfig

    chosen = cast("Sequence[IndexKind]", among(kinds, get_args(IndexKind), "--kinds"))
    rows_of = numbers(sizes, "--sizes", int, (K, 10**9))
    shares = numbers(allowed, "--allowed", float, (1e-6, 1.0))
    folder, terminal = _release(read_settings(), release), Terminal()
    rows = index_speed(
        np.ascontiguousarray(load_taste_vectors(folder / "text")),
        rows_of,
        kinds=chosen,
        shares=shares,
        config=IndexConfig(),
        progress=terminal,
    )
    _table(terminal, f"One query for {K} items", rows)


def benchmark_embedding(
    texts: Annotated[int, typer.Option(min=1, help="Of the catalogue, from its beginning")] = 512,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    release: ReleaseId = None,
) -> None:
    """How fast each engine embeds a release's catalogue, and how long a typed query waits."""
    import polars as pl
    import torch

    from jobs.embedding_speed import embedding_speed
    from recsys.retrieval.text import item_texts

    folder = _release(read_settings(), release)
    torch.set_num_threads(threads)
    catalogue = item_texts(pl.read_parquet(folder / "items.parquet").head(texts))
    rows = embedding_speed(folder / "encoder", catalogue)
    _table(Terminal(), f"{len(catalogue)} texts, {threads} threads", rows)


def benchmark_peers(
    json_out: Annotated[Path, JSON_OUT],
    data: Annotated[
        Path | None,
        typer.Option(help="What import reads, or items.* and sequences.*; empty: the store"),
    ] = None,
    peers: Annotated[str, typer.Option(help="Commas between; empty: all")] = "",
    folds: Annotated[int, typer.Option(min=1, help="Windows in time, pooled")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of every arm")] = 2,
    python: Annotated[
        Path, typer.Option(help="Of the peers' environment: `make bench-peers` makes it")
    ] = Path(".venv-peers/bin/python"),
    limit_minutes: Annotated[float, typer.Option(min=0.1, help="Of one arm on one fold")] = 60,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget arms that are done")] = False,
) -> None:
    """This system and other libraries on one split: quality, seconds, memory."""
    from jobs.page import write_text
    from jobs.peers.arms import PEERS, Arms, arm_commands, known_peers
    from jobs.peers.bench import run_bench
    from jobs.peers.report import peers_page, show_peers
    from jobs.peers.sources import splits_of
    from jobs.reports import write_json

    settings, terminal = read_settings(), Terminal()
    chosen = known_peers([name.strip() for name in peers.split(",") if name.strip()] or PEERS)
    name, splits = splits_of(data, settings, folds, terminal, now_us=time.time_ns() // 1_000)
    arms = Arms(
        work=settings.work_dir / "peers" / name,
        commands=arm_commands(python.absolute(), chosen),
        environment=dict(os.environ),
        threads=threads,
        seed=seed,
        limit_s=60 * limit_minutes,
    )
    report = run_bench(arms, splits, name, terminal, fresh=fresh)
    show_peers(terminal, report)
    write_json(report, json_out)
    page = json_out.with_suffix(".html")
    write_text(page, peers_page(report))
    terminal.say(f"Figures: {json_out}; page: {page}")


def _release(settings: Settings, release: str | None) -> Path:
    shelf = Releases(settings.releases_dir)
    chosen = release or shelf.current()
    if chosen is None:
        raise ReleaseError(f"no release in {shelf.root}: run `python -m jobs night` first")
    return shelf.path(chosen)


def _table(terminal: Terminal, title: str, rows: "Sequence[Any]") -> None:
    columns = [column.name for column in fields(rows[0])]
    terminal.table(title, columns, [list(astuple(row)) for row in rows])


def numbers(text: str, option: str, kind: "Callable[[str], N]", bounds: tuple[N, N]) -> list[N]:
    low, high = bounds
    try:
        found = [kind(number) for number in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(low <= number <= high for number in found):  # NaN fails too
        raise ConfigError(
            f"{option}: found {text!r}, expected numbers from {low} to {high}, commas between"
        )
    return found


def among(text: str, known: tuple[str, ...], option: str) -> list[str]:
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found or not set(found) <= set(known):
        raise ConfigError(f"{option}: found {text!r}, expected some of {', '.join(known)}")
    return found
