"""What is popular in which tag this week: counted once a release, true whenever it is said."""

from collections.abc import Sequence

import numpy as np

from features.arrays import BoolArray, Int32Array, Int64Array
from features.events import US_PER_DAY
from features.snapshot import NICHE_ITEMS, SNAPSHOT_VIEWS, Snapshots

MOST_CHARTED = 10  # of a tag: a chart that people know, the top ten
LEAST_SHARE = 4  # and at most every fourth item, or "popular" would say little in a small tag
LEAST_EVENTS = 2  # in the week: one is no popularity
FRESH_DAYS = 3  # of seven counted days at least four still lie in the last seven


class TagCharts:
    """For each item of the release, the tag whose week's chart it is in, or none.

    Only an item's rarest tag of NICHE_ITEMS or more counts, and of those that as many events put
    on the last place of a chart, none. Items that came since have no week to look at.
    """

    def __init__(self, tags: Int32Array, tag_names: Sequence[str], snapshots: Snapshots) -> None:
        n_items = snapshots.values.shape[1]
        events = np.expm1(snapshots.values[-1, :, SNAPSHOT_VIEWS.index("events_7d")])
        self._counted_us = int(snapshots.ticks_us[-1])
        self._names = list(tag_names)
        self._tag = _charted(tags[:n_items], np.rint(events).astype(np.int32))

    def said(self, item_rows: Int32Array, tags: Int32Array, now_us: int) -> list[str | None]:
        """The tag of each item (n,) that still has it by `tags` (n, width), while it is news."""
        age_us = now_us - self._counted_us
        if not 0 <= age_us <= FRESH_DAYS * US_PER_DAY:
            return [None] * len(item_rows)
        known = item_rows < len(self._tag)
        tag = np.full(len(item_rows), -1, np.int32)
        tag[known] = self._tag[item_rows[known]]
        has_it = (tags == tag[:, None]).any(axis=1) & (tag >= 0)
        return [
            self._names[t] if has else None
            for t, has in zip(tag.tolist(), has_it.tolist(), strict=True)
        ]


def _charted(tags: Int32Array, events: Int32Array) -> Int32Array:
    """(n_items,) tag row or -1."""
    found = np.flatnonzero(tags >= 0)
    items, tag = found // tags.shape[1], tags.ravel()[found]
    sizes = np.bincount(tag, minlength=1).astype(np.int64)
    place = _places(tag, events[items])
    longest = np.minimum(MOST_CHARTED, sizes // LEAST_SHARE)
    is_in = (place <= longest[tag]) & (events[items] >= LEAST_EVENTS) & _rarest(items, tag, sizes)
    out = np.full(len(tags), -1, np.int32)
    out[items[is_in]] = tag[is_in]
    return out


def _places(tag: Int32Array, events: Int32Array) -> Int32Array:
    """Items of the tag with at least as many events: its place from 1, the worst of equals."""
    order = np.lexsort((-events, tag))
    t, e = tag[order], events[order]
    at = np.arange(len(order))
    first = np.searchsorted(t, t)  # of the tag
    ends = np.ones(len(order), np.bool_)
    ends[:-1] = (t[1:] != t[:-1]) | (e[1:] != e[:-1])
    last = np.minimum.accumulate(np.where(ends, at, len(order))[::-1])[::-1]
    out = np.empty(len(order), np.int32)
    out[order] = last - first + 1
    return out


def _rarest(items: Int64Array, tag: Int32Array, sizes: Int64Array) -> BoolArray:
    """Whether each (item, tag) is of the item's rarest tag that is not too rare."""
    size = np.where(sizes[tag] >= NICHE_ITEMS, sizes[tag], np.inf)
    order = np.lexsort((tag, size, items))
    out = np.zeros(len(order), np.bool_)
    out[order[np.unique(items[order], return_index=True)[1]]] = True
    return np.asarray(out & np.isfinite(size), np.bool_)
