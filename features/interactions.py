"""Events as dense columns: what every model of the night learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float32Array, Int8Array, Int32Array, Int64Array
from features.events import EventType

SESSION = "session:"  # so that a session never meets a user of the same name
USER = "user:"  # escapes the names of users that begin with either of the two


def shopper_id(user_id: str | None, session_id: str | None) -> str | None:
    """The name a shopper goes by in every table: a session stands in for a missing user.

    No two shoppers share one, whatever a shop calls its users.
    """
    if user_id is not None:
        return USER + user_id if user_id.startswith((SESSION, USER)) else user_id
    return None if session_id is None else SESSION + session_id


def user_of(shopper: str) -> str | None:
    """The user who goes by the name; None for a session."""
    return None if shopper.startswith(SESSION) else shopper.removeprefix(USER)


def shopper_ids() -> pl.Expr:
    """`shopper_id` of the columns `user_id` and `session_id`."""
    user = pl.col("user_id")
    is_escaped = user.str.starts_with(SESSION) | user.str.starts_with(USER)
    named = pl.when(is_escaped).then(pl.lit(USER) + user).otherwise(user)
    return pl.coalesce(named, pl.lit(SESSION) + pl.col("session_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Events sorted by (user, time, event_id); user u owns rows `indptr[u]:indptr[u + 1]`."""

    user_ids: Sequence[str]
    indptr: Int64Array  # (n_users + 1,)
    user_rows: Int32Array  # (n,)
    item_rows: Int32Array  # (n,)
    types: Int8Array  # (n,) index into the event types
    weights: Float32Array  # (n,) the type's weight; negative is aversion
    time_us: Int64Array  # (n,)

    def __len__(self) -> int:
        return len(self.item_rows)

    @classmethod
    def build(
        cls, events: pl.DataFrame, item_ids: Sequence[str], event_types: Sequence[EventType]
    ) -> "Interactions":
        """Events on unknown items or of unknown types are dropped; sessions stand in for users."""
        items = pl.DataFrame({"item_id": item_ids}).with_row_index("item_row")
        types = pl.DataFrame(
            {
                "event_type": [t.name for t in event_types],
                "weight": [t.weight for t in event_types],
            }
        ).with_row_index("type")
        table = (
            events.lazy()
            .with_columns(user_id=shopper_ids())
            .join(items.lazy(), on="item_id")
            .join(types.lazy(), on="event_type")
            .select("user_id", "item_row", "type", "weight", "event_time_us", "event_id")
            .sort("user_id", "event_time_us", "event_id")
            .collect()
        )
        first = table["user_id"].rle_id() if len(table) else pl.Series([], dtype=pl.UInt32)
        user_rows = first.to_numpy().astype(np.int32)
        user_ids = table["user_id"].unique(maintain_order=True).to_list()
        return cls(
            user_ids=user_ids,
            indptr=_indptr(user_rows, len(user_ids)),
            user_rows=user_rows,
            item_rows=table["item_row"].to_numpy().astype(np.int32),
            types=table["type"].to_numpy().astype(np.int8),
            weights=table["weight"].to_numpy().astype(np.float32),
            time_us=table["event_time_us"].to_numpy().astype(np.int64),
        )

    def where(self, keep: BoolArray) -> "Interactions":
        """The same users, fewer events."""
        return Interactions(
            user_ids=self.user_ids,
            indptr=_indptr(self.user_rows[keep], len(self.user_ids)),
            user_rows=self.user_rows[keep],
            item_rows=self.item_rows[keep],
            types=self.types[keep],
            weights=self.weights[keep],
            time_us=self.time_us[keep],
        )

    def before(self, end_us: int) -> "Interactions":
        """Events in [-∞, end_us)."""
        return self.where(self.time_us < end_us)

    def positive(self) -> "Interactions":
        return self.where(self.weights > 0)


def _indptr(user_rows: Int32Array, n_users: int) -> Int64Array:
    return np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=n_users))]).astype(
        np.int64
    )
