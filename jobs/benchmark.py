"""The published benchmark: protocol "sequences", everything trained from scratch, all items ranked.

A user's last item is the test target and the one before it the validation target. *Strict*: nothing
is fitted on a validation or test item; the history fed at test time includes the validation item.
*Refit* may also learn from validation items, as a night would. Ordered items are laid on a clock,
one day apart, so that the cuts in time of the night are exactly leave-one-out here.
"""

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from features.arrays import Int64Array
from features.errors import DataError
from features.events import US_PER_DAY, EventType
from features.interactions import Interactions
from features.items import check_items, with_unlisted_items
from jobs.importing.columns import PROBLEM, ColumnMap, item_columns
from jobs.importing.readers import read_batches
from jobs.importing.sequences import sequence_fields
from recsys.bundle import Bundle
from recsys.evaluation.bootstrap import bootstrap
from recsys.evaluation.metrics import judge, ndcg, recall
from recsys.evaluation.offline import RankedLists, ranked_lists
from recsys.progress import Progress
from recsys.training.queries import PastQueries, window_queries
from recsys.training.recipe import RecipeConfig, TrainingData, fit_bundle, known_to

EVENT_TYPES = (EventType("view", 1.0),)
FOLDS = 10  # a tenth of the items is cold at a time
CUTS = {"R@5": (recall, 5), "N@5": (ndcg, 5), "R@10": (recall, 10), "N@10": (ndcg, 10)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """One run; `ranker` and every source hold R@5, N@5, R@10 and N@10."""

    dataset: str
    protocol: str
    seed: int
    users: int
    items: int
    ranker: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # 95 %, bootstrap over users
    sources: dict[str, dict[str, float]]
    candidate_recall: float
    seconds: dict[str, float]
    peak_rss_mb: float


class Watch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


def run_benchmark(
    items: pl.DataFrame,
    sequences: pl.DataFrame,
    *,
    dataset: str,
    config: RecipeConfig,
    seed: int,
    refit: bool,
    progress: Progress,
) -> BenchmarkReport:
    """`items` are ITEM_SCHEMA rows, `sequences` (user_id, position, item_id) in order."""
    data, watch = sequence_data(items, sequences), Watch()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        work = Path(name)
        window = label_window(data, refit=refit)
        fit_bundle(data, window, seeded(config, seed), work, progress, timed=watch.step)
        bundle = Bundle.load(work, threads=2)
        with watch.step("answers"):
            past = last_items(data, bundle)
            lists = ranked_lists(bundle, past, config.policy, progress)
    return _report(lists, data, dataset, refit, seed, watch.seconds)


def sequence_data(items: pl.DataFrame, sequences: pl.DataFrame) -> TrainingData:
    """ITEM_SCHEMA rows and (user_id, position, item_id); items without a row get one."""
    items = with_unlisted_items(items, sequences["item_id"])
    log = on_a_clock(items, sequences)
    if len(log) == 0:
        raise DataError(
            f"found no events on {len(items)} items, expected sequences of them: "
            "check that both files are of one shop"
        )
    return TrainingData(items, log, EVENT_TYPES)


def label_window(data: TrainingData, *, refit: bool = False) -> tuple[int, int]:
    """The day the ranker's labels lie on; nothing from its end on is learned."""
    test_us = int(data.log.time_us.max())
    known_until = test_us if refit else test_us - US_PER_DAY
    return known_until - US_PER_DAY, known_until


def last_items(data: TrainingData, bundle: Bundle) -> PastQueries:
    """Everybody asked for their last item, with all before it as history."""
    test_us = int(data.log.time_us.max())
    past = window_queries(
        data.log,
        test_us,
        test_us + 1,
        per_user=1,
        max_labels=1,
        rng=np.random.default_rng(0),  # there is one moment a shopper to draw
    )
    return known_to(bundle.factors, past, data.log.user_ids)


def cold_fold_of(n_items: int) -> Int64Array:
    """(n_items,) the fold, from 0, in which each item is cold."""
    return np.asarray(np.random.default_rng(0).permutation(n_items) % FOLDS, np.int64)


def on_a_clock(items: pl.DataFrame, sequences: pl.DataFrame) -> Interactions:
    """Everybody's last item on the same day, the one before it a day earlier."""
    from_end = pl.col("position").rank("ordinal", descending=True).over("user_id") - 1
    events = sequences.select(
        "user_id",
        "item_id",
        event_type=pl.lit("view"),
        event_time_us=(20_000 - from_end.cast(pl.Int64)) * US_PER_DAY,
        event_id=pl.lit(""),
        session_id=pl.lit(None, pl.String),
    )
    return Interactions.build(events, items["item_id"].to_list(), EVENT_TYPES)


def seeded(config: RecipeConfig, seed: int) -> RecipeConfig:
    return replace(
        config,
        seed=seed,
        encoder=replace(config.encoder, seed=seed),
        text=replace(config.text, item_map=replace(config.text.item_map, seed=seed)),
        collaborative=replace(config.collaborative, seed=seed),
        sequence=replace(config.sequence, seed=seed),
        ranker=replace(config.ranker, seed=seed),
    )


def _report(
    lists: RankedLists,
    data: TrainingData,
    dataset: str,
    refit: bool,
    seed: int,
    seconds: dict[str, float],
) -> BenchmarkReport:
    judged = {name: judge(ranked, lists.relevant) for name, ranked in lists.by_name.items()}
    scores = {
        name: {cut: float(metric(found, k).mean()) for cut, (metric, k) in CUTS.items()}
        for name, found in judged.items()
    }
    intervals = {}
    for cut, (metric, k) in CUTS.items():
        interval = bootstrap(metric(judged["ranker"], k), seed=seed)
        intervals[cut] = (interval.low, interval.high)
    users = len(judged["ranker"])
    return BenchmarkReport(
        dataset=dataset,
        protocol="sequences refit" if refit else "sequences strict",
        seed=seed,
        users=users,
        items=len(data.items),
        ranker=scores.pop("ranker"),
        intervals=intervals,
        sources=scores,
        candidate_recall=float(lists.proposed.sum() / users),
        seconds={**seconds, "total": sum(seconds.values())},
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def read_items(path: Path) -> pl.DataFrame:
    """ITEM_SCHEMA rows; DataError where a row is no item: all must be ranked."""
    parts = [
        check_items(item_columns(batch.rows, ColumnMap({})).drop(PROBLEM, strict=False))
        for batch in read_batches(path)
    ]
    rejected = pl.concat([part.rejected for part in parts])
    if len(rejected):
        raise DataError(
            f"{len(rejected)} rows of {path} are no items, one because {rejected['reason'][0]}: "
            "correct them"
        )
    accepted = pl.concat([part.accepted for part in parts])
    return accepted.unique("item_id", keep="last", maintain_order=True)


def read_sequences(path: Path) -> pl.DataFrame:
    """Rows user_id, item_id, position."""
    rows = pl.concat([sequence_fields(batch.rows, ColumnMap({})) for batch in read_batches(path)])
    faults = rows.filter(pl.col(PROBLEM).is_not_null())
    if len(faults):
        raise DataError(
            f"{len(faults)} rows of {path} have no usable position, one because "
            f"{faults[PROBLEM][0]}: correct them"
        )
    return rows.select("user_id", "item_id", "position")
