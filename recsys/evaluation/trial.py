"""A release on trial: how it would have served the last days, against what everybody could do.

Protocol "time": one cut in time, one question a shopper at the cut, everything positive after it
is relevant, all items are ranked, users without an answer score 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from features.arrays import Float64Array, Int32Array, Int64Array
from features.interactions import Interactions
from recsys.bundle import Bundle
from recsys.evaluation.beyond_accuracy import BeyondAccuracy
from recsys.evaluation.bootstrap import Interval, bootstrap, paired_bootstrap
from recsys.evaluation.comparisons import Comparison
from recsys.evaluation.metrics import RowSets, catalogue_coverage, hit_rate, judge, ndcg, recall
from recsys.evaluation.offline import RankedLists, ranked_lists
from recsys.evaluation.reliability import Reliability
from recsys.evaluation.samples import SampleShopper
from recsys.evaluation.slices import Slice
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.training.queries import PastQueries, window_queries
from recsys.training.recipe import known_to

BASELINE = "trending"
EVERY_ITEM = 1_000_000  # outcomes of one shopper that count: all of them


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Means over shoppers by who ranked, and how the ranker stands against its rivals."""

    users: int
    start_us: int
    end_us: int
    metrics: dict[str, dict[str, float]]  # ranker, sources, live → metric → mean
    intervals: dict[str, Interval]  # ranker's own, by metric
    against: dict[str, Interval]  # rival → interval of the difference in nDCG@10
    candidate_recall: float
    strangers: int = 0  # of the users: nothing was known of them at the cut
    comparisons: tuple[Comparison, ...] = ()  # headline metrics × rivals
    slices: tuple[Slice, ...] = ()
    beyond: dict[str, BeyondAccuracy] = field(default_factory=dict)  # by who ranked
    reliability: tuple[Reliability, ...] = ()  # by action
    samples: tuple[SampleShopper, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """The days a trial looks at, [start, end)."""

    start_us: int
    end_us: int


def run_trial(
    bundle: Bundle,
    log: Interactions,
    window: Window,
    policy: Policy,
    progress: Progress,
    *,
    live: Int32Array | None = None,
    seed: int = 0,
) -> TrialResult | None:
    """None where no shopper was active in the window, or nothing ranks.

    `live` (n_users, depth) are the live release's lists for every user of the log, in these rows.
    """
    past = known_to(bundle.factors, queries_at(log, window), log.user_ids)
    if len(past) == 0 or bundle.ranker is None:
        return None
    lists = ranked_lists(bundle, past, policy, progress)
    by_name = dict(lists.by_name)
    if live is not None:
        by_name["live"] = live[past.users]
    return _summary(lists, by_name, window, len(bundle.catalog), seed)


def queries_at(log: Interactions, window: Window) -> PastQueries:
    """One query a shopper at the window's start, everything positive within it as the outcome."""
    return window_queries(
        log,
        window.start_us,
        window.end_us,
        per_user=1,
        max_labels=EVERY_ITEM,
        rng=np.random.default_rng(0),
        now_us=window.start_us,
    )


def live_lists(
    live: Bundle,
    events: pl.DataFrame,
    window: Window,
    *,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    policy: Policy,
    progress: Progress,
) -> Int32Array:
    """What the live release would have shown each of `user_ids`: rows of `item_ids`, or -1.

    It knows its own items only; what arrived since is simply not in its lists.
    """
    log = Interactions.build(events, live.catalog.item_ids, live.event_types)
    past = known_to(live.factors, queries_at(log, window), log.user_ids)
    answers = ranked_lists(live, past, policy, progress).by_name["ranker"]
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    rows = np.array([row_of.get(i, -1) for i in live.catalog.item_ids] + [-1], np.int32)
    user_of = {user_id: user for user, user_id in enumerate(user_ids)}
    out = np.full((len(user_ids), answers.shape[1]), -1, np.int32)
    users = [user_of.get(log.user_ids[user], -1) for user in past.users]
    for user, answer in zip(users, rows[answers], strict=True):
        if user >= 0:
            out[user] = answer
    return out


def _summary(
    lists: RankedLists, by_name: dict[str, Int32Array], window: Window, n_items: int, seed: int
) -> TrialResult | None:
    judged = {name: judge(ranked, lists.relevant) for name, ranked in by_name.items()}
    if len(judged["ranker"]) == 0:
        return None
    per_user = {
        name: {
            "recall@10": recall(found, 10),
            "hit_rate@10": hit_rate(found, 10),
            "ndcg@5": ndcg(found, 5),
            "ndcg@10": ndcg(found, 10),
        }
        for name, found in judged.items()
    }
    means = {
        name: {metric: float(values.mean()) for metric, values in scores.items()}
        | {"coverage@10": catalogue_coverage(by_name[name][:, :10], n_items)}
        for name, scores in per_user.items()
    }
    own = per_user["ranker"]
    rivals = [name for name in (BASELINE, "live") if name in per_user]
    return TrialResult(
        users=len(judged["ranker"]),
        start_us=window.start_us,
        end_us=window.end_us,
        metrics=means,
        intervals={metric: bootstrap(values, seed=seed) for metric, values in own.items()},
        against={name: _difference(own, per_user[name], seed) for name in rivals},
        candidate_recall=_candidate_recall(lists.relevant, lists, judged["ranker"].users),
    )


def _difference(
    ours: dict[str, Float64Array], theirs: dict[str, Float64Array], seed: int
) -> Interval:
    return paired_bootstrap(ours["ndcg@10"], theirs["ndcg@10"], seed=seed).interval


def _candidate_recall(relevant: RowSets, lists: RankedLists, users: Int64Array) -> float:
    wanted = np.diff(relevant.indptr)[users]
    return float((lists.proposed[users] / wanted).mean())
