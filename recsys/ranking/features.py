"""The ranker's input: one row of FEATURE_VIEWS for each candidate, by day and by night alike."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array
from features.history import (
    STEP_DECAY,
    History,
    ItemRelations,
    history_views,
    neighbour_scores,
)
from features.snapshot import Snapshots
from features.views import AFFINITIES, FEATURE_NAMES
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
    affinities = _affinities(histories, candidates, inputs)
    from_history = [
        history_views(
            histories[query],
            candidates.item_rows[start:stop],
            int(queries.now_us[query]),
            inputs.relations,
        )
        for query, (start, stop) in _spans(candidates)
    ]
    return np.concatenate(
        [
            np.where(np.isnan(candidates.source_ranks), 0.0, 1.0 / (1.0 + candidates.source_ranks)),
            affinities,
            (~np.isnan(candidates.source_ranks)).sum(axis=1, keepdims=True),
            _snapshot_rows(queries, candidates, inputs.snapshots),
            np.concatenate(from_history),
        ],
        axis=1,
        dtype=np.float32,
    )


def _spans(candidates: Candidates) -> list[tuple[int, tuple[int, int]]]:
    return [
        (query, (int(start), int(stop)))
        for query, (start, stop) in enumerate(
            zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True)
        )
        if stop > start
    ]


def history_of(queries: Queries, query: int, type_weights: Float32Array) -> History:
    known = queries.history_rows[query] >= 0
    return History(
        queries.history_rows[query][known],
        type_weights[queries.history_types[query][known]],
        queries.history_time_us[query][known],
    )


def _affinities(
    histories: list[History], candidates: Candidates, inputs: FeatureInputs
) -> Float32Array:
    """(n, 2 · len(AFFINITIES)): each source's score of every candidate, and its z-score."""
    out = np.full((len(candidates), 2 * len(AFFINITIES)), np.nan, np.float32)
    for query, (start, stop) in _spans(candidates):
        rows = candidates.item_rows[start:stop]
        for column, source in enumerate(AFFINITIES):
            values = _affinity(source, query, rows, histories[query], candidates, inputs)
            if values is not None:
                spread = max(float(values.std()), 1e-6)
                out[start:stop, 2 * column] = values
                out[start:stop, 2 * column + 1] = (values - values.mean()) / spread
    return out


def _affinity(
    source: str,
    query: int,
    rows: Int32Array,
    history: History,
    candidates: Candidates,
    inputs: FeatureInputs,
) -> Float32Array | None:
    """None where the source knows nothing of this shopper, or failed."""
    if source == "co_visited":
        if len(history.item_rows) == 0:
            return None
        scores = neighbour_scores(history.item_rows, rows, inputs.relations.neighbours)
        steps = np.arange(len(history.item_rows), dtype=np.float32)[::-1]
        decayed = STEP_DECAY**steps * history.weights
        return np.asarray(np.einsum("ch,h->c", scores, decayed), np.float32)
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
