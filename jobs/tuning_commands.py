"""The commands that judge the defaults and search for better ones; `__main__` names them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.store import Store
from jobs.benchmark_commands import JSON_OUT, numbers
from jobs.console import Terminal
from jobs.reports import writable, write_json
from recsys.settings import Settings, read_settings

if TYPE_CHECKING:
    from jobs.tuning_data import TuningSet
    from recsys.training.recipe import TrainingData


def benchmark_storefront(
    json_out: Annotated[Path, JSON_OUT],
    events: Annotated[int, typer.Option(min=1_000, help="Of each storefront, about")] = 50_000,
    seeds: Annotated[str, typer.Option(help="A storefront each")] = "0,1,2",
    visits: Annotated[int, typer.Option(min=2, help="Of the next morning")] = 2_000,
    k: Annotated[int, typer.Option(min=1, help="Items in a slate")] = 10,
    plot: Annotated[Path | None, typer.Option(help="An SVG file", callback=writable)] = None,
) -> None:
    """Share of the oracle's true utility that the shipped defaults reach on sample storefronts."""
    from jobs.night_config import night_config
    from jobs.sample import Size, Storefront
    from jobs.storefront_benchmark import report_of, run_contest
    from jobs.storefront_table import show_storefront_benchmark, write_drawing

    settings, terminal = read_settings(), Terminal()
    contests = []
    for seed in numbers(seeds, "--seeds", int, (0, 2**31)):
        terminal.say(f"storefront of seed {seed}")
        contest = run_contest(
            Storefront(seed, Size.for_events(events)),
            settings.event_types(),
            night_config(settings).recipe,
            visits=visits,
            k=k,
            progress=terminal,
        )
        contests.append(contest)
        report = report_of(contests, events=events, k=k)
        write_json(report, json_out)  # a run cut short keeps what it has measured
    show_storefront_benchmark(terminal, report)
    if plot is not None:
        write_drawing(report, plot)


def tune(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="store, sample-SEED[-EVENTS], or a folder of items.jsonl.gz and sequences.csv.gz;"
            " may be repeated",
        ),
    ],
    part: Annotated[str, typer.Option(help="ranker, sequence or covisitation")],
    trials: Annotated[int, typer.Option(min=1, help="In all, with those of the study")] = 30,
    study: Annotated[
        Path | None, typer.Option(help="SQLite file, to go on with; empty: in the work folder")
    ] = None,
    shoppers: Annotated[
        int | None, typer.Option(min=20, help="At most so many of a folder's")
    ] = None,
    queries: Annotated[
        int, typer.Option(min=20, help="Shoppers of each validation window, at most")
    ] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the search and of the training")] = 0,
    json_out: Annotated[Path | None, JSON_OUT] = None,
) -> None:
    """Search one trainer's configuration on validation windows of several data sets."""
    from jobs.benchmark import seeded
    from jobs.night_config import night_config
    from jobs.steps import Workshop
    from jobs.tuning import search
    from jobs.tuning_bench import Bench, judged_by
    from jobs.tuning_spaces import part_named
    from jobs.tuning_table import show_search

    settings, terminal, chosen = read_settings(), Terminal(), part_named(part)
    recipe = seeded(night_config(settings).recipe, seed)
    sets = _sets(data, settings, shoppers, terminal)
    root = settings.work_dir / "tuning"
    workshop = Workshop(root / "kept", terminal)
    benches = {
        tuned.name: Bench(tuned, recipe, workshop, queries=queries, progress=terminal)
        for tuned in sets
    }
    found = search(
        chosen,
        list(benches),
        recipe,
        judged_by(benches, chosen),
        trials=trials,
        seed=seed,
        file=study or root / f"{chosen.name}.db",
        world={"sets": {tuned.name: tuned.digest for tuned in sets}, "queries": queries},
        progress=terminal,
    )
    show_search(terminal, found)
    if json_out is not None:
        write_json(found, json_out)


def _sets(
    names: list[str], settings: Settings, shoppers: int | None, terminal: Terminal
) -> "list[TuningSet]":
    from jobs.evaluate import stored_data
    from jobs.tuning_data import by_size, read_set

    def stored() -> "TrainingData":
        with Store.open(settings.database_url) as store:
            return stored_data(store, settings.event_types())

    return by_size(
        read_set(
            name,
            stored=stored,
            event_types=settings.event_types(),
            shoppers=shoppers,
            progress=terminal,
        )
        for name in names
    )
