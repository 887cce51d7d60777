"""The ablation as figures: means over rankers, differences to all sources in pairs of shoppers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from features.arrays import Float64Array
from jobs.console import Terminal
from jobs.page import Chapter, Page, render, write_text
from jobs.page_figures import Picture, Span, differences
from jobs.page_words import Section, table
from recsys.evaluation.bootstrap import Interval, bootstrap

Kind: TypeAlias = Literal["all", "yardstick", "source", "alone", "views"]
TITLES: dict[Kind, str] = {
    "yardstick": "Another ranker on the same rows",
    "source": "Without one source: its candidates and its views",
    "alone": "One source alone: its candidates and its views, and the views that no source owns",
    "views": "Without one group of views: the ranker does not see it, all candidates stay",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one funnel made of the test questions; shoppers aligned with every other's."""

    candidates: float  # a question
    candidate_recall: Float64Array  # (n,)
    recall: Float64Array  # (n_seeds, n) at 10
    ndcg: Float64Array  # (n_seeds, n) at 10


@dataclass(frozen=True, slots=True)
class Row:
    """A named outcome."""

    name: str
    kind: Kind
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One line: means over seeds and shoppers, 95 % intervals over shoppers."""

    name: str
    kind: Kind
    candidates: float
    candidate_recall: float
    # Of what shoppers took: proposed with all sources, and by nobody without the one missing.
    only_it_proposed: Interval
    recall: Interval
    ndcg: Interval
    ndcg_by_seed: tuple[float, ...]
    recall_minus_all: Interval
    ndcg_minus_all: Interval

    @property
    def seed_spread(self) -> float | None:
        """Standard deviation of nDCG@10 over the rankers' seeds."""
        if len(self.ndcg_by_seed) < 2:
            return None
        return float(np.std(self.ndcg_by_seed, ddof=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One run; the first standing is that of all sources, all views."""

    dataset: str
    protocol: str
    seed: int
    n_seeds: int  # of the rankers; the first stages are fitted once
    users: int
    items: int
    standings: tuple[Standing, ...]
    seconds: dict[str, float]

    @property
    def title(self) -> str:
        return (
            f"{self.dataset}, {self.protocol}, {self.users:,} shoppers, {self.items:,} items, "
            f"seed {self.seed}, {self.n_seeds} rankers each"
        )

    def of(self, kind: Kind) -> list[Standing]:
        return [standing for standing in self.standings if standing.kind == kind]


def summarise(
    *,
    dataset: str,
    protocol: str,
    seed: int,
    n_seeds: int,
    users: int,
    items: int,
    rows: Sequence[Row],
    seconds: dict[str, float],
) -> Ablation:
    """The first row is what the others are compared with."""
    return Ablation(
        dataset=dataset,
        protocol=protocol,
        seed=seed,
        n_seeds=n_seeds,
        users=users,
        items=items,
        standings=tuple(_standing(row, rows[0].outcome, seed) for row in rows),
        seconds=seconds,
    )


def _standing(row: Row, everything: Outcome, seed: int) -> Standing:
    own = row.outcome
    found, scored = own.recall.mean(axis=0), own.ndcg.mean(axis=0)
    return Standing(
        name=row.name,
        kind=row.kind,
        candidates=own.candidates,
        candidate_recall=float(own.candidate_recall.mean()),
        only_it_proposed=bootstrap(everything.candidate_recall - own.candidate_recall, seed=seed),
        recall=bootstrap(found, seed=seed),
        ndcg=bootstrap(scored, seed=seed),
        ndcg_by_seed=tuple(float(mean) for mean in own.ndcg.mean(axis=1)),
        recall_minus_all=bootstrap(found - everything.recall.mean(axis=0), seed=seed),
        ndcg_minus_all=bootstrap(scored - everything.ndcg.mean(axis=0), seed=seed),
    )


COLUMNS = ("", "candidates", "cand. recall", "R@10", "N@10", "± seeds")
MINUS = ("R@10 − all, points", "N@10 − all, points")


def show_ablation(terminal: Terminal, report: Ablation) -> None:
    terminal.say(report.title)
    everything = report.of("all")
    terminal.table("All sources, all views", COLUMNS, [_cells(one) for one in everything])
    for kind, title in TITLES.items():
        rows = report.of(kind)
        if rows:
            columns, cells = _table(kind, rows)
            terminal.table(title, columns, cells)
    terminal.say("95 % intervals over shoppers; ± seeds: standard deviation of N@10 over rankers")


def write_ablation_page(report: Ablation, path: Path, when: str) -> None:
    """One self-contained HTML file."""
    page = Page(
        when=when,
        headline="What each source gives",
        verdict=report.protocol,
        mood="plain",
        reason=f"{report.title}.",
        chapters=(Chapter(tuple(_sections(report))),),
    )
    write_text(path, render(page))


def _sections(report: Ablation) -> list[Section]:
    everything = report.of("all")
    sections = [
        Section(
            anchor="all",
            title="All sources, all views",
            tables=(table("Means over shoppers", COLUMNS, [_cells(one) for one in everything]),),
        )
    ]
    for kind, title in TITLES.items():
        rows = report.of(kind)
        if rows:
            columns, cells = _table(kind, rows)
            picture = _picture(kind, rows)
            tables = (table("95 % intervals over shoppers", columns, cells),)
            sections.append(Section(anchor=kind, title=title, pictures=(picture,), tables=tables))
    return sections


def _picture(kind: Kind, rows: Sequence[Standing]) -> Picture:
    spans = [
        Span(one.name, *(100 * x for x in (found.mean, found.low, found.high)))
        for one in rows
        for found in [one.ndcg_minus_all]
    ]
    words = "nDCG@10 minus that of all sources and views, 95 % interval over shoppers."
    return differences(kind, spans, unit="percentage points of nDCG@10", words=words)


def _table(kind: Kind, rows: Sequence[Standing]) -> tuple[tuple[str, ...], list[list[object]]]:
    if kind == "source":
        cells = [[*_cells(one), _points(one.only_it_proposed), *_minus(one)] for one in rows]
        return (*COLUMNS, "only it proposed, points", *MINUS), cells
    return (*COLUMNS, *MINUS), [[*_cells(one), *_minus(one)] for one in rows]


def _cells(one: Standing) -> list[object]:
    mean = (one.recall.mean, one.ndcg.mean)
    return [one.name, round(one.candidates, 1), one.candidate_recall, *mean, one.seed_spread]


def _minus(one: Standing) -> list[str]:
    return [_points(one.recall_minus_all), _points(one.ndcg_minus_all)]


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
