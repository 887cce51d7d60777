"""The serving benchmark for people: goals and verdicts, a table a size, one page."""

from collections.abc import Callable
from dataclasses import dataclass

from jobs.console import Terminal
from jobs.page import Chapter, Page, render
from jobs.page_words import Section, table
from jobs.serving_benchmark import CHANGES, ServingReport, SizeReport
from jobs.serving_driver import BATCH, MANY_CLIENTS, Load

LARGE = 1_000_000  # items from which times may be twice as long
SMALL = 100_000  # items up to which the memory has a goal
LOAD_COLUMNS = ("load", "clients", "answers/s", "p50 ms", "p95 ms", "p99 ms", "answers", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was to be reached, what was found, and what that means."""

    what: str
    goal: str
    found: str
    verdict: str  # "reached", or "missed: …"


def goals_of(report: SizeReport) -> tuple[Goal, ...]:
    """In the order of importance; times may be twice as long at a million items."""
    one, many = _load(report, "recommend", 1), _load(report, "recommend", MANY_CLIENTS)
    slower = 2 if report.items >= LARGE else 1
    slates = f"a slate's largest stages are {_largest_stages(report)}"
    goals = [
        _at_most("p99 of one client, ms", 5.0 * slower, one.p99_ms, slates),
        _at_least("slates/s, one worker, 16 clients", 500 / slower, many.per_s, slates),
        _at_most("p99 of 16 clients, ms", 25.0 * slower, many.p99_ms, slates),
        _at_least("slates / no-op answers", 1 / 8 / slower, report.to_floor, slates, "{:.3f}"),
        _at_least(
            "events/s on disk, batches of 100",
            10_000,
            report.events_per_s,
            "checking and inserting a batch",
        ),
        _at_least(
            f"answers changed by the event before, of {CHANGES}",
            CHANGES,
            report.changed,
            "a defect",
        ),
        _at_most(
            "new item found after, s",
            2.0,
            report.item_s,
            "room for it in every matrix, then its text",
        ),
        _at_most(
            "start to ready, s", 5.0 * slower, report.ready_s, "checking and loading the release"
        ),
    ]
    if report.items <= SMALL:
        goals.append(
            _at_most("resident after load, MiB", 1024, report.peak_mib, "vectors and the encoder")
        )
    return tuple(goals)


def _at_most(what: str, goal: float, found: float, why: str) -> Goal:
    reached = found <= goal
    verdict = "reached" if reached else f"missed, {found / goal:.1f} times as much: {why}"
    return Goal(what=what, goal=f"≤ {goal:,g}", found=_number(found), verdict=verdict)


def _at_least(what: str, goal: float, found: float, why: str, form: str | None = None) -> Goal:
    write: Callable[[float], str] = form.format if form else _number
    verdict = "reached" if found >= goal else f"missed, {found / goal:.2f} of it: {why}"
    return Goal(what=what, goal=f"≥ {goal:,g}", found=write(found), verdict=verdict)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _largest_stages(report: SizeReport) -> str:
    ordered = sorted(report.stages_ms.items(), key=lambda stage: -stage[1])
    return ", ".join(f"{name} {ms:.1f} ms" for name, ms in ordered[:3]) or "not known"


def _load(report: SizeReport, name: str, clients: int) -> Load:
    return next(load for load in report.loads if (load.name, load.clients) == (name, clients))


def _load_row(load: Load) -> tuple[object, ...]:
    times = (f"{ms:.2f}" for ms in (load.p50_ms, load.p95_ms, load.p99_ms))
    return (load.name, load.clients, f"{load.per_s:,.0f}", *times, load.answers, load.failed)


def _facts(report: SizeReport) -> tuple[tuple[str, str], ...]:
    return (
        ("shoppers, with events", f"{report.shoppers:,}, {report.events:,}"),
        ("shop and release made in", f"{report.prepared_s:.0f} s"),
        ("resident once ready", f"{report.loaded_mib:,.0f} MiB"),
        (
            "resident after everything",
            f"{report.peak_mib:,.0f} MiB, {report.of_files_mib:,.0f} of them pages of files",
        ),
        ("events/s beside the slates", f"{report.mixed_events_per_s:,.0f}"),
        ("event to changed answer", f"{report.change_ms:.1f} ms, median, both requests"),
        (
            "the generator alone",
            f"at most {report.generator_per_s:,.0f} requests/s, by its CPU time a request",
        ),
    )


def show_serving(terminal: Terminal, report: SizeReport) -> None:
    terminal.table(
        f"{report.items:,} items",
        ("goal", "wanted", "found", "verdict"),
        [(goal.what, goal.goal, goal.found, goal.verdict) for goal in goals_of(report)],
    )
    terminal.table("Loads", LOAD_COLUMNS, [_load_row(load) for load in report.loads])
    terminal.table(
        "Stages of a slate, one client", ("stage", "median ms"), list(report.stages_ms.items())
    )
    for name, value in _facts(report):
        terminal.say(f"{name}: {value}")


def serving_page(report: ServingReport, when: str) -> str:
    goals = [goal for size in report.sizes for goal in goals_of(size)]
    missed = sum(goal.verdict != "reached" for goal in goals)
    return render(
        Page(
            when=when,
            headline="How fast the day answers",
            verdict=f"{len(goals) - missed} of {len(goals)} goals reached",
            mood="bad" if missed else "good",
            reason="sizes of the shop: " + ", ".join(f"{size.items:,}" for size in report.sizes),
            chapters=[Chapter(_sections(size), f"{size.items:,} items") for size in report.sizes],
        )
    )


def _sections(report: SizeReport) -> list[Section]:
    anchor = f"items-{report.items}"
    return [
        Section(
            anchor=anchor,
            title="Goals",
            words=(
                "Each load ran in turn with a no-op endpoint of the same framework. Clients wait "
                "for an answer before they ask again; the generator is a process of its own on the "
                "same machine.",
            ),
            facts=_facts(report),
            tables=(
                table(
                    "Verdicts",
                    ("goal", "wanted", "found", "verdict"),
                    [(goal.what, goal.goal, goal.found, goal.verdict) for goal in goals_of(report)],
                ),
                table("Loads", LOAD_COLUMNS, [_load_row(load) for load in report.loads]),
            ),
            notes=(
                f"A batch has {BATCH} events. p50, p95, p99 are of all answers; answers/s is the "
                "median round's.",
            ),
        ),
        Section(
            anchor=f"{anchor}-time",
            title="Where the time goes",
            tables=(
                table(
                    "Stages, one client",
                    ("stage", "median ms"),
                    [(name, f"{ms:.2f}") for name, ms in report.stages_ms.items()],
                ),
                table(
                    "Functions by own time, of one slate",
                    ("function", "own µs", "with what it calls µs", "calls"),
                    [
                        (
                            hot.function,
                            f"{hot.own_us:.0f}",
                            f"{hot.whole_us:.0f}",
                            f"{hot.calls:.1f}",
                        )
                        for hot in report.hot
                    ],
                ),
                table(
                    "Indexes",
                    ("vectors", "kind", "recall@200", "ms of CPU", "depth", "cells"),
                    [
                        (
                            name,
                            found.kind,
                            found.recall_at_200,
                            found.milliseconds[found.kind],
                            found.depth,
                            found.cells,
                        )
                        for name, found in report.indexes.items()
                    ],
                ),
            ),
            notes=("The profile was taken without HTTP; it slows Python down by half.",),
        ),
    ]
