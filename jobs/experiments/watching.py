"""A look at running experiments: analysed and written down; on a watch, acted on too."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from features.errors import DataError, RecsysError
from features.events import US_PER_DAY
from features.lake import Lake
from features.store import Store
from jobs.experiments.interleaved_report import render_interleaved
from jobs.experiments.report import render_experiment, render_preview
from jobs.experiments.side_by_side import (
    Load,
    SideBySide,
    loader,
    newest_shoppers,
    side_by_side,
)
from jobs.page import write_text
from jobs.page_words import day
from jobs.plan import Places
from recsys.evaluation.experiment.analysis import Analysis, analyse
from recsys.evaluation.experiment.interleaved import Interleaved, analyse_interleaved
from recsys.experiments.experiment import REPORT, Experiment, microseconds
from recsys.experiments.lifecycle import reallocated, stopped
from recsys.experiments.stored import StoredExperiments, take
from recsys.progress import Progress
from recsys.releases import Releases

MIN_MOVE = 0.01  # of a bandit's shares: less is not worth a period of its own in the analysis
RECENT_DAYS = 30  # whom a preview chooses from
Found = Analysis | Interleaved


def look(
    store: Store, places: Places, experiments: Iterable[Experiment], now_us: int, say: Progress
) -> Iterator[Found]:
    """Each analysed; its page and JSON are in the reports folder, the JSON in the store too."""
    load, lake = loader(Releases(places.releases)), Lake(places.lake)
    for experiment in experiments:
        found = analysed(experiment, lake, as_of_us=now_us)
        lists = shown_now(store, lake, experiment, load, now_us=now_us)
        text = json.dumps(found.as_json() | {"side_by_side": asdict(lists)}, allow_nan=False)
        page = report_path(places, experiment.name, now_us)
        write_text(page, _page(found, lists))
        write_text(page.with_suffix(".json"), text)
        store.documents.put(REPORT, experiment.name, text, updated_at_us=now_us)
        say.say(f"{experiment.name}: {found.verdict.standing}. {found.verdict.words}")
        say.say(f"Report: {page}")
        yield found


def watch(store: Store, places: Places, now_us: int, say: Progress) -> None:
    """Look at all that run; what does harm is stopped, a bandit's shares follow what it learned.

    One experiment that cannot be analysed does not keep the others from it.
    """
    for experiment in running(store):
        try:
            for found in look(store, places, [experiment], now_us, say):
                _act(store, found, now_us, say)
        except RecsysError as error:
            say.say(f"{experiment.name} was not analysed: {error}")


def running(store: Store) -> list[Experiment]:
    return StoredExperiments.read(store.documents).running


def preview(store: Store, places: Places, experiment: Experiment, now_us: int) -> Path:
    """The page of what each variant would show now; nothing counts as shown."""
    load, lake = loader(Releases(places.releases)), Lake(places.lake)
    lists = shown_now(store, lake, experiment, load, now_us=now_us)
    page = report_path(places, experiment.name, now_us, kind="preview")
    write_text(page, render_preview(experiment, lists))
    return page


def shown_now(
    store: Store, lake: Lake, experiment: Experiment, load: Load, *, now_us: int
) -> SideBySide:
    """To the experiment's units, or to who came lately if it never ran."""
    if experiment.phase is None:
        came, time = lake.scan_events(start_us=now_us - RECENT_DAYS * US_PER_DAY), "event_time_us"
    else:
        started_us = microseconds(experiment.phase.started_at)
        dealt = lake.scan_assignments(start_us=started_us, end_us=now_us)
        own = (pl.col("experiment") == experiment.name) & (pl.col("how") == "hash")
        came, time = dealt.filter(own), "shown_at_us"
    try:
        shoppers = newest_shoppers(came, time)
        return side_by_side(store, experiment.design, shoppers, load, now_us=now_us)
    except RecsysError as error:  # a look is for the figures, which need no release
        return SideBySide(placement="", problem=str(error))


def report_path(places: Places, name: str, now_us: int, *, kind: str = "") -> Path:
    file = "-".join(filter(None, (day(now_us), kind)))
    return places.reports / "experiments" / name / f"{file}.html"


def analysed(experiment: Experiment, lake: Lake, *, as_of_us: int) -> Found:
    """Of the newest phase; only what it needs is read."""
    phase = experiment.phase
    if phase is None:
        raise DataError(f"the experiment {experiment.name!r} never ran: start it first")
    started_us = microseconds(phase.started_at)
    past = max(metric.cuped_days for metric in experiment.design.plan.metrics)
    own = pl.col("experiment") == experiment.name
    dealt = lake.scan_assignments(start_us=started_us, end_us=as_of_us).filter(own)
    exposures = lake.scan_exposures(start_us=started_us, end_us=as_of_us).join(
        dealt.select("request_id").unique(), on="request_id", how="semi"
    )
    events = lake.scan_events(start_us=started_us - past * US_PER_DAY, end_us=as_of_us).collect()
    if experiment.design.kind == "interleave":
        shown = exposures.select("request_id", "position", "item_id").collect()
        return analyse_interleaved(experiment, dealt.collect(), shown, events, as_of_us=as_of_us)
    unknown = exposures.select(pl.col("propensity").is_null().mean()).collect().item()
    return analyse(experiment, dealt.collect(), events, as_of_us=as_of_us, unknown_chances=unknown)


def _page(found: Found, lists: SideBySide) -> str:
    if isinstance(found, Interleaved):
        return render_interleaved(found, lists)
    return render_experiment(found, lists)


def _act(store: Store, found: Found, now_us: int, say: Progress) -> None:
    if found.verdict.standing == "harmful":
        _stop(store, found, now_us, say)
    elif isinstance(found, Analysis) and found.verdict.standing != "unhealthy":
        _reallocate(store, found, now_us, say)


def _stop(store: Store, found: Found, now_us: int, say: Progress) -> None:
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    name, reason = found.experiment.name, f"by itself: {found.verdict.words}"

    def step(experiment: Experiment, _: object) -> Experiment:
        if experiment.status != "running" or experiment.phase != found.phase:
            return experiment  # people were quicker
        return stopped(experiment, now, reason)

    if take(store.documents, name, step, now=now).status == "stopped":
        say.say(f"{name} was stopped: everybody is answered by the control.")


def _reallocate(store: Store, found: Analysis, now_us: int, say: Progress) -> None:
    shares, now_shares = found.next_shares, found.phase.weights_at(now_us)
    if shares is None or all(
        abs(share - before) < MIN_MOVE for share, before in zip(shares, now_shares, strict=True)
    ):
        return
    now = datetime.fromtimestamp(now_us / 1e6, UTC)

    def step(experiment: Experiment, _: object) -> Experiment:
        if experiment.status != "running" or experiment.phase != found.phase:
            return experiment
        return reallocated(experiment, now, shares)

    after = take(store.documents, found.experiment.name, step, now=now)
    say.say(f"{after.name}: {after.log[-1].action}: {after.log[-1].reason}")
