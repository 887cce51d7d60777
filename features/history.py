"""History views: what one shopper's own recent events say about each candidate.

One pure function with two callers: the night passes the history as it was at a past moment, the
day passes the live one. No other code computes these values, so they cannot drift apart.
"""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array
from features.covisitation import Neighbours
from features.events import US_PER_DAY

STEP_DECAY = 0.7  # each event further back counts this much less; from the text-only runs on Beauty
HISTORY_LENGTH = 50  # events looked at; longer histories added nothing on Beauty (median 7)

# How candidate and history item may be alike. Each gives three views.
RELATIONS = ("text", "sequence", "factors", "co_visited")

HISTORY_VIEWS = (
    *(f"{relation}_to_{what}" for relation in RELATIONS for what in ("last", "best", "recent")),
    "times_seen",
    "days_since_seen",
    "tag_affinity",
    "tag_match_last",
    "price_gap",
    "history_length",
    "days_since_last_event",
    "action_strength",
)


@dataclass(frozen=True, slots=True)
class ItemRelations:
    """What is known of items, row by row, that candidates and history are compared by."""

    vectors: dict[str, Float32Array]  # "text", "sequence", "factors": (n_items, d)
    neighbours: Neighbours
    tags: Int32Array  # (n_items, most tags of an item), padded with -1
    n_tags: int
    log_price: Float32Array  # (n_items,), NaN where unknown


@dataclass(frozen=True, slots=True)
class History:
    """One shopper's known events, oldest first, without padding."""

    item_rows: Int32Array
    weights: Float32Array  # of the event types; negative is aversion
    time_us: Int64Array


def history_views(
    history: History, candidates: Int32Array, now_us: int, relations: ItemRelations
) -> Float32Array:
    """(n_candidates, len(HISTORY_VIEWS)); NaN where the history says nothing."""
    out = np.full((len(candidates), len(HISTORY_VIEWS)), np.nan, np.float32)
    if len(history.item_rows) == 0 or len(candidates) == 0:
        out[:, HISTORY_VIEWS.index("history_length")] = 0.0
        return out
    decay = (STEP_DECAY ** np.arange(len(history.item_rows))[::-1]).astype(np.float32)
    recent = decay * history.weights
    recent /= max(float(np.abs(recent).sum()), 1e-9)  # events may all weigh nothing
    column = 0
    for relation in RELATIONS:
        alike = _alike(relation, history.item_rows, candidates, relations)
        out[:, column] = alike[:, -1]
        out[:, column + 1] = alike.max(axis=1)
        # einsum: OpenBLAS raises "invalid value" on finite matrices this narrow
        out[:, column + 2] = np.einsum("ch,h->c", alike, recent)
        column += 3
    out[:, column:] = np.column_stack(
        [
            *_seen(history, candidates, now_us),
            *_tag_match(history, candidates, recent, relations),
            _price_gap(history, candidates, recent, relations),
            *_shopper(history, len(candidates), now_us),
        ]
    )
    return out


def _alike(
    relation: str, history_rows: Int32Array, candidates: Int32Array, relations: ItemRelations
) -> Float32Array:
    """(n_candidates, n_history) cosine, or the co-visitation score history item → candidate."""
    if relation == "co_visited":
        return neighbour_scores(history_rows, candidates, relations.neighbours)
    vectors = relations.vectors[relation]
    return unit_rows(vectors[candidates]) @ unit_rows(vectors[history_rows]).T


def unit_rows(vectors: Float32Array) -> Float32Array:
    """Rows of length one; a zero row stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: Float32Array = vectors / np.maximum(norms, 1e-9)[:, None]
    return unit


def neighbour_scores(
    history_rows: Int32Array, candidates: Int32Array, neighbours: Neighbours
) -> Float32Array:
    """(n_candidates, n_history) list score of each candidate in each history item's list."""
    out = np.zeros((len(candidates), len(history_rows)), np.float32)
    if len(candidates) == 0:
        return out
    rows, scores, sizes = neighbours.of_all(history_rows)
    order = np.argsort(candidates, kind="stable")
    ordered = candidates[order]
    at = np.minimum(np.searchsorted(ordered, rows), len(ordered) - 1)
    found = ordered[at] == rows
    column = np.repeat(np.arange(len(history_rows)), sizes)
    out[order[at[found]], column[found]] = scores[found]
    return out


def _seen(history: History, candidates: Int32Array, now_us: int) -> tuple[Float32Array, ...]:
    same = candidates[:, None] == history.item_rows[None, :]
    last = np.where(same, history.time_us[None, :], np.iinfo(np.int64).min).max(axis=1)
    days = np.where(same.any(axis=1), (now_us - last) / US_PER_DAY, np.nan)
    return same.sum(axis=1).astype(np.float32), np.log1p(days).astype(np.float32)


def _tag_match(
    history: History, candidates: Int32Array, recent: Float32Array, relations: ItemRelations
) -> tuple[Float32Array, Float32Array]:
    """Mean taste weight of the candidate's tags; share of its tags that the last item has too."""
    tags = relations.tags[candidates]
    present = tags >= 0
    n_present = np.maximum(present.sum(axis=1), 1)
    seen = relations.tags[history.item_rows]
    taste = np.bincount(  # tag -1 lands in the extra last slot
        np.where(seen >= 0, seen, relations.n_tags).ravel(),
        weights=np.repeat(recent, seen.shape[1]),
        minlength=relations.n_tags + 1,
    )
    affinity = (taste[np.where(present, tags, 0)] * present).sum(axis=1) / n_present
    last = np.isin(tags, seen[-1][seen[-1] >= 0]).sum(axis=1) / n_present
    return affinity.astype(np.float32), last.astype(np.float32)


def _price_gap(
    history: History, candidates: Int32Array, recent: Float32Array, relations: ItemRelations
) -> Float32Array:
    """log(candidate's price) minus the recent mean of log prices."""
    price = relations.log_price[history.item_rows]
    weight = np.where(np.isfinite(price), np.maximum(recent, 0.0), 0.0)
    if weight.sum() <= 0:
        return np.full(len(candidates), np.nan, np.float32)
    usual = np.nansum(weight * np.nan_to_num(price)) / weight.sum()
    gap: Float32Array = (relations.log_price[candidates] - usual).astype(np.float32)
    return gap


def _shopper(history: History, n: int, now_us: int) -> tuple[Float32Array, ...]:
    last_days = max(now_us - int(history.time_us[-1]), 0) / US_PER_DAY
    values = (np.log1p(len(history.item_rows)), np.log1p(last_days), history.weights.mean())
    return tuple(np.full(n, value, np.float32) for value in values)
