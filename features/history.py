"""History views: what one shopper's own recent events say about each candidate.

One pure function with two callers: the night passes the history as it was at a past moment, the
day passes the live one. No other code computes these values, so they cannot drift apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from features.covisitation import Neighbours, step_weights
from features.events import US_PER_DAY, US_PER_SECOND

STEP_DECAY = 0.7  # each event further back counts this much less; from the text-only runs on Beauty
HISTORY_LENGTH = 50  # events looked at; longer histories added nothing on Beauty (median 7)
SESSION_GAP_US = 1_800 * US_PER_SECOND  # web analytics' usual half hour
PRICE_SPREAD = 0.25  # log price; a shopper's own spread is never thought narrower than a quarter
TOP = 3  # most similar items of the history that are averaged

# How candidate and history item may be alike, and what is read from it.
VECTORS = ("text", "sequence", "factors")
RELATIONS = (*VECTORS, "co_visited", "tags")
LIKENESSES = ("last", "best", "top3", "recent")

SHOPPER_VIEWS = (
    "usual_price",
    "history_length",
    "days_since_last_event",
    "action_strength",
    "events_last_day",
    "events_last_week",
    "session_length",
    "tag_breadth",
)
HISTORY_VIEWS = (
    *(f"{relation}_to_{what}" for relation in RELATIONS for what in LIKENESSES),
    "co_visited_affinity",
    "co_visited_lists",
    "follows_last",
    "follows_second_last",
    "preceded_last",
    "times_seen",
    "days_since_seen",
    "seen_strength",
    "seen_last_day",
    "tag_affinity",
    "tag_match_last",
    "rare_tag_affinity",
    "rarest_tag_affinity",
    "best_tag_affinity",
    "price_gap",
    "price_gap_z",
    *SHOPPER_VIEWS,
)


@dataclass(frozen=True, slots=True)
class ItemRelations:
    """What is known of items, row by row, that candidates and history are compared by."""

    vectors: dict[str, Float32Array]  # "text", "sequence", "factors": (n_items, d)
    neighbours: Neighbours
    tags: Int32Array  # (n_items, most tags of an item), padded with -1
    tag_rarity: Float32Array  # (n_tags + 1,) ≥ 0; the last is 0, for tag -1
    log_price: Float32Array  # (n_items,), NaN where unknown


@dataclass(frozen=True, slots=True)
class History:
    """One shopper's known events, oldest first, without padding."""

    item_rows: Int32Array
    weights: Float32Array  # of the event types; negative is aversion
    time_us: Int64Array

    def recent(self, decay: Float64Array | Float32Array) -> Float32Array:
        """(n,) the type's weight times the step's decay; absolute values sum to 1."""
        weights = decay.astype(np.float32) * self.weights
        weights /= max(float(np.abs(weights).sum()), 1e-9)  # events may all weigh nothing
        return weights


def history_views(
    history: History,
    candidates: Int32Array,
    now_us: int,
    relations: ItemRelations,
    *,
    gathered: Mapping[str, Float32Array] | None = None,
) -> Float32Array:
    """(n_candidates, len(HISTORY_VIEWS)); NaN where the history says nothing.

    `gathered` spares reading the candidates' rows of `relations.vectors` again.
    """
    these = gathered or {name: relations.vectors[name][candidates] for name in VECTORS}
    # by view in memory: each is written at once
    out = np.full((len(HISTORY_VIEWS), len(candidates)), np.nan, np.float32).T
    if len(history.item_rows) == 0 or len(candidates) == 0:
        out[:, HISTORY_VIEWS.index("history_length")] = 0.0
        return out
    recent = history.recent(STEP_DECAY ** np.arange(len(history.item_rows))[::-1])
    lists = relations.neighbours
    tags = _tags_of(history.item_rows, candidates, relations)
    co_visited, follows = _in_lists(
        history.item_rows, candidates, lists, lists.scores, lists.follows
    )
    alike = np.empty((len(RELATIONS), len(candidates), len(recent)), np.float32)
    for place, name in enumerate(VECTORS):
        _cosines(these[name], relations.vectors[name][history.item_rows], out=alike[place])
    alike[-2] = co_visited
    alike[-1] = tags.cosines()
    columns = [
        *_likenesses(alike, recent),
        np.einsum("ch,h->c", co_visited, history.recent(step_weights(len(recent)))),
        np.log1p((co_visited > 0).sum(axis=1)),
        *_next_steps(follows, int(history.item_rows[-1]), candidates, lists),
        *_seen(history, candidates, now_us),
        *tags.affinities(recent),
        *_prices(history, candidates, recent, relations),
        *_shopper(history, tags, now_us),
    ]
    for column, values in enumerate(columns):
        out[:, column] = values
    return out


def _likenesses(alike: Float32Array, recent: Float32Array) -> Float32Array:
    """(n_relations · len(LIKENESSES), n_candidates) of (n_relations, n_candidates, n_history)."""
    found = np.empty((alike.shape[0], len(LIKENESSES), alike.shape[1]), np.float32)
    found[:, 0] = alike[:, :, -1]
    if alike.shape[2] > TOP:
        top = np.partition(alike, -TOP, axis=2)[:, :, -TOP:]
        one, two, three = (top[:, :, place] for place in range(TOP))  # a loop of three is slow
        found[:, 1] = np.maximum(np.maximum(one, two), three)
        found[:, 2] = (one + two + three) / np.float32(TOP)
    else:
        found[:, 1] = alike.max(axis=2)
        found[:, 2] = alike.mean(axis=2)
    # einsum: OpenBLAS raises "invalid value" on finite matrices this narrow
    np.einsum("rch,h->rc", alike, recent, out=found[:, 3])
    return found.reshape(-1, alike.shape[1])


def _cosines(these: Float32Array, past: Float32Array, *, out: Float32Array) -> None:
    """(n_candidates, n_history) of two sets of vectors; 0 where one is zero."""
    np.matmul(these, past.T, out=out)  # scaled afterwards: it is much smaller than the vectors
    out /= _lengths(these)[:, None]
    out /= _lengths(past)


def unit_rows(vectors: Float32Array) -> Float32Array:
    """Rows of length one; a zero row stays zero."""
    unit: Float32Array = vectors / _lengths(vectors)[:, None]
    return unit


def _lengths(vectors: Float32Array) -> Float32Array:
    lengths: Float32Array = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.maximum(lengths, np.float32(1e-9))


def neighbour_scores(
    history_rows: Int32Array, candidates: Int32Array, neighbours: Neighbours
) -> Float32Array:
    """(n_candidates, n_history) list score of each candidate in each history item's list."""
    return _in_lists(history_rows, candidates, neighbours, neighbours.scores)[0]


def _in_lists(
    history_rows: Int32Array, candidates: Int32Array, neighbours: Neighbours, *of: Float32Array
) -> list[Float32Array]:
    """For each array aligned with the lists, (n_candidates, n_history): 0 where not in the list."""
    out = [np.zeros((len(candidates), len(history_rows)), np.float32) for _ in of]
    if len(candidates) == 0:
        return out
    places, sizes = neighbours.places(history_rows)
    rows = neighbours.item_rows[places]
    order = np.argsort(candidates, kind="stable")
    ordered = candidates[order]
    at = np.minimum(np.searchsorted(ordered, rows), len(ordered) - 1)
    found = np.flatnonzero(ordered[at] == rows)
    cells = order[at[found]], np.repeat(np.arange(len(history_rows)), sizes)[found]
    for matrix, values in zip(out, of, strict=True):
        matrix[cells] = values[places[found]]
    return out


def _next_steps(
    follows: Float32Array, last_row: int, candidates: Int32Array, neighbours: Neighbours
) -> tuple[Float32Array | float, ...]:
    """From the last item to the candidate, from the one before it, from the candidate to the last.

    `follows` (n_candidates, n_history).
    """
    places, sizes = neighbours.places(candidates)
    back = np.flatnonzero(neighbours.item_rows[places] == last_row)
    preceded = np.zeros(len(candidates), np.float32)
    preceded[np.searchsorted(np.cumsum(sizes), back, side="right")] = neighbours.follows[
        places[back]
    ]
    return follows[:, -1], follows[:, -2] if follows.shape[1] > 1 else np.nan, preceded


@dataclass(frozen=True, slots=True)
class _Tags:
    """Tags of the candidates beside those of the history, which are numbered from 0 on."""

    number: Int64Array  # (n_candidates, width) of the candidate's tag, n_tags where not in history
    present: BoolArray  # (n_candidates, width)
    rarity: Float32Array  # (n_candidates, width), 0 where not present
    past_rarity: Float32Array  # (n_history, n_tags + 1), 0 where the item has not the tag
    past_present: BoolArray  # (n_history, n_tags + 1)

    def cosines(self) -> Float32Array:
        """(n_candidates, n_history) of tag vectors weighted by rarity, as in TF-IDF."""
        dense = np.zeros((len(self.number), self.past_rarity.shape[1]), np.float32)
        dense[np.arange(len(dense))[:, None], self.number] = self.rarity
        alike: Float32Array = dense[:, :-1] @ self.past_rarity[:, :-1].T
        alike /= _lengths(self.rarity)[:, None]
        alike /= _lengths(self.past_rarity)
        return alike

    def affinities(self, recent: Float32Array) -> tuple[Float32Array, ...]:
        """By the weight of recent events that have the tag: mean, match with the last, rare tags.

        The last three are the mean weighted by rarity, that of the rarest tag, and the best
        product of the two.
        """
        taste = np.einsum("h,ht->t", recent, self.past_present)
        taste[-1] = 0.0
        weight = taste[self.number]
        n_tags = np.maximum(self.present.sum(axis=1), 1)
        rare = weight * self.rarity
        is_rarest = self.rarity == self.rarity.max(axis=1, keepdims=True)
        rarest = np.where(is_rarest & self.present, weight, -np.inf).max(axis=1)
        best = np.where(self.present, rare, -np.inf).max(axis=1)
        return (
            weight.sum(axis=1) / n_tags,
            self.past_present[-1][self.number].sum(axis=1) / n_tags,
            rare.sum(axis=1) / np.maximum(self.rarity.sum(axis=1), 1e-9),
            np.where(self.present.any(axis=1), rarest, 0.0),
            np.where(self.present.any(axis=1), best, 0.0),
        )


def _tags_of(history_rows: Int32Array, candidates: Int32Array, relations: ItemRelations) -> _Tags:
    past, these = relations.tags[history_rows], relations.tags[candidates]
    these = these[:, : max(int((these >= 0).sum(axis=1).max()), 1)]  # padding is on the right
    own = np.unique(past[past >= 0])
    number_of = np.full(len(relations.tag_rarity), len(own), np.int64)  # the last is of tag -1
    number_of[own] = np.arange(len(own))
    past_present = np.zeros((len(past), len(own) + 1), np.bool_)
    past_present[np.arange(len(past))[:, None], number_of[past]] = True
    past_present[:, -1] = False
    own_rarity = np.append(relations.tag_rarity[own], np.float32(0))
    past_rarity = np.where(past_present, own_rarity, np.float32(0))
    return _Tags(
        number_of[these],
        these >= 0,
        relations.tag_rarity[these],
        past_rarity,
        past_present,
    )


def _seen(history: History, candidates: Int32Array, now_us: int) -> tuple[Float64Array, ...]:
    """Events on the candidate, days since the last, their weight by recency, one in a day."""
    same = candidates[:, None] == history.item_rows[None, :]
    if not same.any():  # as usual where what was seen is hidden
        nothing = np.zeros(len(candidates))
        return nothing, np.full(len(candidates), np.nan), nothing, nothing
    days = np.maximum(now_us - history.time_us, 0) / US_PER_DAY
    since = np.where(same, days, np.inf).min(axis=1)
    return (
        same.sum(axis=1).astype(np.float64),
        np.log1p(np.where(np.isfinite(since), since, np.nan)),
        np.einsum("ch,h->c", same, history.weights / np.log2(2 + days)),
        (since <= 1).astype(np.float64),
    )


def _prices(
    history: History, candidates: Int32Array, recent: Float32Array, relations: ItemRelations
) -> tuple[Float32Array | float, ...]:
    """log(candidate's price) minus the recent mean of log prices; over their spread; that mean."""
    price = relations.log_price[history.item_rows]
    weight = np.where(np.isfinite(price), np.maximum(recent, 0.0), 0.0)
    if weight.sum() <= 0:
        return np.nan, np.nan, np.nan
    weight, price = weight / weight.sum(), np.nan_to_num(price)
    usual = float((weight * price).sum())
    spread = np.sqrt((weight * (price - usual) ** 2).sum() + PRICE_SPREAD**2)
    gap = relations.log_price[candidates] - usual
    return gap, gap / spread, usual


def _shopper(history: History, tags: _Tags, now_us: int) -> tuple[float, ...]:
    """SHOPPER_VIEWS; the same for every candidate."""
    ago_us = np.maximum(now_us - history.time_us, 0)
    in_session = history.time_us >= history.time_us[-1] - SESSION_GAP_US
    liked = tags.past_present[history.weights > 0]
    return (
        np.log1p(len(ago_us)),
        np.log1p(ago_us[-1] / US_PER_DAY),
        float(history.weights.mean()),
        np.log1p((ago_us <= US_PER_DAY).sum()),
        np.log1p((ago_us <= 7 * US_PER_DAY).sum()),
        np.log1p(in_session.sum()),
        np.log1p(liked.any(axis=0).sum()),
    )
