"""Which items match, remembered: rules and placements ask the same at every request."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

import numpy as np

from features.arrays import BoolArray, Int32Array
from recsys.columns import Rows

MAX_BYTES = 256 << 20  # 268 masks of 1M items: more rules than a shop has in force
MAX_MASKS = 4_096  # of small catalogues: what a mask weighs beside its rows
MAX_CHANGES = 100  # changes that a mask is brought up to date by, before it is made anew
MANY_ROWS = 10_000  # in one change: from here on making anew is not slower


class Masks:
    """The masks asked for last, read-only; after a change only changed items are asked again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[int, BoolArray]] = OrderedDict()
        self._changes: deque[Int32Array] = deque(maxlen=MAX_CHANGES)
        self._version = 0  # how many changes there were

    def changed(self, rows: Int32Array) -> None:
        """Items were written, or are new."""
        if len(rows) > MANY_ROWS:
            self._kept.clear()
        self._changes.append(rows)
        self._version += 1

    def mask(
        self, name: Hashable, n_items: int, matching: Callable[[Rows], BoolArray]
    ) -> BoolArray:
        """(n_items,) what `matching` says of every item; the same name means the same question."""
        version, kept = self._kept.pop(name, (-MAX_CHANGES, None))
        n_changes = self._version - version
        if kept is None or n_changes > len(self._changes):
            kept = matching(slice(None))
        elif n_changes:
            rows = np.unique(np.concatenate(list(self._changes)[-n_changes:]))
            kept = np.concatenate([kept, np.zeros(n_items - len(kept), np.bool_)])
            kept[rows] = matching(rows)
        kept.flags.writeable = False
        self._kept[name] = self._version, kept
        if len(self._kept) > min(MAX_MASKS, max(MAX_BYTES // max(n_items, 1), 1)):
            self._kept.popitem(last=False)
        return kept
