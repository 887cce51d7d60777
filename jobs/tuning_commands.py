"""The commands that judge the defaults and search for better ones; `__main__` names them."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.benchmark_commands import JSON_OUT, numbers
from jobs.console import Terminal
from jobs.reports import writable, write_json
from recsys.settings import read_settings


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
