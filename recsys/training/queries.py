"""Questions about the past with known answers: histories cut at a moment, and what followed."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int8Array, Int32Array, Int64Array
from features.history import HISTORY_LENGTH
from features.interactions import Interactions
from recsys.types import Queries


@dataclass(frozen=True, slots=True, kw_only=True)
class PastQueries:
    """Queries with their outcome; query q owns rows `label_indptr[q]:label_indptr[q + 1]`.

    `seen` is everything the shopper had touched before, longer than the padded history.
    """

    queries: Queries
    users: Int32Array  # (n,) user_row in the interactions they were cut from
    label_indptr: Int64Array
    label_rows: Int32Array  # item rows of later positive events
    label_types: Int8Array  # their event types
    seen_indptr: Int64Array
    seen_rows: Int32Array

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, chosen: Int64Array) -> "PastQueries":
        """The chosen queries, in that order."""
        q = self.queries
        labels = _ranges(self.label_indptr[chosen], self.label_indptr[chosen + 1])
        seen = _ranges(self.seen_indptr[chosen], self.seen_indptr[chosen + 1])
        return PastQueries(
            queries=Queries(
                now_us=q.now_us[chosen],
                user_rows=q.user_rows[chosen],
                history_rows=q.history_rows[chosen],
                history_types=q.history_types[chosen],
                history_time_us=q.history_time_us[chosen],
            ),
            users=self.users[chosen],
            label_indptr=_indptr(np.diff(self.label_indptr)[chosen]),
            label_rows=self.label_rows[labels],
            label_types=self.label_types[labels],
            seen_indptr=_indptr(np.diff(self.seen_indptr)[chosen]),
            seen_rows=self.seen_rows[seen],
        )


def window_queries(
    log: Interactions,
    start_us: int,
    end_us: int,
    *,
    per_user: int,
    max_labels: int,
    rng: np.random.Generator,
    now_us: int | None = None,
) -> PastQueries:
    """For each user with positive events in [start, end): what came next, asked at their moment.

    The first moment is the user's first event of the window; up to `per_user - 1` later ones are
    drawn at random. The outcome is the next `max_labels` positive events within the window. `now`
    is the moment's own time unless given.
    """
    inside = np.flatnonzero((log.time_us >= start_us) & (log.time_us < end_us) & (log.weights > 0))
    users = log.user_rows[inside]
    is_first = np.r_[True, users[1:] != users[:-1]] if len(users) else np.empty(0, np.bool_)
    order = np.lexsort((rng.random(len(inside)), ~is_first, users))
    first_of_user = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else order
    rank = np.arange(len(order)) - np.repeat(
        first_of_user, np.diff(np.r_[first_of_user, len(order)])
    )
    moments = np.sort(inside[order][rank < per_user])
    if len(moments) == 0:
        moments = np.empty(0, np.int64)
    position = np.searchsorted(inside, moments)
    last = np.searchsorted(users, log.user_rows[moments], side="right")
    stop = np.minimum(position + max_labels, last)
    labels = inside[_ranges(position, stop)]
    return PastQueries(
        queries=_histories(log, moments, log.time_us[moments] if now_us is None else now_us),
        users=log.user_rows[moments],
        label_indptr=_indptr(stop - position),
        label_rows=log.item_rows[labels],
        label_types=log.types[labels],
        seen_indptr=_indptr(moments - log.indptr[log.user_rows[moments]]),
        seen_rows=log.item_rows[_ranges(log.indptr[log.user_rows[moments]], moments)],
    )


def _histories(log: Interactions, moments: Int64Array, now_us: Int64Array | int) -> Queries:
    """The last HISTORY_LENGTH events before each moment, which is an index into the log."""
    offsets = np.arange(-HISTORY_LENGTH, 0)
    slots = moments[:, None] + offsets[None, :]
    known = slots >= log.indptr[log.user_rows[moments]][:, None]
    slots = np.maximum(slots, 0)
    return Queries(
        now_us=np.broadcast_to(np.asarray(now_us, np.int64), moments.shape).copy(),
        user_rows=np.full(len(moments), -1, np.int32),
        history_rows=np.where(known, log.item_rows[slots], -1).astype(np.int32),
        history_types=np.where(known, log.types[slots], 0).astype(np.int8),
        history_time_us=np.where(known, log.time_us[slots], 0),
    )


def with_users(past: PastQueries, user_rows: Int32Array) -> PastQueries:
    """`user_rows` (n_users of the log,): the row a model knows each user by, -1 if it does not."""
    q = past.queries
    return PastQueries(
        queries=Queries(
            now_us=q.now_us,
            user_rows=user_rows[past.users],
            history_rows=q.history_rows,
            history_types=q.history_types,
            history_time_us=q.history_time_us,
        ),
        users=past.users,
        label_indptr=past.label_indptr,
        label_rows=past.label_rows,
        label_types=past.label_types,
        seen_indptr=past.seen_indptr,
        seen_rows=past.seen_rows,
    )


def _indptr(sizes: Int64Array) -> Int64Array:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _ranges(starts: Int64Array, stops: Int64Array) -> Int64Array:
    """All integers of the half-open ranges, one range after the other."""
    sizes = stops - starts
    begins = np.cumsum(sizes) - sizes
    return np.repeat(starts - begins, sizes) + np.arange(int(sizes.sum()))


@dataclass(frozen=True, slots=True)
class RankingRows:
    """What the ranker learns from: candidates of past queries, which of them were taken.

    Query q owns rows `offsets[q]:offsets[q + 1]`.
    """

    offsets: Int64Array
    features: Float32Array  # (n, n_features)
    labels: Float32Array  # (n, n_actions) 1 where that action followed
