"""`python -m jobs experiments`: what runs, and what it has shown."""

import json
import time
from typing import Annotated

import typer

from features.store import Store
from jobs.console import Terminal
from recsys.settings import read_settings

app = typer.Typer(no_args_is_help=True, help="List and analyse A/B experiments.")


@app.command("list")
def list_experiments() -> None:
    """Every stored experiment and how it stands."""
    from jobs.experiments.reading import stored_experiments

    terminal = Terminal()
    with Store.open(read_settings().database_url) as store:
        found = stored_experiments(store)
    if not found:
        terminal.say("There are no experiments: PUT /v1/experiments/{name} drafts one.")
        return
    rows = [
        (e.name, e.status, e.design.kind, len(e.phases), e.decision or "", e.design.hypothesis)
        for e in found.values()
    ]
    columns = ("experiment", "status", "kind", "phases", "decision", "hypothesis")
    terminal.table("Experiments", columns, [tuple(map(str, row)) for row in rows])


@app.command("analyse")
def analyse_experiments(
    name: Annotated[str | None, typer.Argument(help="Empty: all that run")] = None,
) -> None:
    """Bring what happened into the lake, look, and write page and JSON into the reports folder."""
    from features.lake import Lake
    from jobs.experiments.reading import analysed, stored_experiment, stored_experiments
    from jobs.experiments.report import render_experiment
    from jobs.ingest import ingest
    from jobs.page import write_text
    from jobs.page_words import day
    from jobs.plan import Places, night_lock
    from recsys.experiments.experiment import REPORT

    settings, terminal, now_us = read_settings(), Terminal(), time.time_ns() // 1_000
    places = Places.of(settings)
    with Store.open(settings.database_url) as store:
        chosen = (
            [e for e in stored_experiments(store).values() if e.status == "running"]
            if name is None
            else [stored_experiment(store, name)]
        )
        chosen = [e for e in chosen if name is not None or e.design.kind != "interleave"]
        if not chosen:
            terminal.say("No experiment runs.")
            return
        with night_lock(settings.work_dir):
            ingest(store, places, now_us, terminal)
        for experiment in chosen:
            found = analysed(experiment, Lake(places.lake), as_of_us=now_us)
            text = json.dumps(found.as_json(), allow_nan=False)
            page = places.reports / "experiments" / experiment.name / f"{day(now_us)}.html"
            write_text(page, render_experiment(found))
            write_text(page.with_suffix(".json"), text)
            store.documents.put(REPORT, experiment.name, text, updated_at_us=now_us)
            terminal.say(f"{experiment.name}: {found.verdict.standing}. {found.verdict.words}")
            terminal.say(f"Report: {page}")
