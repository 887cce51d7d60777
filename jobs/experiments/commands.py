"""`python -m jobs experiments`: drafted, started, watched, stopped and decided from a shell."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from features.store import Store
from jobs.benchmark_commands import JSON_OUT
from jobs.console import Terminal
from jobs.experiments.design_file import read_design
from recsys.experiments import lifecycle, stored
from recsys.experiments.assignment import Running
from recsys.experiments.experiment import Experiment, microseconds
from recsys.experiments.stored import StoredExperiments
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
        found = StoredExperiments.read(store.documents)
    rows: list[tuple[object, ...]] = [
        (e.name, e.status, e.design.kind, len(e.phases), e.decision or "", e.design.hypothesis)
        for e in found.all
    ]
    rows += [(name, "unreadable", "", "", "", "") for name in found.unreadable]
    if not rows:
        terminal.say("There are no experiments: `experiments put FILE` drafts one.")
        return
    columns = ("experiment", "status", "kind", "phases", "decision", "hypothesis")
    terminal.table("Experiments", columns, [tuple(map(str, row)) for row in rows])


@app.command("show")
def show(name: Name) -> None:
    """One experiment: what is varied, its metrics and its log."""
    with Store.open(read_settings().database_url) as store:
        _show(Terminal(), _named(store, name))


@app.command("put")
def put(file: Annotated[Path, typer.Argument(help="A design as TOML or JSON")]) -> None:
    """Draft an experiment, or change the stored one of its name."""
    settings, design = read_settings(), read_design(file)
    with Store.open(settings.database_url) as store:
        ids = Releases(settings.releases_dir).list()
        _show(Terminal(), stored.put(store.documents, design, release_ids=ids, now=_now()))


@app.command("delete")
def delete(name: Name) -> None:
    """Forget a draft, or one that cannot be read; what has run stays."""
    with Store.open(read_settings().database_url) as store:
        stored.remove(store.documents, name, now=_now())
    Terminal().say(f"{name} is deleted.")


@app.command("holdout")
def holdout(
    share: Annotated[
        float | None, typer.Argument(min=0, max=0.99, help="Of the units; empty: only say it")
    ] = None,
) -> None:
    """The share of units that no experiment touches; it changes only while none runs."""
    with Store.open(read_settings().database_url) as store:
        held = stored.holdout_of(store.documents)
        if share is not None:
            held = held.model_copy(update={"share": share})
            stored.hold_out(store.documents, held, now=_now())
    Terminal().say(f"{held.share:.1%} of the units are held out of every experiment.")


@app.command("who")
def who_gets(
    name: Name,
    unit_id: Annotated[str, typer.Argument(help="A user or session")],
    placement: Annotated[str, typer.Option()] = "home",
) -> None:
    """What a unit would get of a running experiment now, and by what; nothing counts as shown."""
    with Store.open(read_settings().database_url) as store:
        running = StoredExperiments.read(store.documents).running
        is_session = _named(store, name).design.unit == "session"
        user = None if is_session else store.people.user(unit_id)
        assigned = Running.of(running, stored.holdout_of(store.documents)).assign(
            placement=placement,
            user_id=None if is_session else unit_id,
            session_id=unit_id if is_session else None,
            now_us=microseconds(_now()),
            attributes=lambda: {} if user is None else json.loads(str(user["attributes"])),
        )
    given = next((a for a in assigned.assignments if a.experiment == name), None)
    words = "takes no part" if given is None else f"{given.variant}, by {given.how}"
    Terminal().say(f"{name} on {placement}: {unit_id}: {words}")


@app.command("preview")
def preview_experiment(name: Name) -> None:
    """What each variant would show some shoppers now, and how long it will take, as a page."""
    from jobs.experiments.watching import preview
    from jobs.plan import Places

    settings = read_settings()
    with Store.open(settings.database_url) as store:
        experiment = _named(store, name)
        page = preview(store, Places.of(settings), experiment, microseconds(_now()))
    Terminal().say(f"Preview: {page}")


@app.command("start")
def start(name: Name, reason: Reason = "") -> None:
    """Begin a phase: from now on units get their variants."""
    settings = read_settings()
    with Store.open(settings.database_url) as store:
        ids = Releases(settings.releases_dir).list()
        after = stored.start(store.documents, name, reason=reason, release_ids=ids, now=_now())
    _show(Terminal(), after)


@app.command("stop")
def stop(name: Name, reason: Reason = "") -> None:
    """End it: everybody is answered as without it."""
    _take(name, lambda before, _: lifecycle.stopped(before, _now(), reason))


@app.command("decide")
def decide(
    name: Name, variant: Annotated[str, typer.Argument(help="That was chosen")], reason: Reason = ""
) -> None:
    """Write down what was decided, for good; no answer changes by it."""
    _take(name, lambda before, _: lifecycle.decided(before, _now(), variant, reason))


@app.command("analyse")
def analyse_experiments(
    name: Annotated[str | None, typer.Argument(help="Empty: all that run")] = None,
) -> None:
    """Bring what happened into the lake, look, and write page and JSON into the reports folder."""
    from jobs.experiments.watching import look
    from jobs.ingest import ingest
    from jobs.plan import Places, night_lock

    settings, terminal, now_us = read_settings(), Terminal(), microseconds(_now())
    places = Places.of(settings)
    with Store.open(settings.database_url) as store:
        known = StoredExperiments.read(store.documents)
        chosen = known.running if name is None else [known.get(name)]
        if not chosen:
            terminal.say("No experiment runs.")
            return
        with night_lock(settings.work_dir):
            ingest(store, places, now_us, terminal)
        look(store, places, chosen, now_us, terminal)


@app.command("predictions")
def predictions() -> None:
    """What replays predicted of variants, beside what their experiments measured."""
    from jobs.offpolicy.predicted import show_predictions

    show_predictions(Terminal(), read_settings().database_url)


@app.command("watch")
def watch_experiments() -> None:
    """Analyse all that run, stop what does harm, and give bandits their new shares.

    One look, for a scheduler to repeat; the night takes one too.
    """
    from jobs.experiments.watching import watch
    from jobs.plan import Places, night_lock

    settings, terminal = read_settings(), Terminal()
    with Store.open(settings.database_url) as store, night_lock(settings.work_dir):
        watch(
            store,
            Places.of(settings),
            lambda: microseconds(_now()),
            terminal,
            notice_s=settings.notice_s,
        )


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


def _take(name: str, step: stored.Step) -> None:
    with Store.open(read_settings().database_url) as store:
        _show(Terminal(), stored.take(store.documents, name, step, now=_now()))


def _named(store: Store, name: str) -> Experiment:
    return StoredExperiments.read(store.documents).get(name)


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
