"""How items that changed since the night reach the release that is being served."""

from dataclasses import dataclass

import polars as pl

from features.items import ITEM_SCHEMA
from features.store import Store
from recsys.policy import Policy
from recsys.recommender import Recommender

EMBED_AT_ONCE = 64  # items; about 0.3 s of encoding, the longest a PUT waits behind a bulk import


@dataclass(slots=True)
class Serving:
    """A loaded release, its policy, and how far it has followed the store's items."""

    recommender: Recommender
    policy: Policy
    created_at_us: int
    change: int  # of `Store.items_changed_after`


def hide(recommender: Recommender, rows: pl.DataFrame) -> None:
    """Take deleted and unavailable items out of every answer; no encoder, so it is at once."""
    gone = rows.filter(pl.col("deleted") | ~pl.col("available"))
    if len(gone):
        recommender.remove_items(gone["item_id"].to_list())


def living(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.col("deleted")).select(*ITEM_SCHEMA)


def catch_up(store: Store, serving: Serving) -> None:
    """Apply everything that changed; for a release that nobody is served from yet. Slow."""
    change, rows = store.items_changed_after(serving.change)
    hide(serving.recommender, rows)
    for items in living(rows).iter_slices(EMBED_AT_ONCE):
        serving.recommender.put_items(items, serving.recommender.embed_items(items))
    serving.change = change
