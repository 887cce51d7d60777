"""How what changed since the night reaches the release that is being served: items, erasures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from features.interactions import shopper_id, user_of
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
    receipts: set[str] = field(default_factory=set)  # of erasures that have reached it


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


def forget_erased(store: Store, serving: Serving) -> None:
    """Users whose erasure the night has not worked off yet; again and again, at little cost."""
    for erasure in store.people.pending_erasures():
        if erasure.receipt_id not in serving.receipts and erasure.user_id is not None:
            forget(serving, erasure.user_id, erasure.session_ids)
            serving.receipts.add(erasure.receipt_id)


def forget(serving: Serving, user_id: str, session_ids: Sequence[str]) -> None:
    """The user, and the sessions that became theirs, are strangers from now on."""
    names = (shopper_id(user_id, None), *(shopper_id(None, s) for s in session_ids))
    serving.recommender.forget_shoppers([name for name in names if name is not None])


def forget_erased_since(store: Store, serving: Serving, data_end_us: int) -> None:
    """All that were erased since the release's data ended; slow, about a second a million users."""
    erased = store.people.erased_since(data_end_us)
    if erased:
        users = {
            user_id: name
            for name in serving.recommender.shoppers()
            if (user_id := user_of(name)) is not None
        }
        gone = erased.among(users)
        serving.recommender.forget_shoppers([users[user_id] for user_id in gone])
    forget_erased(store, serving)
