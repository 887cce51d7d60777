"""Why an item is in the slate, in words a shopper could read; each is true or not said."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array
from features.covisitation import Neighbours
from features.history import History, ItemRelations, neighbour_scores, unit_rows
from features.views import SOURCES

SIMILAR_ENOUGH = 0.25  # whitened cosine: random pairs are near 0, clear kin above .3 on Beauty
_OF_TASTE = [SOURCES.index(s) for s in ("next_item", "co_visited", "similar_text", "collaborative")]

_PAST_TENSE = {
    "view": "viewed",
    "click": "clicked",
    "like": "liked",
    "comment": "commented on",
    "share": "shared",
    "cart": "put in the cart",
    "purchase": "bought",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a slate's k items and of why they were asked for."""

    item_rows: Int32Array  # (k,)
    source_ranks: Float32Array  # (k, n_sources)
    is_popular: BoolArray  # (k,) the source of trending items found it, and somebody acted on it
    is_new: BoolArray  # (k,)
    titles: Sequence[str]  # by item row
    relations: ItemRelations
    history: History
    verbs: Sequence[str]  # event types of the history
    about_rows: Int32Array = field(default_factory=lambda: np.empty(0, np.int32))  # in context
    bought: Neighbours | None = None
    matches: BoolArray | None = None  # (k,) the words
    charts: Sequence[str | None] = ()  # (k,) tag each is popular in; empty: unknown


def reasons(known: Evidence) -> tuple[tuple[str, ...], ...]:
    """One tuple of sentences for each item, what says most first."""
    k = len(known.item_rows)
    related = _of_context(known) if len(known.about_rows) else _of_history(known)
    suits: BoolArray = np.any(np.isfinite(known.source_ranks[:, _OF_TASTE]), axis=1)
    matches = np.zeros(k, np.bool_) if known.matches is None else known.matches
    charts = known.charts or [None] * k
    out = []
    for place in range(k):
        words = ["matches your words"] if matches[place] else []
        words += [related[place]] if related[place] else []
        if charts[place]:
            words.append(f"popular in {charts[place]} this week")
        elif known.is_popular[place]:
            words.append("popular right now")
        if known.is_new[place]:
            words.append("new")
        for_them = suits[place] and len(known.history.item_rows)
        out.append(tuple(words or ["picked for you" if for_them else "worth a look"]))
    return tuple(out)


def _of_history(known: Evidence) -> list[str]:
    """As "because you shared Desk lamp"; "" where nothing in the history leads to the item."""
    anchors = _anchors(known.item_rows, known.history, known.relations)
    out = []
    for anchor in anchors.tolist():
        verb = known.verbs[anchor] if anchor >= 0 else ""
        title = _title(known, int(known.history.item_rows[anchor])) if anchor >= 0 else ""
        out.append(f"because you {_PAST_TENSE.get(verb, verb)} {title}" if anchor >= 0 else "")
    return out


def _of_context(known: Evidence) -> list[str]:
    """As "often bought with Desk lamp"; "" where nothing in context leads to the item."""
    about, rows = known.about_rows, known.item_rows
    lists = known.relations.neighbours
    bought = neighbour_scores(about, rows, known.bought or _no_lists())
    viewed = neighbour_scores(about, rows, lists)
    text = known.relations.vectors["text"]
    alike = unit_rows(text[rows]) @ unit_rows(text[about]).T
    alike[alike <= SIMILAR_ENOUGH] = 0
    phrases = ("often bought with", "viewed together with", "like")
    strength = np.stack([bought, viewed, alike])  # (3, k, n_about)
    strength[:, rows[:, None] == about] = 0
    best = strength.argmax(axis=2)
    is_so = strength.max(axis=2) > 0
    how = np.where(is_so.any(axis=0), is_so.argmax(axis=0), -1)
    return [
        f"{phrases[h]} {_title(known, int(about[best[h, place]]))}" if h >= 0 else ""
        for place, h in enumerate(how.tolist())
    ]


def _title(known: Evidence, row: int) -> str:
    return known.titles[row] or "something like it"


def _no_lists() -> Neighbours:
    none = np.empty(0, np.float32)
    return Neighbours(np.zeros(1, np.int64), np.empty(0, np.int32), none, none)


def _anchors(item_rows: Int32Array, history: History, relations: ItemRelations) -> Int32Array:
    """(k,) index into the history of the event that speaks most for each item, or -1."""
    if len(history.item_rows) == 0 or len(item_rows) == 0:
        return np.full(len(item_rows), -1, np.int32)
    liked = (history.weights > 0) & (item_rows[:, None] != history.item_rows)  # not itself
    visited = liked * neighbour_scores(history.item_rows, item_rows, relations.neighbours)
    text = relations.vectors["text"]
    alike = liked * (unit_rows(text[item_rows]) @ unit_rows(text[history.item_rows]).T)
    best = np.where(visited.max(axis=1) > 0, visited.argmax(axis=1), alike.argmax(axis=1))
    known = (visited.max(axis=1) > 0) | (alike.max(axis=1) > SIMILAR_ENOUGH)
    return np.where(known, best, -1).astype(np.int32)
