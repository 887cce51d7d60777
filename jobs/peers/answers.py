"""From scores to lists, the same way for every peer: masks, ties, fallback, choice of settings."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy import sparse

from features.arrays import Float32Array, Int32Array, Int64Array
from jobs.peers.world import DAY_US, Round, World
from recsys.evaluation.metrics import RowSets, judge, ndcg

DEPTH = 20  # as recsys.evaluation.offline keeps
BLOCK = 512  # users at a time: 25 MB of scores at 12,000 items
UNANSWERED = -1e6  # below any score; minus the popularity rank it stays exact in float32
WINDOWS_DAYS = (None, 365, 90, 30, 7)  # of popularity; None: all time

# (users (b,), their positive history (b, n_items)) → scores (b, n_items); -inf: no answer
Scorer: TypeAlias = Callable[[Int32Array, sparse.csr_matrix], Float32Array]


def answers(world: World, questions: Round, scorer: Scorer, popular: Int64Array) -> Int32Array:
    """(n_questions, DEPTH) item rows; what the peer does not answer is filled by popularity.

    `popular` (n_items,) are popularity ranks. Items touched before are out, ties go by item row.
    """
    history = world.positives(questions.known)
    touched = world.touched(questions.known)
    lists = [np.empty((0, DEPTH), np.int32)]
    for start in range(0, len(questions.asked), BLOCK):
        users = questions.asked[start : start + BLOCK]
        scores = np.array(scorer(users, history[users]), np.float32)
        strangers = np.diff(history[users].indptr) == 0
        scores[strangers] = -np.inf
        filled = np.where(np.isfinite(scores), scores, UNANSWERED - popular)
        filled[touched[users].nonzero()] = -np.inf
        lists.append(top(filled.astype(np.float32)))
    return np.concatenate(lists)


def top(scores: Float32Array) -> Int32Array:
    """(n, DEPTH) columns of the highest scores, equals by column; -1 where only -inf is left."""
    depth = min(DEPTH, scores.shape[1])
    worst = np.partition(scores, -depth, axis=1)[:, -depth]
    rows, columns = np.nonzero((scores >= worst[:, None]) & (scores > -np.inf))
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    out = np.full((len(scores), DEPTH), -1, np.int32)
    kept = rank < DEPTH
    out[rows[kept], rank[kept]] = columns[kept]
    return out


def validation_ndcg(world: World, questions: Round, lists: Int32Array) -> float:
    """Mean nDCG@10 of lists for a validation round; 0 without anybody to ask."""
    later = world.positives(world.is_validation)[questions.asked]
    known = world.touched(questions.known)[questions.asked]
    wanted = (later - later.multiply(known)).tocsr()
    wanted.eliminate_zeros()
    judged = judge(lists, RowSets(wanted.indptr.astype(np.int64), wanted.indices.astype(np.int32)))
    return float(ndcg(judged, 10).mean()) if len(judged) else 0.0


def popularity_ranks(world: World, learned: Round, window_days: int | None) -> Int64Array:
    """(n_items,) 0 for the item with most positive events in the window that ends the fit."""
    chosen = learned.learned & (world.weights > 0)
    if window_days is not None and chosen.any():
        chosen &= world.time_us > world.time_us[chosen].max() - window_days * DAY_US
    counts = np.bincount(world.items[chosen], minlength=world.n_items)
    ranks = np.empty(world.n_items, np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(world.n_items)
    return ranks


def silent(users: Int32Array, history: sparse.csr_matrix) -> Float32Array:
    """A scorer without answers, so that popularity answers everybody."""
    return np.full((len(users), history.shape[1]), -np.inf, np.float32)


def chosen_window(world: World, validation: Round) -> int | None:
    """The popularity window that is best on validation; the longest of equals."""
    found = [
        validation_ndcg(
            world,
            validation,
            answers(world, validation, silent, popularity_ranks(world, validation, days)),
        )
        for days in WINDOWS_DAYS
    ]
    return WINDOWS_DAYS[int(np.argmax(found))]
