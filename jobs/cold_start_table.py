"""Cold start as figures: shoppers hardly known, items nobody has met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array
from jobs.console import Terminal
from recsys.evaluation.bootstrap import Interval, bootstrap

RANKER, POPULARITY = "ranker", "trending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Means over the questions asked, 95 % by bootstrap."""

    recall: Interval  # at 10
    ndcg: Interval  # at 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopperCase:
    """The same shoppers, of whom so much was known."""

    name: str
    candidate_recall: float
    scores: dict[str, Score]  # ranker, every source
    ndcg_minus_known: Interval  # the ranker's, against the case where all is known
    ndcg_minus_popularity: Interval  # the ranker's, against trending asked the same


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCase:
    """One who ranks, asked for items that nobody had met."""

    name: str
    among_all: Interval  # recall at 10 among all items
    among_cold: Interval  # among the cold ones
    slates_with_cold: Interval  # share of everybody's ten that hold a cold item


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdItems:
    """Items held out of training, dated on the day of the question."""

    folds: int
    cold_items: float  # of a fold
    questions: int  # whose answer is a cold item
    slates: int  # everybody's
    candidate_recall: float  # of the cold answers, among all items
    chance_among_cold: float
    cases: tuple[ItemCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """One run."""

    dataset: str
    protocol: str
    seed: int
    users: int
    items: int
    shoppers: tuple[ShopperCase, ...]
    cold: ColdItems
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """By who ranked: recall and nDCG at 10 (n_users,), and what was proposed at all."""

    recall: Mapping[str, Float64Array]
    ndcg: Mapping[str, Float64Array]
    candidate_recall: Float64Array


def shopper_case(name: str, found: Found, known: Found, seed: int) -> ShopperCase:
    own = found.ndcg[RANKER]
    return ShopperCase(
        name=name,
        candidate_recall=float(found.candidate_recall.mean()),
        scores={
            who: Score(
                recall=bootstrap(found.recall[who], seed=seed),
                ndcg=bootstrap(found.ndcg[who], seed=seed),
            )
            for who in found.recall
        },
        ndcg_minus_known=bootstrap(own - known.ndcg[RANKER], seed=seed),
        ndcg_minus_popularity=bootstrap(own - found.ndcg[POPULARITY], seed=seed),
    )


def item_case(
    name: str, *, among_all: Float64Array, among_cold: Float64Array, shown: Float64Array, seed: int
) -> ItemCase:
    return ItemCase(
        name=name,
        among_all=bootstrap(among_all, seed=seed),
        among_cold=bootstrap(among_cold, seed=seed),
        slates_with_cold=bootstrap(shown, seed=seed),
    )


def show_cold_start(terminal: Terminal, report: ColdStart) -> None:
    title = f"{report.dataset}, {report.protocol}, {report.users:,} shoppers, seed {report.seed}"
    terminal.table(
        f"{title}: what is known of them",
        ("known", "cand. recall", "R@10", "N@10", "N@10 − all known", "N@10 − popularity"),
        [
            [
                case.name,
                case.candidate_recall,
                case.scores[RANKER].recall.mean,
                case.scores[RANKER].ndcg.mean,
                _points(case.ndcg_minus_known),
                _points(case.ndcg_minus_popularity),
            ]
            for case in report.shoppers
        ],
    )
    names = tuple(report.shoppers[0].scores)
    terminal.table(
        "R@10 by who ranks",
        ("known", *names),
        [[case.name, *(case.scores[who].recall.mean for who in names)] for case in report.shoppers],
    )
    _show_items(terminal, report.cold)
    terminal.say("Intervals are 95 %, over shoppers; differences in percentage points")


def _show_items(terminal: Terminal, cold: ColdItems) -> None:
    terminal.table(
        f"Items held out of training, {cold.folds} of 10 tenths: {cold.questions:,} questions "
        "they answer",
        ("who ranks", "R@10, all items", "R@10, cold items only", "slates with a cold item"),
        [
            [
                case.name,
                _share(case.among_all),
                _share(case.among_cold),
                _share(case.slates_with_cold),
            ]
            for case in cold.cases
        ],
    )
    terminal.say(
        f"{cold.candidate_recall:.4f} of the cold answers are among the candidates; among "
        f"{cold.cold_items:,.0f} cold items chance finds {cold.chance_among_cold:.4f}; slates of "
        f"{cold.slates:,} shoppers, ten items by utility alone"
    )


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def _share(found: Interval) -> str:
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def pooled(parts: Sequence[Float64Array]) -> Float64Array:
    return np.concatenate([np.empty(0), *parts])
