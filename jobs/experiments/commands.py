"""`python -m jobs experiments`: drafted, started, watched, stopped and decided from a shell."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from features.store import Store
from jobs.benchmark_commands import JSON_OUT
from jobs.console import Terminal
from jobs.experiments.stored import (
    Step,
    draft,
    read_design,
    stored_experiment,
    stored_experiments,
    take,
)
from recsys.experiments import lifecycle
from recsys.experiments.experiment import Experiment, microseconds
from recsys.releases import Releases
from recsys.settings import read_settings

app = typer.Typer(no_args_is_help=True, help="Run and analyse A/B experiments.")

Name = Annotated[str, typer.Argument(help="Of the experiment")]
Reason = Annotated[str, typer.Option(help="For whoever reads the log later")]


@app.command("list")
def list_experiments() -> None:
    """Every stored experiment and how it stands."""
    terminal = Terminal()
    with Store.open(read_settings().database_url) as store:
        found = stored_experiments(store)
    if not found:
        terminal.say("There are no experiments: `experiments put FILE` drafts one.")
        return
    rows = [
        (e.name, e.status, e.design.kind, len(e.phases), e.decision or "", e.design.hypothesis)
        for e in found.values()
    ]
    columns = ("experiment", "status", "kind", "phases", "decision", "hypothesis")
    terminal.table("Experiments", columns, [tuple(map(str, row)) for row in rows])


@app.command("show")
def show(name: Name) -> None:
    """One experiment: what is varied, its metrics and its log."""
    with Store.open(read_settings().database_url) as store:
        _show(Terminal(), stored_experiment(store, name))


@app.command("put")
def put(file: Annotated[Path, typer.Argument(help="A design as TOML or JSON")]) -> None:
    """Draft an experiment, or change the stored one of its name."""
    settings, design, now = read_settings(), read_design(file), _now()
    lifecycle.check_releases(design, Releases(settings.releases_dir).list())

    def step(experiment: Experiment, others: Sequence[Experiment]) -> Experiment:
        return lifecycle.changed(experiment, design, now, others)

    with Store.open(settings.database_url) as store:
        if design.name in stored_experiments(store):
            after = take(store, design.name, step, now_us=microseconds(now))
        else:
            after = draft(store, design, now)
    _show(Terminal(), after)


@app.command("preview")
def preview_experiment(name: Name) -> None:
    """What each variant would show some shoppers now, as a page; nothing counts as shown."""
    from jobs.experiments.watching import preview
    from jobs.plan import Places

    settings = read_settings()
    with Store.open(settings.database_url) as store:
        experiment = stored_experiment(store, name)
        page = preview(store, Places.of(settings), experiment, microseconds(_now()))
    Terminal().say(f"Preview: {page}")


@app.command("start")
def start(name: Name, reason: Reason = "") -> None:
    """Begin a phase: from now on units get their variants."""
    _take(name, lambda experiment, all_: lifecycle.started(experiment, _now(), reason, all_))


@app.command("stop")
def stop(name: Name, reason: Reason = "") -> None:
    """End it: everybody is answered as without it."""
    _take(name, lambda experiment, _: lifecycle.stopped(experiment, _now(), reason))


@app.command("decide")
def decide(
    name: Name, variant: Annotated[str, typer.Argument(help="That was chosen")], reason: Reason = ""
) -> None:
    """Write down what was decided, for good; no answer changes by it."""
    _take(name, lambda experiment, _: lifecycle.decided(experiment, _now(), variant, reason))


@app.command("analyse")
def analyse_experiments(
    name: Annotated[str | None, typer.Argument(help="Empty: all that run")] = None,
) -> None:
    """Bring what happened into the lake, look, and write page and JSON into the reports folder."""
    from jobs.experiments.watching import look, running
    from jobs.ingest import ingest
    from jobs.plan import Places, night_lock

    settings, terminal, now_us = read_settings(), Terminal(), microseconds(_now())
    places = Places.of(settings)
    with Store.open(settings.database_url) as store:
        chosen = running(store) if name is None else [stored_experiment(store, name)]
        if not chosen:
            terminal.say("No experiment runs.")
            return
        with night_lock(settings.work_dir):
            ingest(store, places, now_us, terminal)
        for _ in look(store, places, chosen, now_us, terminal):
            pass


@app.command("watch")
def watch_experiments() -> None:
    """Analyse all that run, stop what does harm, and give bandits their new shares.

    One look, for a scheduler to repeat; the night takes one too.
    """
    from jobs.experiments.watching import watch
    from jobs.ingest import ingest
    from jobs.plan import Places, night_lock

    settings, terminal, now_us = read_settings(), Terminal(), microseconds(_now())
    places = Places.of(settings)
    with Store.open(settings.database_url) as store, night_lock(settings.work_dir):
        ingest(store, places, now_us, terminal)
        watch(store, places, now_us, terminal)


def benchmark_experiments(
    json_out: Annotated[Path, JSON_OUT],
    experiments: Annotated[int, typer.Option(min=2, help="A/A experiments of each kind")] = 2_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """How often experiments cry wolf, miss the truth, or find an effect, where all is known."""
    from jobs.experiments.benchmark import run_benchmark, show_benchmark
    from jobs.reports import write_json

    terminal = Terminal()
    found = run_benchmark(experiments=experiments, seed=seed, progress=terminal)
    show_benchmark(terminal, found)
    write_json(found, json_out)
    terminal.say(f"Figures: {json_out}")


def _take(name: str, step: Step) -> None:
    with Store.open(read_settings().database_url) as store:
        after = take(store, name, step, now_us=microseconds(_now()))
    _show(Terminal(), after)


def _show(terminal: Terminal, experiment: Experiment) -> None:
    design = experiment.design
    terminal.say(f"{experiment.name}: {experiment.status}. {design.hypothesis}")
    terminal.table(
        f"Variants, by {design.unit}, coverage {design.coverage:.0%}",
        ("variant", "weight", "what differs", "description"),
        [(v.key, v.weight, v.differs, v.description) for v in design.variants],
    )
    roles = [("goal", design.plan.goals), ("guardrail", design.plan.guardrails)]
    terminal.table(
        "Metrics",
        ("metric", "role", "kind", "event", "better", "margin"),
        [
            (m.name, role, m.kind, m.event_type, m.direction, m.margin)
            for role, metrics in (*roles, ("secondary", design.plan.secondary))
            for m in metrics
        ],
    )
    log = [(f"{e.at:%Y-%m-%d %H:%M}", e.action, e.reason) for e in experiment.log]
    terminal.table("Log", ("UTC", "action", "reason"), log)


def _now() -> datetime:
    return datetime.now(UTC)
