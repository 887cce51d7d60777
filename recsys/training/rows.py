"""Ranking rows: the funnel asked about the past, by the very code that answers in the day."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from features.views import FEATURE_NAMES
from recsys.bundle import Bundle
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.ranking.features import feature_rows
from recsys.retrieval.merge import ask, merge, select
from recsys.training.queries import PastQueries, RankingRows, joined
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
            source.name: ask(
                source,
                batch.queries,
                policy.sources[source.name],
                beyond_history=policy.filter_viewed,
            )
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
    batches: Iterator[Labelled],
    *,
    max_negatives: int,
    rng: np.random.Generator,
    held_out_share: float = 0.0,
) -> RankingRows:
    """Queries one of whose candidates was taken, with at most `max_negatives` of the others.

    Outcomes that no source proposed are left out: the ranker is to order what it will be given.
    Held-out queries stay without any outcome too, or a ranker checked on them would promise more
    than follows.
    """
    parts = [_kept(batch, max_negatives, held_out_share, rng) for batch in batches]
    return joined(_NO_ROWS, *parts)


_NO_ROWS = RankingRows(
    offsets=np.zeros(1, np.int64),
    features=np.empty((0, len(FEATURE_NAMES)), np.float32),
    labels=np.empty((0, 0), np.float32),
    stands_for=np.empty(0, np.float32),
    positions=np.empty(0, np.int32),
    held_out=np.empty(0, np.bool_),
)


def _kept(
    batch: Labelled, max_negatives: int, held_out_share: float, rng: np.random.Generator
) -> RankingRows:
    query, sizes = batch.candidates.query_index, np.diff(batch.candidates.offsets)
    taken = batch.labels.max(axis=1, initial=0) > 0
    n_taken = np.bincount(query[taken], minlength=len(sizes))
    draw = np.where(taken, -1.0, rng.random(len(taken)))
    order = np.lexsort((draw, query))
    rank = np.arange(len(order)) - batch.candidates.offsets[query[order]]
    held_out = rng.random(len(sizes)) < held_out_share
    useful = ((n_taken > 0) | held_out) & (sizes > 0)
    keep = np.zeros(len(taken), np.bool_)
    keep[order] = rank < n_taken[query[order]] + max_negatives
    keep &= useful[query]
    others = np.maximum((sizes - n_taken) / max(max_negatives, 1), 1)[query]
    return RankingRows(
        offsets=np.r_[0, np.cumsum(np.bincount(query[keep], minlength=len(sizes))[useful])],
        features=batch.features[keep],
        labels=batch.labels[keep],
        stands_for=np.where(taken, 1, others)[keep].astype(np.float32),
        positions=np.full(int(keep.sum()), -1, np.int32),
        held_out=held_out[useful],
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
