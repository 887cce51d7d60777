"""The ranker's input: one row of FEATURE_VIEWS for each candidate, by day and by night alike."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array
from features.history import HISTORY_VIEWS, History, ItemRelations, history_views
from features.snapshot import Snapshots
from features.views import AFFINITIES, FEATURE_NAMES, WITHIN_LIST
from features.within import quantiles, z_scores
from recsys.types import Candidates, Queries


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """Everything of a release that feature rows are computed from."""

    relations: ItemRelations
    snapshots: Snapshots
    source_vectors: dict[str, Float32Array]  # by source: item vectors its query vectors meet
    type_weights: Float32Array  # (n_event_types,)


def feature_rows(queries: Queries, candidates: Candidates, inputs: FeatureInputs) -> Float32Array:
    """(n_candidates, len(FEATURE_NAMES)), columns in the order of FEATURE_VIEWS."""
    if len(candidates) == 0:
        return np.empty((0, len(FEATURE_NAMES)), np.float32)
    histories = [history_of(queries, query, inputs.type_weights) for query in range(len(queries))]
    from_history = np.full((len(candidates), len(HISTORY_VIEWS)), np.nan, np.float32)
    affinities = np.full((len(candidates), len(AFFINITIES)), np.nan, np.float32)
    for query, span in _spans(candidates):
        rows, now_us = candidates.item_rows[span], int(queries.now_us[query])
        views = history_views(histories[query], rows, now_us, inputs.relations)
        from_history[span] = views
        for column, source in enumerate(AFFINITIES):
            values = _affinity(source, query, rows, histories[query], views, candidates, inputs)
            if values is not None:
                affinities[span, column] = values
    ranks = candidates.source_ranks
    own = np.concatenate(
        [
            np.where(np.isnan(ranks), 0.0, 1.0 / (1.0 + ranks)),
            affinities,
            (~np.isnan(ranks)).sum(axis=1, keepdims=True),
            _snapshot_rows(queries, candidates, inputs.snapshots),
            from_history,
        ],
        axis=1,
        dtype=np.float32,
    )
    compared = own[:, _COMPARED]
    within = [f(compared, candidates.offsets) for f in (z_scores, quantiles)]
    return np.concatenate([own, *within], axis=1)


_CO_VISITED_MEAN = HISTORY_VIEWS.index("co_visited_to_recent")
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


def _affinity(
    source: str,
    query: int,
    rows: Int32Array,
    history: History,
    views: Float32Array,
    candidates: Candidates,
    inputs: FeatureInputs,
) -> Float32Array | None:
    """None where the source knows nothing of this shopper, or failed."""
    if source == "co_visited":
        if len(history.item_rows) == 0:
            return None
        total = np.abs(history.step_weights()).sum()  # the view is a mean, the source's score a sum
        return views[:, _CO_VISITED_MEAN] * total
    vectors = candidates.query_vectors.get(source)
    if vectors is None or not vectors[query].any():
        return None
    return np.asarray(inputs.source_vectors[source][rows] @ vectors[query], np.float32)


def _snapshot_rows(queries: Queries, candidates: Candidates, snapshots: Snapshots) -> Float32Array:
    """NaN for items that arrived after the snapshot."""
    tick = snapshots.tick_at(queries.now_us)[candidates.query_index]
    n_known = snapshots.values.shape[1]
    known = candidates.item_rows < n_known
    values = snapshots.values[tick, np.minimum(candidates.item_rows, n_known - 1)]
    return np.asarray(np.where(known[:, None], values, np.nan), np.float32)
