"""The night's commands; here and in benchmark_commands clock and settings are read."""

import os
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from features.errors import ConfigError, RecsysError, ReleaseError
from features.event_checks import TimeUnit
from features.store import Store
from jobs.ablation_commands import benchmark_cold_start, benchmark_sources
from jobs.benchmark_commands import (
    JSON_OUT,
    benchmark_embedding,
    benchmark_encoder,
    benchmark_index,
    benchmark_peers,
)
from jobs.console import Terminal
from jobs.experiments.commands import app as experiments
from jobs.experiments.commands import benchmark_experiments
from jobs.importing import ColumnMap, Importer, ImportOptions, Kind
from jobs.importing.summary import show_reports, worst_share
from jobs.keys_commands import app as keys
from jobs.offpolicy.commands import benchmark_offpolicy, replay
from jobs.people_commands import erase
from jobs.sample import FIRST_DAY, Size, Storefront, write_sample
from jobs.serving_commands import benchmark_serving
from jobs.tuning_commands import benchmark_storefront, tune
from recsys.releases import Releases
from recsys.settings import read_settings

# Commands that train import what they need themselves: torch takes seconds to load, and importing
# a file or rolling back should not wait for it.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """Import data, run the night, measure."""
    # Set before torch is loaded. Threads that spin while they wait collapse on a machine that does
    # anything else: a training step of two threads beside a busy process took 150 ms, 15 so.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@app.command("import")
def import_data(
    path: Annotated[Path, typer.Argument(help="A file or folder")],
    kind: Annotated[Kind, typer.Option(help="What it holds")] = "auto",
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="column=field; may be repeated")
    ] = None,
    max_reject_share: Annotated[
        float, typer.Option(min=0, max=1, help="Exit with 1 above this share of refused rows")
    ] = 0.01,
    time_unit: Annotated[TimeUnit | None, typer.Option(help="Of times that are numbers")] = None,
    event_type: Annotated[str, typer.Option(help="For events that do not name one")] = "view",
) -> None:
    """Bring items, events and slates into the store."""
    settings, terminal = read_settings(), Terminal()
    options = ImportOptions(kind, ColumnMap.parse(columns or []), time_unit, event_type)
    with Store.open(settings.database_url) as store:
        importer = Importer(
            store=store,
            rejects_dir=settings.rejects_dir,
            event_types=settings.event_types(),
            now_us=_now_us(),
        )
        reports = importer.import_path(path, options, terminal)
    show_reports(terminal, reports)
    if worst_share(reports) > max_reject_share:
        terminal.say(
            f"More than {max_reject_share:.1%} of the rows of a table were refused. The accepted "
            "rows are stored; correct the others and import again."
        )
        raise typer.Exit(1)


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="An empty folder, or an earlier sample")],
    events: Annotated[int, typer.Option(min=1, help="About how many")] = 50_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    days: Annotated[int, typer.Option(min=1)] = 30,
    end: Annotated[
        str, typer.Option(help="Day after the last, YYYY-MM-DD or 'today'; empty: a fixed day")
    ] = "",
) -> None:
    """Write a storefront with known truth: items, events and slates, ready for `import`."""
    terminal = Terminal()
    first_day = _day_number(end) - days if end else FIRST_DAY
    storefront = Storefront(seed, Size.for_events(events, n_days=days), first_day=first_day)
    written = write_sample(storefront, out, terminal)
    size = storefront.size
    terminal.say(
        f"{written:,} events of {size.n_users:,} shoppers on {size.n_items:,} items in {out}"
    )


@app.command()
def night(
    force: Annotated[
        bool, typer.Option("--force", help="Publish even if the gate would refuse")
    ] = False,
) -> None:
    """Learn from everything up to now and publish one release."""
    from jobs.curves import asks_for_wandb
    from jobs.experiments.watching import watch
    from jobs.night_config import night_config
    from jobs.nightly import run_night
    from jobs.plan import Places, night_lock
    from jobs.reports import show_night, write_night_page

    settings, terminal, now_us = read_settings(), Terminal(), _now_us()
    places = Places.of(settings)
    with Store.open(settings.database_url) as store, night_lock(settings.work_dir):
        report = run_night(
            store,
            places,
            settings.event_types(),
            night_config(settings, use_wandb=asks_for_wandb(os.environ)),
            now_us=now_us,
            progress=terminal,
            force=force,
        )
        watch(store, places, _now_us, terminal, notice_s=settings.notice_s)
    show_night(terminal, report)
    terminal.say(f"Report: {write_night_page(settings.reports_dir, report, now_us)}")
    if report.release_id is None:
        raise typer.Exit(1)


@app.command()
def audit(
    release: Annotated[str | None, typer.Option(help="Empty: the live one")] = None,
    json_out: Annotated[Path | None, JSON_OUT] = None,
) -> None:
    """Is a release's text robust and fair, beside its frozen base? Exit code 1: harm is proven."""
    from jobs.audit import audit_release, show_audit
    from jobs.gate import judge_text
    from jobs.night_config import night_config
    from jobs.reports import write_json

    settings, terminal = read_settings(), Terminal()
    shelf, config = Releases(settings.releases_dir), night_config(settings)
    chosen = release or shelf.current()
    if chosen is None:
        raise ReleaseError(f"no release in {shelf.root}: run `python -m jobs night` first")
    with Store.open(settings.database_url) as store, TemporaryDirectory(prefix="audit-") as work:
        found = audit_release(
            shelf.path(chosen),
            shelf.manifest(chosen),
            store,
            config.recipe.encoder,
            terminal,
            work=Path(work),
        )
    show_audit(terminal, found)
    if json_out is not None:
        write_json(found, json_out)
    verdict = judge_text(found, config.text_gate)
    terminal.say(verdict.reason)
    if not verdict.passed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    folds: Annotated[int, typer.Option(min=1, help="Windows, one before the other")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page and its JSON; empty: data/reports")
    ] = None,
) -> None:
    """Protocol "time": train on the past, rank the whole catalogue for the days after it."""
    from jobs.evaluate import LiveRival, evaluate_folds, stored_events, training_data
    from jobs.evaluation_report import make_report, place
    from jobs.night_config import night_config
    from jobs.reports import show_trials, writable, write_evaluation

    settings, terminal, now_us = read_settings(), Terminal(), _now_us()
    html = place(out or settings.reports_dir, now_us)
    writable(html)
    with Store.open(settings.database_url) as store:
        items, events = store.items(), stored_events(store)
    data = training_data(items, events, settings.event_types())
    live = LiveRival(Releases(settings.releases_dir), events, terminal)
    recipe = night_config(settings).recipe
    found = []
    for fold in evaluate_folds(data, folds, recipe, live, terminal):
        show_trials(terminal, [fold.trial])
        found.append(fold)
    command = f"python -m jobs evaluate --folds {folds}"
    report = make_report(data, found, recipe, command=command, now_us=now_us)
    terminal.say(f"\n{report.finding.sentence}")
    terminal.say(f"Figures: {write_evaluation(html, report)}")
    terminal.say(f"Report: {html}")


@app.command()
def benchmark(
    items: Annotated[Path, typer.Option(help="JSONL, CSV or Parquet, gz too")],
    sequences: Annotated[Path, typer.Option(help="user_id, position, item_id")],
    json_out: Annotated[Path, JSON_OUT],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    refit: Annotated[
        bool, typer.Option("--refit", help="Learn from validation items too, as a night would")
    ] = False,
) -> None:
    """Protocol "sequences": everything from scratch with the shipped defaults, full ranking."""
    from jobs.benchmark import read_items, read_sequences, run_benchmark
    from jobs.night_config import night_config
    from jobs.reports import show_benchmark, write_json

    settings, terminal = read_settings(), Terminal()
    report = run_benchmark(
        read_items(items),
        read_sequences(sequences),
        dataset=items.resolve().parent.name,
        config=night_config(settings).recipe,
        seed=seed,
        refit=refit,
        progress=terminal,
    )
    show_benchmark(terminal, report)
    write_json(report, json_out)


app.command()(benchmark_encoder)
app.command()(benchmark_index)
app.command()(benchmark_embedding)
app.command()(benchmark_peers)
app.command()(benchmark_sources)
app.command()(benchmark_cold_start)
app.command()(benchmark_storefront)
app.command()(benchmark_serving)
app.command()(benchmark_offpolicy)
app.command()(benchmark_experiments)
app.command()(replay)
app.command()(tune)
app.command()(erase)
app.add_typer(keys, name="keys")
app.add_typer(experiments, name="experiments")


@app.command()
def demo() -> None:
    """A sample shop, its import and one night in data/demo; then serve it until Ctrl-C."""
    from jobs.demo import prepare_demo, what_to_try
    from jobs.reports import show_night, write_night_page

    os.environ.setdefault("RECSYS_DATA_DIR", "data/demo")
    settings, terminal, now_us = read_settings(), Terminal(), _now_us()
    shop = prepare_demo(settings, _day_number("today"), now_us=now_us, terminal=terminal)
    show_night(terminal, shop.night)
    terminal.say(f"Report: {write_night_page(settings.reports_dir, shop.night, now_us)}")
    terminal.say("\nServing on http://127.0.0.1:8000 (documentation at /docs). In another shell:")
    terminal.say(what_to_try(shop, "http://127.0.0.1:8000"))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "api"])


@app.command()
def releases() -> None:
    """List the releases, newest first."""
    from jobs.reports import show_releases

    shelf = Releases(read_settings().releases_dir)
    show_releases(Terminal(), shelf)


@app.command()
def rollback(
    release_id: Annotated[
        str | None, typer.Argument(help="Empty: the release before the live one")
    ] = None,
) -> None:
    """Make an older release live again; servers follow within a poll interval."""
    shelf = Releases(read_settings().releases_dir)
    target = release_id or shelf.previous()
    if target is None:
        raise ReleaseError("there is no release before the live one: name one of `releases`")
    shelf.activate(target)
    Terminal().say(f"{target} is live")


def main() -> None:
    """Turn this system's own errors into one line and exit code 2; others keep their traceback."""
    try:
        app()
    except RecsysError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _day_number(text: str) -> int:
    try:
        day = datetime.now(UTC).date() if text == "today" else date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"found day {text!r}; expected YYYY-MM-DD or today; correct --end"
        ) from error
    return (day - date(1970, 1, 1)) // timedelta(days=1)


if __name__ == "__main__":
    main()
