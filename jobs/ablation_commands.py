"""The commands that say what each part gives; `__main__` gives them their names."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, cast

import typer

from features.errors import ConfigError
from features.store import Store
from jobs.benchmark_commands import JSON_OUT, among
from jobs.console import Terminal
from jobs.reports import write_json
from recsys.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.ablation_table import Kind
    from jobs.judged_past import JudgedPast

TABLES = ("yardstick", "source", "alone", "views")


def benchmark_sources(
    json_out: Annotated[Path, JSON_OUT],
    items: Annotated[
        Path | None, typer.Option(help="JSONL, CSV or Parquet, gz too; empty: the store")
    ] = None,
    sequences: Annotated[Path | None, typer.Option(help="user_id, position, item_id")] = None,
    tables: Annotated[str, typer.Option(help="Some of these")] = ",".join(TABLES),
    ranker_seeds: Annotated[int, typer.Option(min=1, help="Rankers of each row")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """What each source and each group of views gives, with a page beside the JSON."""
    from jobs.ablation import run_ablation
    from jobs.ablation_table import show_ablation, write_ablation_page
    from jobs.lambdamart import load_lightgbm
    from jobs.night_config import night_config

    settings, terminal = read_settings(), Terminal()
    kinds = cast("Sequence[Kind]", among(tables, TABLES, "--tables"))
    if "yardstick" in kinds:
        load_lightgbm()  # hours may pass before it is needed
    with TemporaryDirectory(prefix="sources-") as name:
        report = run_ablation(
            _task(settings, items, sequences),
            night_config(settings).recipe,
            Path(name),
            terminal,
            kinds=kinds,
            seed=seed,
            n_seeds=ranker_seeds,
        )
    show_ablation(terminal, report)
    write_json(report, json_out)
    page = json_out.with_suffix(".html")
    write_ablation_page(report, page, f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}")
    terminal.say(f"Figures: {json_out}; page: {page}")


def benchmark_cold_start(
    items: Annotated[Path, typer.Option(help="JSONL, CSV or Parquet, gz too")],
    sequences: Annotated[Path, typer.Option(help="user_id, position, item_id")],
    json_out: Annotated[Path, JSON_OUT],
    folds: Annotated[
        int, typer.Option(min=1, max=10, help="Tenths of the items, cold; a training each")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Shoppers of whom 0, 1, 2, 5 or all events are known, and items without any event."""
    from jobs.benchmark import read_items, read_sequences
    from jobs.cold_start import run_cold_start
    from jobs.cold_start_table import show_cold_start
    from jobs.night_config import night_config

    settings, terminal = read_settings(), Terminal()
    report = run_cold_start(
        read_items(items),
        read_sequences(sequences),
        dataset=items.resolve().parent.name,
        config=night_config(settings).recipe,
        seed=seed,
        folds=folds,
        progress=terminal,
    )
    show_cold_start(terminal, report)
    write_json(report, json_out)


def _task(settings: Settings, items: Path | None, sequences: Path | None) -> "JudgedPast":
    from jobs.benchmark import read_items, read_sequences
    from jobs.evaluate import stored_data
    from jobs.judged_past import JudgedPast

    if items is not None and sequences is not None:
        dataset = items.resolve().parent.name
        return JudgedPast.of_sequences(read_items(items), read_sequences(sequences), dataset)
    if items is not None or sequences is not None:
        raise ConfigError(
            "found only one of --items and --sequences, expected both or, for the store, neither"
        )
    with Store.open(settings.database_url) as store:
        return JudgedPast.of_store(stored_data(store, settings.event_types()))
