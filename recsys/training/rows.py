"""Ranking rows: the funnel asked about the past, by the very code that answers in the day."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from recsys.bundle import Bundle
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.ranking.features import feature_rows
from recsys.retrieval.merge import merge, select
from recsys.training.queries import PastQueries, RankingRows
from recsys.types import Candidates

AnyInts: TypeAlias = Int32Array | Int64Array

BATCH = 256  # queries at a time: 256 × ~150 candidates × 44 features are 7 MB


@dataclass(frozen=True, slots=True)
class Labelled:
    """One batch of past queries with its candidates, features and outcomes."""

    past: PastQueries
    candidates: Candidates
    features: Float32Array
    labels: Float32Array  # (n, n_actions)


def labelled_batches(
    bundle: Bundle,
    past: PastQueries,
    actions: tuple[str, ...],
    policy: Policy,
    progress: Progress,
    label: str,
) -> Iterator[Labelled]:
    """A failing source stops the night: rows without it would teach the ranker a wrong world."""
    names = [kind.name for kind in bundle.event_types]
    action_of_type = np.array([actions.index(n) if n in actions else -1 for n in names], np.int64)
    starts = range(0, len(past), BATCH)
    for start in progress.track(starts, total=len(starts), label=label):
        batch = past.take(np.arange(start, min(start + BATCH, len(past))))
        answers = {
            source.name: source.candidates(batch.queries, policy.sources[source.name])
            for source in bundle.sources
            if policy.sources.get(source.name, 0) > 0
        }
        candidates = merge(answers, len(batch))
        if policy.filter_viewed:
            candidates = select(candidates, ~_seen(batch, candidates))
        features = feature_rows(batch.queries, candidates, bundle.feature_inputs)
        yield Labelled(
            batch, candidates, features, _labels(batch, candidates, action_of_type, len(actions))
        )


def ranking_rows(
    batches: Iterator[Labelled], *, max_negatives: int, rng: np.random.Generator
) -> RankingRows:
    """Queries one of whose candidates was taken, with at most `max_negatives` of the others.

    Outcomes that no source proposed are left out: the ranker is to order what it will be given.
    """
    features, labels, sizes = [], [], []
    for batch in batches:
        taken = batch.labels.max(axis=1, initial=0) > 0
        query = batch.candidates.query_index
        useful = np.isin(query, query[taken])
        draw = np.where(taken, -1.0, rng.random(len(taken)))
        order = np.lexsort((draw, query))
        rank = np.arange(len(order)) - batch.candidates.offsets[query[order]]
        n_taken = np.bincount(query[taken], minlength=len(batch.past))
        keep = np.zeros(len(taken), np.bool_)
        keep[order] = rank < n_taken[query[order]] + max_negatives
        keep &= useful
        features.append(batch.features[keep])
        labels.append(batch.labels[keep])
        counts = np.bincount(query[keep], minlength=len(batch.past))
        sizes.append(counts[counts > 0])
    n_features = features[0].shape[1] if features else 0
    n_actions = labels[0].shape[1] if labels else 0
    return RankingRows(
        np.concatenate([[0], np.cumsum(np.concatenate([[], *sizes]))]).astype(np.int64),
        np.concatenate([np.empty((0, n_features), np.float32), *features]),
        np.concatenate([np.empty((0, n_actions), np.float32), *labels]),
    )


def _key(query: AnyInts, rows: AnyInts) -> Int64Array:
    return np.asarray(query.astype(np.int64) << 32 | rows.astype(np.int64))


def _seen(past: PastQueries, candidates: Candidates) -> BoolArray:
    owner = np.repeat(np.arange(len(past)), np.diff(past.seen_indptr))
    keys = _key(candidates.query_index, candidates.item_rows)
    return np.asarray(np.isin(keys, _key(owner, past.seen_rows)), np.bool_)


def _labels(
    past: PastQueries, candidates: Candidates, action_of_type: Int64Array, n_actions: int
) -> Float32Array:
    """Candidates are ordered by (query, item row), so outcomes are found by bisection."""
    labels = np.zeros((len(candidates), n_actions), np.float32)
    owner = np.repeat(np.arange(len(past)), np.diff(past.label_indptr))
    keys = _key(candidates.query_index, candidates.item_rows)
    wanted = _key(owner, past.label_rows)
    at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    action = action_of_type[past.label_types]
    found = (keys[at] == wanted) & (action >= 0) if len(keys) else np.zeros(len(at), np.bool_)
    labels[at[found], action[found]] = 1.0
    return labels
