"""Questions about the past with known answers: histories cut at a moment, and what followed."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from features.arrays import BoolArray, Float32Array, Int8Array, Int32Array, Int64Array
from features.history import HISTORY_LENGTH
from features.interactions import Interactions
from recsys.growing import Scalar
from recsys.types import Queries


@dataclass(frozen=True, slots=True, kw_only=True)
class PastQueries:
    """Queries with their outcome; query q owns rows `label_indptr[q]:label_indptr[q + 1]`.

    `seen` is everything the shopper had touched before, longer than the padded history.
    """

    queries: Queries
    users: Int32Array  # (n,) user_row in the interactions they were cut from
    label_indptr: Int64Array
    label_rows: Int32Array  # item rows of later events
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
            queries=replace(
                q,
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
    aversions: bool = False,
) -> PastQueries:
    """For each user with positive events in [start, end): what came next, asked at their moment.

    The first moment is that of the user's first event of the window; up to `per_user - 1` later
    ones are drawn at random. The query knows what is earlier than `now`, which is the moment's own
    time unless given; the outcome is the next `max_labels` positive events within the window, with
    `aversions` the negative ones too.
    """
    in_window = (log.time_us >= start_us) & (log.time_us < end_us)
    inside = np.flatnonzero(in_window & (log.weights > 0))
    outcomes = np.flatnonzero(in_window & (log.weights != 0)) if aversions else inside
    moments = inside[_drawn_moments(log, inside, per_user, rng)]
    users = log.user_rows[moments]
    now = np.full(len(moments), now_us, np.int64) if now_us is not None else log.time_us[moments]
    asked = without_outcome(log, users, now)
    position = np.searchsorted(outcomes, log.indptr[users] + np.diff(asked.seen_indptr))
    last = np.searchsorted(log.user_rows[outcomes], users, side="right")
    stop = np.minimum(position + max_labels, last)
    labels = outcomes[_ranges(position, stop)]
    return replace(
        asked,
        label_indptr=_indptr(stop - position),
        label_rows=log.item_rows[labels],
        label_types=log.types[labels],
    )


def without_outcome(log: Interactions, users: Int32Array, now_us: Int64Array) -> PastQueries:
    """What was known of `users` (n,) rows at `now_us` (n,), whatever they did then."""
    known = _first_since(log, users, now_us)
    return PastQueries(
        queries=_histories(log, users, known, now_us),
        users=users,
        label_indptr=np.zeros(len(users) + 1, np.int64),
        label_rows=np.empty(0, np.int32),
        label_types=np.empty(0, np.int8),
        seen_indptr=_indptr(known - log.indptr[users]),
        seen_rows=log.item_rows[_ranges(log.indptr[users], known)],
    )


def _drawn_moments(
    log: Interactions, inside: Int64Array, per_user: int, rng: np.random.Generator
) -> Int64Array:
    """Which of the events `inside`: of each user the first, then others; one of equal times."""
    users, times = log.user_rows[inside], log.time_us[inside]
    is_first = np.r_[True, users[1:] != users[:-1]][: len(inside)]
    moments = np.flatnonzero(is_first | np.r_[True, times[1:] != times[:-1]][: len(inside)])
    is_first, users = is_first[moments], users[moments]
    order = np.lexsort((rng.random(len(moments)), ~is_first, users))
    start = np.flatnonzero(is_first)
    rank = np.arange(len(order)) - np.repeat(start, np.diff(np.r_[start, len(order)]))
    return np.sort(moments[order[rank < per_user]])


def _first_since(log: Interactions, users: Int32Array, now_us: Int64Array) -> Int64Array:
    """(n,) index into the log of each user's first event at or after `now`, by bisection."""
    low, high = log.indptr[users], log.indptr[users + 1]
    while (low < high).any():
        middle = (low + high) // 2
        earlier = (low < high) & (log.time_us[np.minimum(middle, len(log) - 1)] < now_us)
        low, high = np.where(earlier, middle + 1, low), np.where(earlier, high, middle)
    return low


def _histories(
    log: Interactions, users: Int32Array, known: Int64Array, now_us: Int64Array
) -> Queries:
    """The last HISTORY_LENGTH of each user's events before the log's index `known`."""
    slots = known[:, None] + np.arange(-HISTORY_LENGTH, 0)[None, :]
    is_own = slots >= log.indptr[users][:, None]
    own = slots[is_own]

    def padded(column: npt.NDArray[Scalar], empty: int) -> npt.NDArray[Scalar]:
        filled = np.full(slots.shape, empty, column.dtype)
        filled[is_own] = column[own]
        return filled

    return Queries(
        now_us=now_us,
        user_rows=np.full(len(users), -1, np.int32),
        history_rows=padded(log.item_rows, -1),
        history_types=padded(log.types, 0),
        history_time_us=padded(log.time_us, 0),
    )


def with_users(past: PastQueries, user_rows: Int32Array) -> PastQueries:
    """`user_rows` (n_users of the log,): the row a model knows each user by, -1 if it does not."""
    return replace(past, queries=replace(past.queries, user_rows=user_rows[past.users]))


def _indptr(sizes: Int64Array) -> Int64Array:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _ranges(starts: Int64Array, stops: Int64Array) -> Int64Array:
    """All integers of the half-open ranges, one range after the other."""
    sizes = stops - starts
    begins = np.cumsum(sizes) - sizes
    return np.repeat(starts - begins, sizes) + np.arange(int(sizes.sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRows:
    """What the ranker learns from: candidates of past queries or slates, and which were taken.

    Query q owns rows `offsets[q]:offsets[q + 1]`.
    """

    offsets: Int64Array
    features: Float32Array  # (n, n_features)
    labels: Float32Array  # (n, n_actions) 1 where that action followed
    stands_for: Float32Array  # (n,) candidates each row speaks for: above 1 where others were left
    positions: Int32Array  # (n,) where on the page it was shown; -1: nobody knows if it was
    held_out: BoolArray  # (n_queries,) not learned from, and also there without any outcome

    def __len__(self) -> int:
        return len(self.held_out)

    @property
    def query_index(self) -> Int64Array:
        """(n,) which query each row belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def of_slates(self) -> BoolArray:
        """(n_queries,) whether the query is a slate that was shown."""
        return np.asarray(self.positions[self.offsets[:-1]] >= 0, np.bool_)


def joined(first: RankingRows, *others: RankingRows) -> RankingRows:
    """The queries of all of them, in that order."""
    parts = [rows for rows in (first, *others) if len(rows)] or [first]
    columns = ("features", "labels", "stands_for", "positions", "held_out")
    sizes = np.concatenate([np.diff(rows.offsets) for rows in parts])
    return RankingRows(
        offsets=_indptr(sizes),
        **{name: np.concatenate([getattr(rows, name) for rows in parts]) for name in columns},
    )
