"""A look at experiments: analysed and written down; on a watch, acted on too."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from features.errors import RecsysError
from features.events import US_PER_DAY
from features.lake import Lake
from features.store import Store
from jobs.experiments.interleaved_report import render_interleaved
from jobs.experiments.list_page import render_preview
from jobs.experiments.outlook import outlook
from jobs.experiments.reading import Found, analysed, dealt_in
from jobs.experiments.report import render_experiment
from jobs.experiments.side_by_side import (
    Load,
    SideBySide,
    loader,
    newest_shoppers,
    side_by_side,
)
from jobs.ingest import ingest
from jobs.page import write_text
from jobs.page_words import day
from jobs.plan import Places
from recsys.evaluation.experiment.analysis import Analysis
from recsys.evaluation.experiment.interleaved import Interleaved
from recsys.experiments.experiment import REPORT, Experiment, Phase, microseconds
from recsys.experiments.lifecycle import reallocated, stopped
from recsys.experiments.stored import Step, StoredExperiments, take
from recsys.progress import Progress
from recsys.releases import Releases

MIN_MOVE = 0.01  # of a bandit's shares: less is not worth a period of its own in the analysis
MIN_PERIOD_US = US_PER_DAY // 2  # of a bandit: nights move it, hourly watches do not
RECENT_DAYS = 30  # whom a preview chooses from


def look(
    store: Store, places: Places, experiments: Iterable[Experiment], now_us: int, say: Progress
) -> None:
    """Each analysed and written down; nothing is changed."""
    load, lake = loader(Releases(places.releases)), Lake(places.lake)
    for experiment in experiments:
        found = analysed(experiment, lake, as_of_us=now_us)
        _write(store, places, found, load, now_us, say)


def watch(
    store: Store, places: Places, clock: Callable[[], int], say: Progress, *, notice_s: float
) -> None:
    """Look at all that run; what does harm is stopped, a bandit's shares follow what it learned.

    `clock` tells the time in µs; new shares hold from `notice_s` later on, when every server knows
    of them, or units would be counted in the wrong period.
    """
    now_us = clock()
    ingest(store, places, now_us, say)
    load, lake = loader(Releases(places.releases)), Lake(places.lake)
    for experiment in StoredExperiments.read(store.documents).running:
        try:
            found = analysed(experiment, lake, as_of_us=now_us)
            found = _acted_on(store, found, clock, notice_s, say)
            _write(store, places, found, load, now_us, say)
        except Exception as error:  # noqa: BLE001  whatever one is ill with, the others are watched
            say.say(f"{experiment.name} was not analysed: {error!r}")


def _write(
    store: Store, places: Places, found: Found, load: Load, now_us: int, say: Progress
) -> None:
    """Page and JSON into the reports folder, the JSON into the store too."""
    experiment = found.experiment
    lists = shown_now(store, Lake(places.lake), experiment, load, now_us=now_us)
    text = json.dumps(found.as_json() | {"side_by_side": asdict(lists)}, allow_nan=False)
    page = report_path(places, experiment.name, now_us)
    write_text(page, _page(found, lists))
    write_text(page.with_suffix(".json"), text)
    store.documents.put(REPORT, experiment.name, text, updated_at_us=now_us)
    say.say(f"{experiment.name}: {found.verdict.standing}. {found.verdict.words}")
    say.say(f"Report: {page}")


def preview(store: Store, places: Places, experiment: Experiment, now_us: int) -> Path:
    """The page of what each variant would show now, and how long the experiment will take."""
    load, lake = loader(Releases(places.releases)), Lake(places.lake)
    lists = shown_now(store, lake, experiment, load, now_us=now_us)
    page = report_path(places, experiment.name, now_us, kind="preview")
    ahead = outlook(experiment.design, lake, now_us=now_us)
    write_text(page, render_preview(experiment, lists, ahead))
    return page


def shown_now(
    store: Store, lake: Lake, experiment: Experiment, load: Load, *, now_us: int
) -> SideBySide:
    """To the experiment's units, or to who came lately if it never ran."""
    if experiment.phase is None:
        came, time = lake.scan_events(start_us=now_us - RECENT_DAYS * US_PER_DAY), "event_time_us"
    else:
        came, time = dealt_in(experiment, experiment.phase, lake, now_us), "shown_at_us"
    try:
        shoppers = newest_shoppers(came, time)
        return side_by_side(store, experiment.design, shoppers, load, now_us=now_us)
    except RecsysError as error:  # a look is for the figures, which need no release
        return SideBySide(placement="", problem=str(error))


def report_path(places: Places, name: str, now_us: int, *, kind: str = "") -> Path:
    file = "-".join(filter(None, (day(now_us), kind)))
    return places.reports / "experiments" / name / f"{file}.html"


def _page(found: Found, lists: SideBySide) -> str:
    if isinstance(found, Interleaved):
        return render_interleaved(found, lists)
    return render_experiment(found, lists)


def _acted_on(
    store: Store, found: Found, clock: Callable[[], int], notice_s: float, say: Progress
) -> Found:
    """With the experiment as it is afterwards."""
    now_us = clock()
    if found.verdict.standing == "harmful":
        reason = f"by itself: {found.verdict.words}"
        after = _take(store, found, now_us, lambda e, _: stopped(e, _moment(now_us), reason))
        if after.status == "stopped":
            say.say(f"{after.name} was stopped: everybody is answered by the control.")
        return replace(found, experiment=after)
    if not isinstance(found, Analysis) or found.verdict.standing == "unhealthy":
        return found
    shares = found.next_shares
    if shares is None or not _is_worth_it(found.phase, shares, now_us):
        return found
    at = _moment(now_us + int(notice_s * 1e6))
    after = _take(store, found, now_us, lambda e, _: reallocated(e, at, shares))
    say.say(f"{after.name}: {after.log[-1].action}: {after.log[-1].reason}")
    return replace(found, experiment=after)


def _is_worth_it(phase: Phase, shares: tuple[float, ...], now_us: int) -> bool:
    """Whether a bandit's shares moved, and those before have held for a while."""
    last = phase.allocations[-1] if phase.allocations else None
    if last is not None and now_us - microseconds(last.at) < MIN_PERIOD_US:
        return False
    before = phase.weights_at(now_us)
    moves = (abs(share - was) for share, was in zip(shares, before, strict=True))
    return max(moves) >= MIN_MOVE


def _take(store: Store, found: Found, now_us: int, step: Step) -> Experiment:
    """Unless people were quicker: then it is as they left it."""

    def unless_changed(experiment: Experiment, others: Sequence[Experiment]) -> Experiment:
        if experiment.status != "running" or experiment.phase != found.phase:
            return experiment
        return step(experiment, others)

    return take(store.documents, found.experiment.name, unless_changed, now=_moment(now_us))


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)
