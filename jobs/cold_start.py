"""Cold start: shoppers of whom little is known, and items of which nothing is.

*Shoppers*: protocol "sequences", strict, the same shoppers and answers each time, but only their
last n events are told, of somebody unknown: as in a new shopper's session. The models have learned
from whole sequences, these shoppers' own among them; what changes is what the question says.

*Items*: a tenth has no event before the question, neither in training nor in anybody's history,
and is dated on that day. Questions whose answer is such an item are asked among all items and
among the cold ones.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float64Array, Int32Array, Int64Array
from features.errors import DataError
from features.views import SOURCES
from jobs.benchmark import Watch, cold_fold_of, label_window, last_items, seeded, sequence_data
from jobs.cold_start_table import (
    RANKER,
    ColdItems,
    ColdStart,
    Found,
    ShopperCase,
    item_case,
    pooled,
    shopper_case,
)
from recsys.bundle import Bundle
from recsys.evaluation.metrics import RowSets, judge, ndcg, recall
from recsys.evaluation.offline import RankedLists, ranked_lists, relevant_rows
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.training.queries import PastQueries
from recsys.training.recipe import RecipeConfig, TrainingData, fit_bundle

K = 10
EVENTS_KNOWN = (5, 2, 1, 0)
WITHOUT_NEW = "ranker, new_items not asked"


def run_cold_start(
    items: pl.DataFrame,
    sequences: pl.DataFrame,
    *,
    dataset: str,
    config: RecipeConfig,
    seed: int,
    folds: int,
    progress: Progress,
) -> ColdStart:
    """`folds` of ten tenths of the items are cold in turn, a complete training each."""
    data, watch, config = sequence_data(items, sequences), Watch(), seeded(config, seed)
    bundle = _fitted(data, config, progress, watch)
    with watch.step("shoppers"):
        shoppers, users = _shoppers(last_items(data, bundle), bundle, config, progress)
    tally = _ColdTally()
    for fold in range(folds):
        progress.say(f"cold items, fold {fold + 1} of {folds}")
        cold = cold_fold_of(len(data.items)) == fold
        arriving = with_cold(data, cold)
        bundle = _fitted(arriving, config, progress, watch)
        with watch.step("items"):
            tally.add(last_items(arriving, bundle), cold, bundle, config.policy, progress)
    return ColdStart(
        dataset=dataset,
        protocol="sequences strict",
        seed=seed,
        users=users,
        items=len(data.items),
        shoppers=tuple(shoppers),
        cold=tally.report(folds, seed),
        seconds=watch.seconds,
    )


def _fitted(data: TrainingData, config: RecipeConfig, progress: Progress, watch: Watch) -> Bundle:
    with tempfile.TemporaryDirectory(prefix="cold-start-") as name:
        folder = Path(name)
        fit_bundle(data, label_window(data), config, folder, progress, timed=watch.step)
        return Bundle.load(folder, threads=2)


def _shoppers(
    past: PastQueries, bundle: Bundle, config: RecipeConfig, progress: Progress
) -> tuple[list[ShopperCase], int]:
    relevant = relevant_rows(past)  # by all they had touched: the same answers in every case
    asked = {"all events": past, "all events, anonymous": remembering(past, None)}
    asked |= {_events(n): remembering(past, n) for n in EVENTS_KNOWN}
    found: dict[str, Found] = {}
    for name, questions in asked.items():
        progress.say(f"shoppers: {name}")
        lists = ranked_lists(bundle, questions, config.policy, progress)
        found[name] = _found(lists, relevant)
    known = found["all events"]
    cases = [shopper_case(name, one, known, config.seed) for name, one in found.items()]
    return cases, len(known.candidate_recall)


def _events(n: int) -> str:
    return "last event" if n == 1 else f"last {n} events" if n else "nothing"


def remembering(past: PastQueries, n_events: int | None) -> PastQueries:
    """The same questions from nobody known, of whose events only the last n are told."""
    queries = past.queries
    nobody = np.full_like(queries.user_rows, -1)
    if n_events is None:
        return replace(past, queries=replace(queries, user_rows=nobody))
    length = queries.history_rows.shape[1]
    told = np.arange(length) >= length - n_events
    seen_stop = past.seen_indptr[1:]
    kept = np.minimum(np.diff(past.seen_indptr), n_events)
    indptr = np.r_[0, np.cumsum(kept)].astype(np.int64)
    slots = np.arange(indptr[-1]) + np.repeat(seen_stop - kept - indptr[:-1], kept)
    return replace(
        past,
        queries=replace(
            queries,
            user_rows=nobody,
            history_rows=np.where(told, queries.history_rows, np.int32(-1)),
            history_types=np.where(told, queries.history_types, np.int8(0)),
            history_time_us=np.where(told, queries.history_time_us, 0),
        ),
        seen_indptr=indptr,
        seen_rows=past.seen_rows[slots],
    )


def _found(lists: RankedLists, relevant: RowSets) -> Found:
    judged = {name: judge(ranked, relevant) for name, ranked in lists.by_name.items()}
    users, wanted = judged[RANKER].users, judged[RANKER].n_relevant
    return Found(
        {name: recall(one, K) for name, one in judged.items()},
        {name: ndcg(one, K) for name, one in judged.items()},
        lists.proposed[users] / wanted,
    )


def with_cold(data: TrainingData, cold: BoolArray) -> TrainingData:
    """A past in which nobody met the cold items, which arrive on the day of the test."""
    test_us = int(data.log.time_us.max())
    met = data.log.where(~cold[data.log.item_rows] | (data.log.time_us == test_us))
    arrival = pl.when(pl.Series(cold)).then(pl.lit(test_us)).otherwise(pl.col("published_at_us"))
    dtype = data.items.schema["published_at_us"]
    items = data.items.with_columns(published_at_us=arrival.cast(dtype))
    return TrainingData(items, met, data.event_types)


@dataclass(slots=True)
class _ColdTally:
    """What every fold found, shopper by shopper; by who ranked."""

    among_all: dict[str, list[Float64Array]] = field(default_factory=dict)
    among_cold: dict[str, list[Float64Array]] = field(default_factory=dict)
    shown: dict[str, list[Float64Array]] = field(default_factory=dict)
    proposed: list[Float64Array] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(
        self,
        past: PastQueries,
        cold: BoolArray,
        bundle: Bundle,
        policy: Policy,
        progress: Progress,
    ) -> None:
        """`past` has one label a question."""
        asked = past.take(np.flatnonzero(cold[past.label_rows]))
        everybody, proposed = _lists(bundle, past, policy, progress)
        among_cold = replace(asked, queries=replace(asked.queries, allowed=cold))
        mine = cold[past.label_rows]
        self.proposed.append(proposed[mine].astype(np.float64))
        self.sizes.append(int(cold.sum()))
        for name, ranked in everybody.items():
            _append(self.shown, name, _has_any(ranked[:, :K], cold))
            _append(self.among_all, name, _hits(ranked[mine], asked))
        for name, ranked in _lists(bundle, among_cold, policy, progress)[0].items():
            _append(self.among_cold, name, _hits(ranked, asked))

    def report(self, folds: int, seed: int) -> ColdItems:
        proposed = pooled(self.proposed)
        if len(proposed) == 0:
            raise DataError(
                "found nobody whose last item is held out of training, expected a tenth of the "
                "shoppers: use more folds or more shoppers"
            )
        size = float(np.mean(self.sizes))
        cases = [
            item_case(
                name,
                among_all=pooled(self.among_all[name]),
                among_cold=pooled(self.among_cold[name]),
                shown=pooled(self.shown[name]),
                seed=seed,
            )
            for name in self.among_all
        ]
        return ColdItems(
            folds=folds,
            cold_items=size,
            questions=len(proposed),
            slates=len(pooled(self.shown[RANKER])),
            candidate_recall=float(proposed.mean()),
            chance_among_cold=min(K / size, 1.0),
            cases=tuple(cases),
        )


def _lists(
    bundle: Bundle, past: PastQueries, policy: Policy, progress: Progress
) -> tuple[Mapping[str, Int32Array], Int64Array]:
    """Everybody who ranks, also without the source made for new items; and what was proposed."""
    lists = ranked_lists(bundle, past, policy, progress)
    silent = policy.model_copy(update={"sources": policy.sources | {"new_items": 0}})
    without = ranked_lists(bundle, past, silent, progress).by_name[RANKER]
    found = {RANKER: lists.by_name[RANKER], WITHOUT_NEW: without}
    return found | {name: lists.by_name[name] for name in SOURCES}, lists.proposed


def _append(kept: dict[str, list[Float64Array]], name: str, values: Float64Array) -> None:
    kept.setdefault(name, []).append(values)


def _has_any(ranked: Int32Array, cold: BoolArray) -> Float64Array:
    return np.asarray((cold[ranked] & (ranked >= 0)).any(axis=1), np.float64)


def _hits(ranked: Int32Array, asked: PastQueries) -> Float64Array:
    return np.asarray((ranked[:, :K] == asked.label_rows[:, None]).any(axis=1), np.float64)
