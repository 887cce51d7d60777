"""A release on trial: how it would have served the last days, against what everybody could do.

Protocol "time": one cut in time, one question a shopper at the cut, everything positive after it
is relevant, all items of that moment are ranked, users without an answer score 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from features.arrays import Float64Array, Int32Array, Int64Array
from features.interactions import Interactions
from recsys.bundle import Bundle
from recsys.evaluation.beyond_accuracy import BeyondAccuracy, Yardstick
from recsys.evaluation.bootstrap import Interval, bootstrap_columns
from recsys.evaluation.comparisons import GATED, Comparison, compare, scores
from recsys.evaluation.metrics import RowSets, judge
from recsys.evaluation.offline import DEPTH, RankedLists, ranked_lists
from recsys.evaluation.reliability import Reliability
from recsys.evaluation.samples import SampleShopper, sample_shoppers, varied_shoppers
from recsys.evaluation.slices import Slice, partitions
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.training.queries import PastQueries, window_queries, without_outcome
from recsys.training.recipe import known_to

BASELINE = "trending"
RIVALS = (BASELINE, "live")  # the days that "live" has served flatter it: it chose what was seen
K = 10  # of each list are looked at where no metric says otherwise
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
    past = of_that_moment(past, bundle, log, window.start_us)
    lists = ranked_lists(bundle, past, policy, progress)
    asked = _Asked.of(past, log.user_ids, lists, live)
    if len(asked.past) == 0:
        return None
    before = log.before(window.start_us)
    return _summary(bundle, asked, before, window, policy, lists.reliability, seed)


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


def of_that_moment(
    past: PastQueries, bundle: Bundle, log: Interactions, cut_us: int
) -> PastQueries:
    """The same without items that came after the cut: they can be taken, but nobody shows them.

    An item with an earlier event was there, whatever its date of publication says.
    """
    there = ~(bundle.catalog.published_at_us >= cut_us)
    there[log.item_rows[log.time_us < cut_us]] = True
    return past if there.all() else replace(past, queries=replace(past.queries, allowed=there))


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

    It knows its own items only; what arrived since is simply not in its lists, and what is gone
    leaves its place to the next.
    """
    own_ids = live.catalog.item_ids
    out = np.full((len(user_ids), DEPTH), -1, np.int32)
    everything = Interactions.build(
        events, [*own_ids, *sorted(set(item_ids).difference(own_ids))], live.event_types
    )
    log = everything.where(everything.item_rows < len(own_ids))
    if len(log) == 0:
        return out
    asked = queries_at(everything, window)  # also who took nothing that it knows
    past = without_outcome(log, asked.users, asked.queries.now_us)
    past = known_to(live.factors, past, log.user_ids)
    past = of_that_moment(past, live, log, window.start_us)
    answers = ranked_lists(live, past, policy, progress).by_name["ranker"]
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    rows = np.array([row_of.get(i, -1) for i in own_ids] + [-1], np.int32)[answers]
    rows = np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)
    user_of = {user_id: user for user, user_id in enumerate(user_ids)}
    users = np.array([user_of.get(log.user_ids[user], -1) for user in past.users], np.int64)
    out[users[users >= 0]] = rows[users >= 0]
    return out


@dataclass(frozen=True, slots=True)
class _Asked:
    """Those of the shoppers asked who took something new to them; all parts are aligned."""

    past: PastQueries
    user_ids: Sequence[str]  # of the log
    arms: dict[str, Int32Array]  # who ranked → (n, DEPTH) item rows
    relevant: RowSets
    proposed: Int64Array  # (n,) relevant items that some source proposed

    @classmethod
    def of(
        cls, past: PastQueries, user_ids: Sequence[str], lists: RankedLists, live: Int32Array | None
    ) -> "_Asked":
        arms = lists.by_name if live is None else lists.by_name | {"live": live[past.users]}
        sizes = np.diff(lists.relevant.indptr)
        kept = np.flatnonzero(sizes)
        return cls(
            past.take(kept),
            user_ids,
            {name: rows[kept] for name, rows in arms.items()},
            RowSets(np.r_[0, np.cumsum(sizes[kept])], lists.relevant.rows),
            lists.proposed[kept],
        )

    @property
    def events_known(self) -> Int64Array:
        return np.diff(self.past.seen_indptr)

    def take(self, chosen: Int64Array) -> "_Asked":
        return _Asked(
            self.past.take(chosen),
            self.user_ids,
            {name: rows[chosen] for name, rows in self.arms.items()},
            RowSets.of([self.relevant.of_user(query).tolist() for query in chosen]),
            self.proposed[chosen],
        )


def _summary(
    bundle: Bundle,
    asked: _Asked,
    before: Interactions,
    window: Window,
    policy: Policy,
    reliability: tuple[Reliability, ...],
    seed: int,
) -> TrialResult:
    per_user = {name: scores(judge(rows, asked.relevant)) for name, rows in asked.arms.items()}
    rivals = {name: per_user[name] for name in RIVALS if name in per_user}
    yardstick = Yardstick.of(bundle, before, asked.past, asked.relevant)
    beyond = {name: yardstick.measure(rows[:, :K]) for name, rows in asked.arms.items()}
    comparisons = compare(per_user["ranker"], rivals, seed=seed)
    ndcg = {name: per_user[name][GATED] for name in ("ranker", *rivals)}
    parted = partitions(asked.events_known, asked.relevant, yardstick.item_users, bundle.catalog)
    return TrialResult(
        users=len(asked.past),
        start_us=window.start_us,
        end_us=window.end_us,
        metrics={name: _means(found, beyond[name]) for name, found in per_user.items()},
        intervals=_intervals(per_user["ranker"], seed),
        against={one.rival: one.difference for one in comparisons if one.metric == GATED},
        candidate_recall=float((asked.proposed / np.diff(asked.relevant.indptr)).mean()),
        strangers=int(np.count_nonzero(asked.events_known == 0)),
        comparisons=comparisons,
        slices=tuple(one for part in parted for one in part.slices(ndcg, seed=seed)),
        beyond=beyond,
        reliability=reliability,
        samples=_samples(bundle, asked, policy, seed),
    )


def _means(found: dict[str, Float64Array], beyond: BeyondAccuracy) -> dict[str, float]:
    means = {metric: float(values.mean()) for metric, values in found.items()}
    return means | {f"coverage@{K}": beyond.coverage, "answered": beyond.answered}


def _intervals(own: dict[str, Float64Array], seed: int) -> dict[str, Interval]:
    intervals = bootstrap_columns(np.stack(list(own.values()), axis=1), seed=seed)
    return dict(zip(own, intervals, strict=True))


def _samples(bundle: Bundle, asked: _Asked, policy: Policy, seed: int) -> tuple[SampleShopper, ...]:
    some = asked.take(varied_shoppers(asked.events_known, seed=seed))
    shown = {name: some.arms[name] for name in ("ranker", *RIVALS) if name in some.arms}
    user_ids = [some.user_ids[user] for user in some.past.users]
    return sample_shoppers(bundle, some.past, user_ids, some.relevant, shown, policy)
