"""How fast a shop forgets: the half-life at which past popularity best tells what is taken next."""

from itertools import pairwise

import numpy as np

from features.arrays import Float64Array, Int64Array
from features.events import US_PER_DAY
from features.interactions import Interactions

HALF_LIVES_DAYS = (2.0, 7.0, 30.0, 180.0, float("inf"))
USUAL_DAYS = 7.0  # where nothing can be measured
LOOKS = (0.8, 0.85, 0.9, 0.95)  # shares of the events before each cut; asked up to the next


def decayed_counts(
    item_rows: Int64Array,
    ages_days: Int64Array,
    events: Int64Array,
    *,
    n_items: int,
    half_life: float,
) -> Float64Array:
    """(n_items,) Σ events · 2^(-age / half-life); the oldest count a little, so none is zero."""
    weights = events * (np.exp2(-ages_days / half_life) + 1e-6)
    return np.bincount(item_rows, weights, minlength=n_items).astype(np.float64)


def fitting_half_life(interactions: Interactions) -> float:
    """Of HALF_LIVES_DAYS, the one whose order of items puts what came next furthest ahead.

    Everybody is shown the same order at each of LOOKS; an event gains 1 / log2(1 + rank).
    """
    positive = interactions.positive()
    days, rows = positive.time_us // US_PER_DAY, positive.item_rows.astype(np.int64)
    if len(rows) == 0:
        return USUAL_DAYS
    cuts = np.unique(np.append(np.quantile(days, LOOKS, method="higher"), days.max() + 1))
    cuts = cuts[cuts > days.min()]
    n_items = int(rows.max()) + 1
    gains = np.zeros(len(HALF_LIVES_DAYS))
    for start, end in pairwise(cuts):
        before = days < start
        next_rows = rows[(days >= start) & (days < end)]
        ones = np.ones(int(before.sum()), np.int64)
        for place, half_life in enumerate(HALF_LIVES_DAYS):
            popularity = decayed_counts(
                rows[before], start - days[before], ones, n_items=n_items, half_life=half_life
            )
            rank = np.empty(n_items)
            rank[np.argsort(-popularity, kind="stable")] = np.arange(1, n_items + 1)
            gains[place] += (1 / np.log2(1 + rank[next_rows])).sum()
    return HALF_LIVES_DAYS[int(np.argmax(gains))] if gains.any() else USUAL_DAYS
