"""The command that measures the server; `__main__` names it."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from jobs.benchmark_commands import JSON_OUT, numbers
from jobs.console import Terminal
from jobs.page import write_text
from jobs.page_words import minute
from jobs.reports import write_json
from recsys.settings import read_settings


def benchmark_serving(
    json_out: Annotated[Path, JSON_OUT],
    items: Annotated[
        str, typer.Option(help="Sizes of the shop, commas between")
    ] = "10000,100000,1000000",
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each load")] = 9.0,
    shoppers: Annotated[int, typer.Option(min=50, help="With a history")] = 5_000,
) -> None:
    """Latency, throughput, memory and start of a real server, beside what HTTP alone costs."""
    from jobs.night_config import night_config
    from jobs.serving_benchmark import ServingReport, now_us, run_serving
    from jobs.serving_driver import Pace
    from jobs.serving_release import make_encoder
    from jobs.serving_table import serving_page, show_serving

    pace = Pace(seconds=seconds)
    sizes = numbers(items, "--items", int, (1_000, 10_000_000))
    terminal, began = Terminal(), time.perf_counter()
    found = []
    with TemporaryDirectory(prefix="serving-encoder-") as name:
        encoder = make_encoder(night_config(read_settings()).recipe.encoder, Path(name))
        for report in run_serving(sizes, encoder, pace=pace, shoppers=shoppers, progress=terminal):
            show_serving(terminal, report)
            found.append(report)
            whole = ServingReport(pace=pace, sizes=tuple(found))
            write_json(whole, json_out)  # a run cut short keeps what it has measured
            page = json_out.with_suffix(".html")
            write_text(page, serving_page(whole, minute(now_us())))
    took_s = time.perf_counter() - began
    terminal.say(f"{took_s:.0f} s. Figures: {json_out}; page: {page}")
