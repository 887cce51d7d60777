"""How the funnel, and each source alone, would have answered queries with known outcomes."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array
from features.views import SOURCES
from recsys.bundle import Bundle
from recsys.evaluation.metrics import RowSets
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.ranking.slate import utility
from recsys.training.queries import PastQueries
from recsys.training.rows import Labelled, labelled_batches

DEPTH = 20  # ranks kept of each list; metrics are read at 5 and 10


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Answers to past queries: item rows (n_queries, DEPTH) padded with -1, by who ranked them."""

    by_name: dict[str, Int32Array]  # "ranker", then every source
    relevant: RowSets
    proposed: Int64Array  # (n_queries,) relevant items that some source proposed


def ranked_lists(
    bundle: Bundle, past: PastQueries, policy: Policy, progress: Progress
) -> RankedLists:
    """By utility alone, without diversity or exploration, as a request would rank without them."""
    if bundle.ranker is None:
        raise ValueError("the bundle has no ranker: fit one before it is evaluated")
    weights = {kind.name: kind.weight for kind in bundle.event_types} | policy.action_weights
    action_weights = np.array([weights[a] for a in bundle.ranker.actions], np.float32)
    lists: dict[str, list[Int32Array]] = {name: [] for name in ("ranker", *SOURCES)}
    proposed = []
    for batch in labelled_batches(
        bundle, past, bundle.ranker.actions, policy, progress, label="answering past queries"
    ):
        scores = utility(bundle.ranker.probabilities(batch.features), action_weights)
        lists["ranker"].append(_top(batch, scores))
        for column, name in enumerate(SOURCES):
            lists[name].append(_top(batch, -batch.candidates.source_ranks[:, column]))
        taken = batch.labels.max(axis=1, initial=0) > 0
        query = batch.candidates.query_index
        proposed.append(np.bincount(query[taken], minlength=len(batch.past)))
    return RankedLists(
        {name: np.concatenate(parts) for name, parts in lists.items()},
        relevant_rows(past),
        np.concatenate(proposed).astype(np.int64),
    )


def relevant_rows(past: PastQueries) -> RowSets:
    """Distinct items of each query's outcome that the shopper had not touched before."""
    outcomes = np.split(past.label_rows, past.label_indptr[1:-1])
    seen = np.split(past.seen_rows, past.seen_indptr[1:-1])
    return RowSets.of(
        [np.setdiff1d(new, old).tolist() for new, old in zip(outcomes, seen, strict=True)]
    )


def _top(batch: Labelled, scores: Float32Array) -> Int32Array:
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
