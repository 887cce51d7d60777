"""How good ranked lists are, user by user: every definition, once.

With k the cut-off, n the user's relevant items and hᵢ = 1 if the item at rank i (from 1) is one:

    recall@k     Σ hᵢ / n                                hit_rate@k   1 if any hᵢ
    precision@k  Σ hᵢ / k, also for shorter lists        mrr@k        1 / rank of the first hit
    ndcg@k       Σ hᵢ/log₂(i+1) over its ideal, Σ 1/log₂(i+1) for i ≤ min(k, n)
    map@k        Σ hᵢ·precision@i / min(k, n)

A user without an answer scores 0. A user with n = 0 has no score: excluded, and counted.
Recall and hit rate are the same number when n = 1. `trec_eval` divides map by n instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from features.errors import DataError

_BLOCK = 1_024  # users at a time where a (users, items or k · dim) table is made


@dataclass(frozen=True, slots=True)
class RowSets:
    """A set of item rows for each user; user u owns `rows[indptr[u]:indptr[u + 1]]`."""

    indptr: Int64Array  # (n_users + 1,)
    rows: Int32Array  # (n,)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @classmethod
    def padded(cls, rows: Int32Array) -> "RowSets":
        """From a table (n_users, width) padded with -1 anywhere."""
        listed = rows >= 0
        return cls(np.r_[0, np.cumsum(listed.sum(axis=1))].astype(np.int64), rows[listed])

    @classmethod
    def of(cls, sets: Sequence[Sequence[int]]) -> "RowSets":
        lengths = np.array([0, *map(len, sets)], np.int64)
        rows = np.fromiter((row for one in sets for row in one), np.int32, int(lengths.sum()))
        return cls(np.cumsum(lengths), rows)

    def of_user(self, user: int) -> Int32Array:
        return self.rows[self.indptr[user] : self.indptr[user + 1]]

    def owners(self) -> Int64Array:
        """(n,) which user each row belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))


@dataclass(frozen=True, slots=True)
class Judged:
    """Ranked lists compared with what was relevant; only users with something relevant."""

    hits: BoolArray  # (n_users, width)
    n_relevant: Int64Array  # (n_users,) ≥ 1
    users: Int64Array  # (n_users,) which of the users asked about these are
    n_excluded: int  # users with nothing relevant

    def __len__(self) -> int:
        return len(self.users)


def judge(ranked_rows: Int32Array, relevant: RowSets) -> Judged:
    """Look each of `ranked_rows` (n_users, width), padded with -1, up in its user's set.

    DataError if users differ in number or a list holds an item twice, which would count it twice.
    """
    if len(ranked_rows) != len(relevant):
        raise DataError(
            f"Found lists for {len(ranked_rows)} users and relevant items for {len(relevant)}, "
            "expected the same users. Give users without an answer a row of -1."
        )
    _require_distinct(ranked_rows)
    n_items = 1 + int(max(ranked_rows.max(initial=-1), relevant.rows.max(initial=-1)))
    wanted = np.unique(relevant.owners() * n_items + relevant.rows)  # a set: a repeat is one item
    shown = np.arange(len(ranked_rows), dtype=np.int64)[:, None] * n_items + ranked_rows
    hits = np.isin(shown, wanted) & (ranked_rows >= 0)
    n_relevant = np.bincount(wanted // max(n_items, 1), minlength=len(relevant))
    users = np.flatnonzero(n_relevant)
    return Judged(hits[users], n_relevant[users], users, len(relevant) - len(users))


def judge_ranks(ranks: Int64Array, width: int) -> Judged:
    """One relevant item a user, at rank `ranks` (n_users,) from 0; -1 where it was not ranked."""
    hits = ranks[:, None] == np.arange(width)
    return Judged(hits, np.ones(len(ranks), np.int64), np.arange(len(ranks)), 0)


def recall(judged: Judged, k: int) -> Float64Array:
    return np.asarray(judged.hits[:, :k].sum(axis=1) / judged.n_relevant, np.float64)


def hit_rate(judged: Judged, k: int) -> Float64Array:
    return np.asarray(judged.hits[:, :k].any(axis=1), np.float64)


def precision(judged: Judged, k: int) -> Float64Array:
    return np.asarray(judged.hits[:, :k].sum(axis=1) / k, np.float64)


def mrr(judged: Judged, k: int) -> Float64Array:
    hits = judged.hits[:, :k]
    reciprocal = hits / np.arange(1, hits.shape[1] + 1)
    return np.asarray(reciprocal.max(axis=1, initial=0), np.float64)  # the first hit's is largest


def ndcg(judged: Judged, k: int) -> Float64Array:
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(judged.n_relevant, k) - 1]
    hits = judged.hits[:, :k]
    return np.asarray(hits @ gains[: hits.shape[1]] / ideal, np.float64)


def average_precision(judged: Judged, k: int) -> Float64Array:
    hits = judged.hits[:, :k]
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    total = (hits * precisions).sum(axis=1)
    return np.asarray(total / np.minimum(judged.n_relevant, k), np.float64)


ACCURACY: Mapping[str, Callable[[Judged, int], Float64Array]] = {
    "recall": recall,
    "hit_rate": hit_rate,
    "precision": precision,
    "mrr": mrr,
    "ndcg": ndcg,
    "map": average_precision,
}


def accuracy(judged: Judged, ks: Sequence[int] = (5, 10)) -> dict[str, Float64Array]:
    """Every accuracy metric at every cut-off, as `ndcg@10`: (n_users,) each."""
    if any(k < 1 for k in ks):
        raise DataError(f"Found cut-offs {list(ks)}, expected whole numbers from 1.")
    return {f"{name}@{k}": metric(judged, k) for k in ks for name, metric in ACCURACY.items()}


def full_ranking(scores: Float32Array, history: RowSets, targets: Int32Array) -> Int64Array:
    """Rank from 0 of each user's target among all items: `scores` (n_users, n_items).

    Items of the history are out of the running. Every item that ties with the target is put before
    it: a model that scores all items alike must not look good. -1 where the target has no score
    (NaN, -inf, in the history, or row -1).
    """
    ranks = np.full(len(scores), -1, np.int64)
    for start in range(0, len(scores), _BLOCK):
        stop = min(start + _BLOCK, len(scores))
        rows = history.rows[history.indptr[start] : history.indptr[stop]]
        owners = np.repeat(np.arange(stop - start), np.diff(history.indptr[start : stop + 1]))
        block = np.where(np.isnan(scores[start:stop]), -np.inf, scores[start:stop])
        block[owners, rows] = -np.inf
        target = targets[start:stop]
        score = block[np.arange(stop - start), target][:, None]
        before = np.count_nonzero(block >= score, axis=1) - 1
        ranks[start:stop] = np.where((score[:, 0] > -np.inf) & (target >= 0), before, -1)
    return ranks


def catalogue_coverage(ranked_rows: Int32Array, n_items: int) -> float:
    """Share of the catalogue that anyone is shown."""
    return float(np.count_nonzero(_times_shown(ranked_rows, n_items)) / n_items)


def gini(ranked_rows: Int32Array, n_items: int) -> float:
    """Inequality of exposure over the whole catalogue: 0 all alike, 1 - 1/n_items one item only."""
    shown = np.sort(_times_shown(ranked_rows, n_items)).astype(np.float64)
    if not shown.sum():
        return 0.0
    order = np.arange(1, n_items + 1)
    return float(((2 * order - n_items - 1) @ shown) / (n_items * shown.sum()))


def novelty(ranked_rows: Int32Array, item_users: Int64Array, n_users: int) -> Float64Array:
    """(n,) mean self-information, -log₂ of the share of users who know the item; NaN unanswered.

    `item_users` (n_items,): how many of `n_users` met the item; none counts as one.
    """
    return _mean_over_list(ranked_rows, -np.log2(np.maximum(item_users, 1) / n_users))


def average_popularity(ranked_rows: Int32Array, item_users: Int64Array) -> Float64Array:
    """(n,) mean number of users who met the items of the list; NaN unanswered."""
    return _mean_over_list(ranked_rows, item_users.astype(np.float64))


def intra_list_diversity(ranked_rows: Int32Array, vectors: Float32Array) -> Float64Array:
    """(n,) 1 - mean cosine of the list's pairs by `vectors` (n_items, d); NaN below two items."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    result = np.full(len(ranked_rows), np.nan)
    for start in range(0, len(ranked_rows), _BLOCK):
        rows = ranked_rows[start : start + _BLOCK]
        listed = np.where(rows[:, :, None] >= 0, unit[rows], 0).astype(np.float64)
        n = (rows >= 0).sum(axis=1)
        # ‖Σv‖² = Σ‖v‖² + 2 Σ over pairs: all cosines without the (k, k) table.
        paired = (listed.sum(axis=1) ** 2).sum(axis=1) - (listed**2).sum(axis=(1, 2))
        enough = n > 1
        result[start : start + _BLOCK][enough] = 1 - paired[enough] / (n * (n - 1))[enough]
    return result


def personalisation(ranked_rows: Int32Array, n_items: int) -> float:
    """1 - mean cosine of two users' lists as sets, over all pairs of answered users, exact.

    0 when all get the same list, 1 when no two share an item; NaN below two answered users.
    """
    n_listed = (ranked_rows >= 0).sum(axis=1)
    n = np.count_nonzero(n_listed)
    if n < 2:
        return float("nan")
    share = np.where(ranked_rows >= 0, 1 / np.sqrt(np.maximum(n_listed, 1))[:, None], 0)
    per_item = np.bincount(ranked_rows.clip(0).ravel(), share.ravel(), minlength=n_items)
    return float(1 - (per_item @ per_item - n) / (n * (n - 1)))


def tag_shares(listed: RowSets, item_tags: Int32Array, n_tags: int) -> sparse.csr_array:
    """(n_users, n_tags) share of each tag in a user's items; a row sums to 1, untagged to 0.

    `item_tags` (n_items, width), padded with -1: an item of two tags counts half for each.
    """
    tags = RowSets.padded(item_tags)
    sizes = np.diff(tags.indptr)
    of_item = sparse.csr_array(
        (np.repeat(1 / np.maximum(sizes, 1), sizes), tags.rows, tags.indptr),
        shape=(len(tags), max(n_tags, 1)),
    )
    of_user = sparse.csr_array(
        (np.ones(len(listed.rows)), listed.rows, listed.indptr), shape=(len(listed), len(item_tags))
    )
    shares: sparse.csr_array = of_user @ of_item
    shares.sum_duplicates()
    total = np.asarray(shares.sum(axis=1)).ravel()
    shares.data /= np.repeat(total, np.diff(shares.indptr))
    return shares


def miscalibration(
    shown: sparse.csr_array, wanted: sparse.csr_array, *, smoothing: float = 0.01
) -> Float64Array:
    """(n_users,) Σ p·log(p/q̃), q̃ = (1 - smoothing)·q + smoothing·p, in nats (Steck 2018).

    p are the tag shares of the history, q those of the list; NaN where either has no tags.
    """
    smoothed = (1 - smoothing) * shown + smoothing * wanted
    beside = wanted.astype(np.bool_).multiply(smoothed).tocsr()  # q̃ where p > 0
    beside.sort_indices()
    sizes = np.diff(wanted.indptr)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    terms = wanted.data * np.log(wanted.data / beside.data)
    divergence = np.bincount(owners, terms, minlength=len(sizes))
    return np.where((sizes > 0) & (np.diff(shown.indptr) > 0), divergence, np.nan)


def _mean_over_list(ranked_rows: Int32Array, of_item: Float64Array) -> Float64Array:
    listed = ranked_rows >= 0
    total = np.where(listed, of_item[ranked_rows], 0).sum(axis=1)
    n = listed.sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _times_shown(ranked_rows: Int32Array, n_items: int) -> Int64Array:
    return np.bincount(ranked_rows[ranked_rows >= 0], minlength=n_items)


def _require_distinct(ranked_rows: Int32Array) -> None:
    ordered = np.sort(ranked_rows, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if repeated.any():
        user = int(np.flatnonzero(repeated.any(axis=1))[0])
        raise DataError(
            f"The list of user {user} holds an item twice, expected distinct items: "
            f"{ranked_rows[user].tolist()}. Deduplicate before measuring."
        )
