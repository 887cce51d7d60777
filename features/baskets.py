"""What is bought together: pairs of items in one shopper's baskets, whichever came first."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from features.covisitation import (
    FIXED_POINT,
    WEIGHT_STEPS,
    CovisitationConfig,
    Neighbours,
    lists_of,
)
from features.events import US_PER_DAY, EventType
from features.interactions import Interactions

BUYING = frozenset({"cart", "purchase"})
BASKET_GAP_US = US_PER_DAY  # put aside in the morning, paid for at night: one basket
LEAST_BASKETS = 2  # one is a coincidence, and no "often"
# Order within a basket means nothing: no decay, both directions alike. Both popularities are
# divided out by the root, the cosine of the items' baskets, or all would go with the bestseller.
# Of a basket of more than ten, items are paired with the next ten: cost stays linear.
CONFIG = CovisitationConfig(
    max_distance=10, distance_decay=1.0, backward=1.0, neighbour_power=0.5, item_power=0.5
)


def fit_bought_together(
    interactions: Interactions, event_types: Sequence[EventType], n_items: int
) -> Neighbours:
    """Score(i, j) = baskets with both / √(baskets with i · baskets with j)."""
    codes = [code for code, kind in enumerate(event_types) if kind.name in BUYING]
    bought = interactions.where(np.isin(interactions.types, codes))
    least = LEAST_BASKETS * WEIGHT_STEPS * FIXED_POINT
    return lists_of(baskets(bought), n_items, CONFIG, least=least)


def baskets(bought: Interactions) -> pl.DataFrame:
    """Each item once a basket, in the columns of `positions`, with the basket for the user.

    A basket ends where a shopper buys nothing for BASKET_GAP_US.
    """
    begins = np.ones(len(bought), np.bool_)
    begins[1:] = (np.diff(bought.user_rows) != 0) | (np.diff(bought.time_us) > BASKET_GAP_US)
    table = pl.DataFrame({"user_row": np.cumsum(begins), "item_row": bought.item_rows})
    return table.unique(maintain_order=True).with_columns(
        position=pl.int_range(pl.len()).over("user_row"),
        weight=pl.lit(WEIGHT_STEPS, pl.Int64),
    )
