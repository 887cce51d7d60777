"""Why an item is in the slate, in words a shopper could read."""

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32Array, Int32Array
from features.history import History, ItemRelations, neighbour_scores, unit_rows
from features.views import SOURCES

SIMILAR_ENOUGH = 0.25  # whitened cosine: random pairs are near 0, clear kin above .3 on Beauty

_PAST_TENSE = {
    "view": "viewed",
    "click": "clicked",
    "like": "liked",
    "comment": "commented on",
    "share": "shared",
    "cart": "put in the cart",
    "purchase": "bought",
}


def reasons(
    item_rows: Int32Array,
    source_ranks: Float32Array,
    history: History,
    history_verbs: Sequence[str],
    titles: Sequence[str],
    relations: ItemRelations,
    *,
    otherwise: str | None = None,
) -> tuple[tuple[str, ...], ...]:
    """One tuple of sentences for each item; `history_verbs` are the event types of the history.

    `otherwise` is said of an item that nothing else can be said of.
    """
    otherwise = otherwise or ("picked for you" if len(history.item_rows) else "popular")
    anchors = _anchors(item_rows, history, relations)
    trending, new = SOURCES.index("trending"), SOURCES.index("new_items")
    out = []
    for position, anchor in enumerate(anchors):
        words = []
        if anchor >= 0:
            verb = _PAST_TENSE.get(history_verbs[anchor], history_verbs[anchor])
            title = titles[history.item_rows[anchor]] or "something like it"
            words.append(f"because you {verb} {title}")
        if not np.isnan(source_ranks[position, trending]):
            words.append("popular right now")
        if not np.isnan(source_ranks[position, new]):
            words.append("new")
        out.append(tuple(words or [otherwise]))
    return tuple(out)


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
