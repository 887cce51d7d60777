"""How the funnel, and each source alone, would have answered queries with known outcomes."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array
from features.views import SOURCES
from recsys.bundle import Bundle
from recsys.evaluation.metrics import RowSets
from recsys.evaluation.reliability import Reliability, Tally
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.ranking.slate import best_rank_utility, utility
from recsys.training.queries import PastQueries
from recsys.training.rows import Labelled, labelled_batches

DEPTH = 20  # ranks kept of each list; metrics are read at 5, 10 and 20


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Answers to past queries: item rows (n_queries, DEPTH) padded with -1, by who ranked them."""

    by_name: dict[str, Int32Array]  # "ranker", then every source
    relevant: RowSets
    proposed: Int64Array  # (n_queries,) relevant items that some source proposed
    reliability: tuple[Reliability, ...]  # of the ranker's positive actions, on all candidates


def ranked_lists(
    bundle: Bundle, past: PastQueries, policy: Policy, progress: Progress
) -> RankedLists:
    """As a request would rank, but by utility alone, without diversity or exploration."""
    actions = positive_actions(bundle)
    tally = Tally(actions)
    lists: dict[str, list[Int32Array]] = {name: [] for name in ("ranker", *SOURCES)}
    proposed = []
    for batch in labelled_batches(
        bundle, past, actions, policy, progress, label="answering past queries"
    ):
        lists["ranker"].append(top_rows(batch, _utilities(bundle, batch, actions, policy, tally)))
        for column, name in enumerate(SOURCES):
            lists[name].append(top_rows(batch, -batch.candidates.source_ranks[:, column]))
        taken = batch.labels.max(axis=1, initial=0) > 0
        query = batch.candidates.query_index
        proposed.append(np.bincount(query[taken], minlength=len(batch.past)))
    nobody = np.empty((0, DEPTH), np.int32)
    return RankedLists(
        {name: np.concatenate([nobody, *parts]) for name, parts in lists.items()},
        relevant_rows(past),
        np.concatenate([np.empty(0, np.int64), *proposed]).astype(np.int64),
        tally.reliability(),
    )


def positive_actions(bundle: Bundle) -> tuple[str, ...]:
    """The event types by which an item counts as taken."""
    return tuple(kind.name for kind in bundle.event_types if kind.is_positive)


def _utilities(
    bundle: Bundle, batch: Labelled, actions: tuple[str, ...], policy: Policy, tally: Tally
) -> Float32Array:
    """Without a ranker, candidates keep the order of their best rank, as they do by day."""
    if bundle.ranker is None:
        return best_rank_utility(batch.candidates.source_ranks)
    probabilities = bundle.ranker.probabilities(batch.features)
    for head, action in enumerate(bundle.ranker.actions):
        if action in actions:
            tally.add(action, probabilities[:, head], batch.labels[:, actions.index(action)])
    weights = {kind.name: kind.weight for kind in bundle.event_types} | policy.action_weights
    action_weights = np.array([weights[a] for a in bundle.ranker.actions], np.float32)
    return utility(probabilities, action_weights)


def relevant_rows(past: PastQueries) -> RowSets:
    """Distinct items of each query's outcome that the shopper had not touched before, ascending."""
    taken = _keys(past.label_indptr, past.label_rows)
    new = np.setdiff1d(taken, _keys(past.seen_indptr, past.seen_rows))
    sizes = np.bincount(new >> 32, minlength=len(past))
    return RowSets(np.r_[0, np.cumsum(sizes)].astype(np.int64), new.astype(np.int32))


def _keys(indptr: Int64Array, rows: Int32Array) -> Int64Array:
    """(n,) query and item row as one number: the query in the upper 32 bits."""
    owners = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))
    return np.asarray(owners << 32 | rows, np.int64)


def top_rows(batch: Labelled, scores: Float32Array) -> Int32Array:
    """(n_queries, DEPTH) best rows of each query; NaN scores stay out, ties by item row."""
    query = batch.candidates.query_index
    rows = batch.candidates.item_rows
    order = np.lexsort((rows, -np.nan_to_num(scores, nan=-np.inf), query))
    order = order[~np.isnan(scores[order])]
    starts = np.searchsorted(query[order], np.arange(len(batch.past)))
    rank = np.arange(len(order)) - starts[query[order]]
    kept = rank < DEPTH
    out = np.full((len(batch.past), DEPTH), -1, np.int32)
    out[query[order][kept], rank[kept]] = rows[order][kept]
    return out
