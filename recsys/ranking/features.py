"""The ranker's input: one row of FEATURE_VIEWS for each candidate, by day and by night alike."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array
from features.history import HISTORY_VIEWS, History, ItemRelations, history_views
from features.snapshot import Snapshots
from features.views import AFFINITIES, FEATURE_NAMES, WITHIN_LIST
from features.within import quantiles, z_scores
from recsys.types import Candidates, Queries

# By source with query vectors: which vectors of the items they meet.
SPACES = {"next_item": "sequence", "similar_text": "text", "collaborative": "factors"}


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """Everything of a release that feature rows are computed from."""

    relations: ItemRelations
    snapshots: Snapshots
    type_weights: Float32Array  # (n_event_types,)


def feature_rows(queries: Queries, candidates: Candidates, inputs: FeatureInputs) -> Float32Array:
    """(n_candidates, len(FEATURE_NAMES)), columns in the order of FEATURE_VIEWS."""
    if len(candidates) == 0:
        return np.empty((0, len(FEATURE_NAMES)), np.float32)
    from_history = np.empty((len(candidates), len(HISTORY_VIEWS)), np.float32)
    affinities = np.full((len(candidates), len(AFFINITIES)), np.nan, np.float32)
    for query, span in _spans(candidates):
        history = history_of(queries, query, inputs.type_weights)
        rows, now_us = candidates.item_rows[span], int(queries.now_us[query])
        relations = inputs.relations
        gathered = {name: matrix[rows] for name, matrix in relations.vectors.items()}
        from_history[span] = history_views(history, rows, now_us, relations, gathered=gathered)
        for column, source in enumerate(AFFINITIES):
            vectors = candidates.query_vectors.get(source)
            if vectors is not None and vectors[query].any():  # else it knows not this shopper
                affinities[span, column] = gathered[SPACES[source]] @ vectors[query]
    ranks = candidates.source_ranks
    own = [
        np.where(np.isnan(ranks), 0.0, 1.0 / (1.0 + ranks)),
        affinities,
        (~np.isnan(ranks)).sum(axis=1, keepdims=True),
        _snapshot_rows(queries, candidates, inputs.snapshots),
        from_history,
    ]
    out = np.empty((len(candidates), len(FEATURE_NAMES)), np.float32)
    n_own = len(FEATURE_NAMES) - 2 * len(WITHIN_LIST)
    np.concatenate(own, axis=1, out=out[:, :n_own])
    compared = out[:, _COMPARED]
    out[:, n_own : -len(WITHIN_LIST)] = z_scores(compared, candidates.offsets)
    out[:, -len(WITHIN_LIST) :] = quantiles(compared, candidates.offsets)
    return out


_COMPARED = [FEATURE_NAMES.index(name) for name in WITHIN_LIST]


def _spans(candidates: Candidates) -> Iterator[tuple[int, slice]]:
    for query, start in enumerate(candidates.offsets[:-1]):
        if candidates.offsets[query + 1] > start:
            yield query, slice(int(start), int(candidates.offsets[query + 1]))


def history_of(queries: Queries, query: int, type_weights: Float32Array) -> History:
    known = queries.history_rows[query] >= 0
    return History(
        queries.history_rows[query][known],
        type_weights[queries.history_types[query][known]],
        queries.history_time_us[query][known],
    )


def _snapshot_rows(queries: Queries, candidates: Candidates, snapshots: Snapshots) -> Float32Array:
    """NaN for items that arrived after the snapshot."""
    tick = snapshots.tick_at(queries.now_us)[candidates.query_index]
    n_known = snapshots.values.shape[1]
    known = candidates.item_rows < n_known
    values = snapshots.values[tick, np.minimum(candidates.item_rows, n_known - 1)]
    return np.asarray(np.where(known[:, None], values, np.nan), np.float32)
