"""What the night's commands show people, as tables, and leave for machines, as JSON."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from features.errors import ConfigError
from jobs.console import Terminal
from recsys.releases import Releases

if TYPE_CHECKING:  # a list of releases must not wait for torch
    from jobs.benchmark import BenchmarkReport
    from jobs.evaluation_report import EvaluationReport
    from jobs.nightly import NightReport
    from recsys.evaluation.trial import TrialResult

OWN_SECTIONS = ("encoder", "text", "audit")  # steps the page tells of elsewhere
TRIAL_COLUMNS = ("recall@10", "ndcg@5", "ndcg@10", "hit_rate@10", "coverage@10")


def show_night(terminal: Terminal, report: "NightReport") -> None:
    if report.trial is not None:
        show_trials(terminal, [report.trial])
    if report.skipped_steps:
        terminal.say(f"Skipped, nothing new: {', '.join(report.skipped_steps)}")
    if report.published:
        terminal.say(f"Published {report.release_id}: {report.reason}")
    elif report.release_id is not None:
        terminal.say(f"{report.release_id} stays live: {report.reason}")
    else:
        terminal.say(f"Published nothing: {report.reason}")


def write_night_page(folder: Path, report: "NightReport", now_us: int) -> Path:
    """One page a night, named by the minute it was written."""
    from jobs.night_page import NightPage, StepTaken, write_page

    texts = report.texts
    page = NightPage(
        now_us=now_us,
        release_id=report.release_id,
        published=report.published,
        reason=report.reason,
        trial=orjson.loads(orjson.dumps(report.trial)) if report.trial else None,
        decision=texts.tonight.report["decision"],
        encoder=texts.tonight.report["fit"],
        item_map=texts.text.report["item_map"],
        indexes=texts.text.report["indexes"],
        audits=[_audited(done.report) for done in texts.audits],
        steps=[
            # what the encoder and the texts report has sections of its own
            StepTaken(done.name, done.ran, done.report if done.name not in OWN_SECTIONS else {})
            for done in report.steps
        ],
        titles=report.titles,
    )
    path = folder / f"{datetime.fromtimestamp(now_us / 1e6, tz=UTC):%Y-%m-%dT%H%M}.html"
    write_page(path, page)
    return path


def _audited(report: dict[str, Any]) -> dict[str, Any]:
    verdict = {name: report[name] for name in ("passed", "reason")}
    return {**verdict, **(report["audit"] or {})}


def show_trials(terminal: Terminal, trials: Sequence["TrialResult"]) -> None:
    for trial in trials:
        title = f"{_day(trial.start_us)} to {_day(trial.end_us)}, {trial.users:,} shoppers"
        rows = [
            [name, *(found[column] for column in TRIAL_COLUMNS)]
            for name, found in trial.metrics.items()
        ]
        terminal.table(title, ("who ranks", *TRIAL_COLUMNS), rows)
        own = trial.intervals["ndcg@10"]
        terminal.say(f"ranker nDCG@10 {own.mean:.4f} [{own.low:.4f}, {own.high:.4f}], 95 %")
        for one in trial.comparisons:
            found = one.difference
            terminal.say(
                f"  {one.metric} minus {one.rival}: {found.mean:+.4f} "
                f"[{found.low:+.4f}, {found.high:+.4f}], p {one.p_holm:.4f} after Holm"
            )
        terminal.say(f"  relevant items that some source proposed: {trial.candidate_recall:.4f}")


def write_evaluation(html: Path, report: "EvaluationReport") -> Path:
    """The page and, under the same name, the JSON that it is drawn from; returns the latter."""
    from jobs.evaluation_page import render_evaluation
    from jobs.page import write_text

    text = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    path = html.with_suffix(".json")
    with _told(path):
        write_text(path, text.decode())
        write_text(html, render_evaluation(orjson.loads(text)))
    return path


def show_benchmark(terminal: Terminal, report: "BenchmarkReport") -> None:
    cuts = tuple(report.ranker)
    rows = [
        [name, *(scores[cut] for cut in cuts)]
        for name, scores in {"ranker": report.ranker, **report.sources}.items()
    ]
    title = f"{report.dataset}, {report.protocol}, seed {report.seed}, {report.users:,} users"
    terminal.table(title, ("who ranks", *cuts), rows)
    low, high = report.intervals["R@10"]
    terminal.say(f"ranker R@10 95 % interval over users: [{low:.4f}, {high:.4f}]")
    terminal.say(f"targets that some source proposed: {report.candidate_recall:.4f}")
    terminal.table("Seconds", ("step", "s"), [[k, v] for k, v in report.seconds.items()])
    terminal.say(f"Peak memory {report.peak_rss_mb:,.0f} MB")


def show_releases(terminal: Terminal, shelf: Releases) -> None:
    current = shelf.current()
    rows = []
    for release_id in shelf.list():
        manifest = shelf.manifest(release_id)
        score = manifest.metrics.get("ranker.ndcg@10")
        live = "live" if release_id == current else ""
        rows.append([release_id, live, _day(manifest.data_end_us), score])
    terminal.table("Releases", ("release", "", "data until", "nDCG@10"), rows)


def writable(path: Path | None) -> Path | None:
    """Makes the folder; ConfigError before the work rather than after it."""
    if path is not None:
        existed = path.exists()
        with _told(path), path.open("ab"):
            pass
        if not existed:
            path.unlink()
    return path


def write_json(value: object, path: Path) -> None:
    with _told(path):
        path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(
            f"found {path} not writable ({error}), expected a file to write to: name another"
        ) from error


def _day(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).strftime("%Y-%m-%d")
