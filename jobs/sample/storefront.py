"""The known truth: what any shopper would do with any item at any time, from ids alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Float32Array, Float64Array, Int64Array
from features.errors import DataError
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from jobs.sample.world import (
    Catalogue,
    Shoppers,
    Size,
    Traits,
    draw_catalogue,
    draw_shoppers,
    unit_rows,
)

FIRST_DAY = 20_089  # 2025-01-01 in days since the epoch; fixed, so that a seed is enough
ACTIONS = ("view", "click", "share", "cart", "purchase")
EVENT_WEIGHTS = {t.name: t.weight for t in DEFAULT_EVENT_TYPES}

# Chosen so that there is something to learn. Expected clicks on a slate, seed 0, 50,000 events:
# by chance .57, the most popular 1.33, item-to-item cosine 1.38, tags and titles 1.55, ideal 3.60.
_TASTE, _QUALITY = 7.0, 0.3
_VIEW = (-2.8, 1.0)  # (intercept, slope on utility), given that the position was looked at
_CLICK = (-1.4, 0.9)  # given a view
_SHARE = (-4.0, 0.8)  # given an open product page, as are the two below
_CART = (-3.6, 0.9)
_PURCHASE = (-1.6, 0.6)


@dataclass(frozen=True, slots=True)
class Conditionals:
    """Probabilities of each step given the one before it, aligned with the utilities asked for."""

    view: Float64Array
    click: Float64Array
    share: Float64Array
    cart: Float64Array
    purchase: Float64Array


class Storefront:
    """Shoppers, items and their true probabilities; equal (seed, size, first_day), equal answers.

    A `user_id` is a shopper's id; an anonymous visit is known by its session id, and
    `shopper_row` of either finds the person behind it.
    """

    def __init__(self, seed: int, size: Size, *, first_day: int = FIRST_DAY) -> None:
        rng = np.random.default_rng([seed, 0])
        traits = Traits.draw(rng)
        self.seed = seed
        self.size = size
        self.first_day = first_day
        self.shoppers: Shoppers = draw_shoppers(rng, traits, size)
        self.catalogue: Catalogue = draw_catalogue(rng, traits, size, first_day)

    def day_start_us(self, day: int) -> int:
        """`day` counts from the storefront's first."""
        return (self.first_day + day) * US_PER_DAY

    def shopper_row(self, shopper_id: str) -> int:
        """Row of a user id or of a session id (`visit-<day>-<number>`)."""
        kind, _, rest = shopper_id.partition("-")
        try:
            if kind == "shopper" and 0 <= int(rest) < len(self.shoppers):
                return int(rest)
            if kind == "visit":
                day, number = rest.split("-")
                return int(self.visitors(int(day), np.array([int(number)]))[0])
        except ValueError:
            pass
        raise DataError(
            f"found shopper {shopper_id!r}; expected 'shopper-<number below "
            f"{len(self.shoppers)}>' or 'visit-<day>-<number>'; use ids of this storefront"
        )

    def item_rows(self, item_ids: Sequence[str]) -> Int64Array:
        try:
            rows = np.array([int(i.removeprefix("sku-")) for i in item_ids], np.int64)
        except ValueError as error:
            raise DataError(f"found an item that is not of this storefront: {error}") from error
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.catalogue)):
            raise DataError(
                f"found item row {rows.max()}; expected below {len(self.catalogue)}; "
                "use ids of this storefront"
            )
        return rows

    def visitors(self, day: int, numbers: Int64Array) -> Int64Array:
        """Who makes the day's visits of these numbers: a hash, so that no stream is needed."""
        share = hashed_uniform(self.seed, day, numbers, salt=1)
        rows = np.searchsorted(self.shoppers.activity_cdf, share)
        return np.minimum(rows, len(self.shoppers) - 1)

    def tastes(self, user_rows: Int64Array, at_us: Int64Array) -> Float32Array:
        """(n, LATENT_DIM) unit rows: each shopper's taste at each time."""
        who = self.shoppers
        days = ((at_us - self.day_start_us(0)) / US_PER_DAY).astype(np.float32)
        swing = np.sin(2 * np.pi * days / who.period_days[user_rows] + who.phase[user_rows])
        angle = (np.pi / 4) * (1 + swing)
        a, b = who.pole_a[user_rows], who.pole_b[user_rows]
        return unit_rows(np.cos(angle)[:, None] * a + np.sin(angle)[:, None] * b)

    def utilities(
        self, tastes: Float32Array, user_rows: Int64Array, item_rows: npt.NDArray[np.integer]
    ) -> Float32Array:
        """(n, k) from tastes (n, d), user_rows (n,) and item_rows (n, k); the unit is a logit."""
        items = self.catalogue
        match = np.einsum("nd,nkd->nk", tastes, items.latent[item_rows])
        price = self.shoppers.price_sensitivity[user_rows, None] * items.price_level[item_rows]
        utility: Float32Array = _TASTE * match + _QUALITY * items.quality[item_rows] - price
        return utility

    def utility(self, shopper_id: str, item_ids: Sequence[str], at_us: int) -> Float64Array:
        """(k,) the logit behind every action."""
        user = np.array([self.shopper_row(shopper_id)])
        tastes = self.tastes(user, np.array([at_us]))
        one_row = self.utilities(tastes, user, self.item_rows(item_ids)[None])
        logits: Float64Array = one_row[0].astype(np.float64)
        return logits

    def action_probabilities(
        self, shopper_id: str, item_ids: Sequence[str], at_us: int
    ) -> dict[str, Float64Array]:
        """P(action) for each item, (k,) each, given that the shopper looks at its position."""
        return action_chances(self.utility(shopper_id, item_ids, at_us))

    def click_probability(
        self,
        shopper_id: str,
        item_ids: Sequence[str],
        at_us: int,
        *,
        positions: Sequence[int] | None = None,
    ) -> Float64Array:
        """(k,) P(click) given that the shopper looks, or at these positions of a slate."""
        clicks = self.action_probabilities(shopper_id, item_ids, at_us)["click"]
        if positions is None:
            return clicks
        return np.multiply(clicks, examination(np.asarray(positions)))

    def expected_utility(
        self,
        shopper_id: str,
        item_ids: Sequence[str],
        at_us: int,
        *,
        weights: Mapping[str, float] = EVENT_WEIGHTS,
    ) -> Float64Array:
        """(k,) Σ weight · P(action), given that the shopper looks."""
        return weighted(self.action_probabilities(shopper_id, item_ids, at_us), weights)

    def slate_value(self, shopper_id: str, item_ids: Sequence[str], at_us: int) -> float:
        """Expected clicks on a slate shown in this order."""
        positions = range(len(item_ids))
        chances = self.click_probability(shopper_id, item_ids, at_us, positions=positions)
        return float(chances.sum())

    def best_items(self, shopper_id: str, at_us: int, k: int) -> list[str]:
        """The k items on the shelves that the shopper would most like, best first."""
        rows = np.arange(self.catalogue.n_arrived(at_us))
        user = np.array([self.shopper_row(shopper_id)])
        utility = self.utilities(self.tastes(user, np.array([at_us])), user, rows[None])[0]
        return [self.catalogue.item_id(row) for row in np.argsort(-utility, kind="stable")[:k]]


def examination(positions: npt.NDArray[np.integer]) -> Float64Array:
    """P(the shopper looks at a position), counted from 0: always the first, a third the eighth."""
    chance: Float64Array = (1.0 + positions.astype(np.float64)) ** -0.5
    return chance


def conditionals(utility: npt.NDArray[np.floating]) -> Conditionals:
    return Conditionals(
        *(_logistic(a + b * utility) for a, b in (_VIEW, _CLICK, _SHARE, _CART, _PURCHASE))
    )


def action_chances(utility: npt.NDArray[np.floating]) -> dict[str, Float64Array]:
    """P(action) given that the shopper looks, in the shape of `utility`."""
    c = conditionals(utility)
    opened = c.view * c.click
    return {
        "view": c.view,
        "click": opened,
        "share": opened * c.share,
        "cart": opened * c.cart,
        "purchase": opened * c.cart * c.purchase,
    }


def weighted(chances: Mapping[str, Float64Array], weights: Mapping[str, float]) -> Float64Array:
    """Σ weight · P(action)."""
    parts = [weights.get(action, 0.0) * chance for action, chance in chances.items()]
    total: Float64Array = np.sum(parts, axis=0, dtype=np.float64)
    return total


def hashed_uniform(seed: int, day: int, numbers: Int64Array, *, salt: int) -> Float64Array:
    """[0, 1) from counters alone (SplitMix64, Steele, Lea & Flood 2014)."""
    state = _mix(np.array([seed, day, salt], np.int64).astype(np.uint64))
    with np.errstate(over="ignore"):
        start = state[0] + np.uint64(3) * state[1] + np.uint64(5) * state[2]
        mixed = _mix(_mix(numbers.astype(np.uint64)) + start)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _logistic(x: npt.NDArray[np.floating]) -> Float64Array:
    result: Float64Array = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
    return result
