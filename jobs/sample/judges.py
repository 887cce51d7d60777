"""Shoppers of one morning, who know what every slate is really worth to them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import BoolArray, Float64Array, Int32Array, Int64Array
from features.errors import ConfigError
from jobs.sample.sessions import draw_visits
from jobs.sample.storefront import (
    EVENT_WEIGHTS,
    Storefront,
    action_chances,
    examination,
    weighted,
)

_AT_ONCE = 64  # judges: 64 × 10,000 items × 24 numbers are 60 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """One entry a person; `worth` is the truth, `item_rows` below count in its columns."""

    user_ids: tuple[str | None, ...]  # None: came without a login
    session_ids: tuple[str, ...]
    at_us: Int64Array  # (n,) when they ask
    worth: Float64Array  # (n, n_items) expected utility of an item that is looked at

    def __len__(self) -> int:
        return len(self.at_us)

    @property
    def is_known(self) -> BoolArray:
        return np.array([user_id is not None for user_id in self.user_ids], np.bool_)

    @classmethod
    def of_morning(cls, storefront: Storefront, day: int, n_visits: int) -> "Judges":
        """Everybody who makes one of the day's first `n_visits`, all before noon, once.

        Items are those of the written catalogue, which the shop knows.
        """
        if n_visits < 2:
            raise ConfigError(f"found {n_visits} visits, expected at least 2 to judge by")
        visits = draw_visits(storefront, day, 0, n_visits, 2 * n_visits)
        _, first = np.unique(visits.user_rows, return_index=True)
        first = np.sort(first)
        frame = visits.frame()[first]
        items = np.arange(storefront.size.n_items)
        worth = [
            weighted(
                action_chances(
                    storefront.utilities(
                        visits.tastes[part],
                        visits.user_rows[part],
                        np.broadcast_to(items, (len(part), len(items))),
                    )
                ),
                EVENT_WEIGHTS,
            )
            for part in np.array_split(first, -(-len(first) // _AT_ONCE))
        ]
        return cls(
            user_ids=tuple(frame["user_id"]),
            session_ids=tuple(frame["session_id"]),
            at_us=visits.at_us[first],
            worth=np.concatenate(worth),
        )

    def values(self, item_rows: npt.NDArray[np.integer]) -> Float64Array:
        """(n,) of slates (n, k), padded with -1: each position's worth, if it is looked at."""
        shown = np.take_along_axis(self.worth, np.maximum(item_rows, 0), axis=1)
        return np.where(item_rows >= 0, shown, 0.0) @ examination(np.arange(item_rows.shape[1]))

    def best(self, allowed: BoolArray, k: int) -> Int32Array:
        """(n, k) what somebody who knew the truth would show; `allowed` is (n, n_items)."""
        order = np.argsort(np.where(allowed, -self.worth, np.inf), axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(allowed, order, axis=1)
        return np.where(found, order, -1).astype(np.int32)

    def by_chance(self, allowed: BoolArray, k: int) -> Float64Array:
        """(n,) the exact mean value of k different allowed items drawn blindly."""
        n_allowed = allowed.sum(axis=1)
        mean = (self.worth * allowed).sum(axis=1) / np.maximum(n_allowed, 1)
        looked = np.concatenate([[0.0], np.cumsum(examination(np.arange(k)))])
        return np.asarray(mean * looked[np.minimum(n_allowed, k)], np.float64)
