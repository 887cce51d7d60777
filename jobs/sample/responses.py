"""What shoppers do: the funnel from looking to buying, drawn from the true probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrays import Float32Array, Float64Array, Int8Array, Int64Array
from features.events import US_PER_SECOND
from jobs.sample.storefront import ACTIONS, Storefront, conditionals, examination
from jobs.sample.taxonomy import CATEGORIES

_VIEW, _CLICK, _SHARE, _CART, _PURCHASE = range(len(ACTIONS))
# Seconds after the step before: long enough to read, short enough to stay in the session.
_DELAY_S = (2, 3, 25, 30, 90)
_POOL = 6  # items a shopper compares when looking around alone


@dataclass(frozen=True, slots=True)
class Actions:
    """Aligned columns, one entry an event; `slate` is -1 for what a shopper found alone."""

    visit: Int64Array
    slate: Int64Array
    item_rows: Int64Array
    action: Int8Array
    at_us: Int64Array


def respond(
    storefront: Storefront,
    user_rows: Int64Array,
    tastes: Float32Array,
    who: Int64Array,
    at_us: Int64Array,
    item_rows: npt.NDArray[np.integer],
    rng: np.random.Generator,
) -> list[Actions]:
    """Answers to slates: `who` (n,) indexes the visits, item_rows (n, k) is padded with -1."""
    if not item_rows.size:
        return []
    looked = rng.random(item_rows.shape) < examination(np.arange(item_rows.shape[1]))
    slate, position = np.nonzero(looked & (item_rows >= 0))
    rows = item_rows[slate, position].astype(np.int64)
    visit = who[slate]
    utility = _pair_utilities(storefront, user_rows, tastes, visit, rows)
    c = conditionals(utility)
    seen_us = at_us[slate] + position * 2 * US_PER_SECOND
    viewed = np.flatnonzero(rng.random(len(rows)) < c.view)
    seen = Actions(visit, slate, rows, np.zeros(len(rows), np.int8), seen_us)
    views = _step(seen, viewed, _VIEW, rng)
    opened = np.flatnonzero(rng.random(len(viewed)) < c.click[viewed])
    clicks = _step(views, opened, _CLICK, rng)
    return [views, clicks, *_on_page(clicks, utility[viewed][opened], rng)]


def browse(
    storefront: Storefront,
    user_rows: Int64Array,
    tastes: Float32Array,
    at_us: Int64Array,
    rng: np.random.Generator,
    day: int,
) -> tuple[list[Actions], Int64Array]:
    """Product pages that shoppers find alone, and the category each visit came from (-1: none).

    A shopper goes to a category by taste, compares a few of its items, opens one.
    """
    catalogue = storefront.catalogue
    on_shelf = catalogue.category[: catalogue.n_arrived(storefront.day_start_us(day))]
    by_category = np.argsort(on_shelf, kind="stable")
    starts = np.searchsorted(on_shelf[by_category], np.arange(len(CATEGORIES) + 1))
    counts = np.diff(starts)

    n_pages = np.minimum(rng.poisson(0.9, len(user_rows)), 4)
    visit = np.repeat(np.arange(len(user_rows)), n_pages)
    appeal = 6.0 * (tastes @ catalogue.category_latent.T)[visit]
    appeal[:, counts == 0] = -np.inf
    category = np.argmax(appeal + rng.gumbel(size=appeal.shape), axis=1)
    low, width = starts[category, None], counts[category, None]
    pool = by_category[low + (rng.random((len(visit), _POOL)) * width).astype(np.int64)]
    utility = storefront.utilities(tastes[visit], user_rows[visit], pool)
    best = np.argmax(utility + rng.gumbel(size=utility.shape), axis=1)
    everyone = np.arange(len(visit))
    nth = everyone - np.repeat(np.cumsum(n_pages) - n_pages, n_pages)
    # all before the first slate, 30 seconds into the visit
    page_us = at_us[visit] + nth * 6 * US_PER_SECOND
    found = Actions(
        visit,
        np.full(len(visit), -1, np.int64),
        pool[everyone, best],
        np.zeros(len(visit), np.int8),
        page_us,
    )
    views = _step(found, everyone, _VIEW, rng)
    context = np.full(len(user_rows), -1, np.int64)
    context[visit] = category  # the last page wins
    return [views, *_on_page(views, utility[everyone, best], rng)], context


def event_frame(
    storefront: Storefront,
    actions: Actions,
    visitors: pl.DataFrame,
    request_ids: pl.Series,
    *,
    event_prefix: str,
) -> pl.DataFrame:
    """EVENT_SCHEMA rows; `visitors` is Visits.frame(), value is the price of a purchase."""
    price = storefront.catalogue.price[actions.item_rows]
    table = pl.DataFrame(
        {
            "user_id": visitors["user_id"].gather(actions.visit),
            "session_id": visitors["session_id"].gather(actions.visit),
            "item": actions.item_rows,
            "action": actions.action,
            "event_time_us": actions.at_us,
            "slate": actions.slate,
            "price": price,
        }
    )
    slate = pl.when(pl.col("slate") >= 0).then("slate")
    return table.with_row_index("n").select(
        event_id=pl.format("{}-{}", pl.lit(event_prefix), "n"),
        user_id="user_id",
        session_id="session_id",
        item_id="sku-" + pl.col("item").cast(pl.String).str.zfill(6),
        event_type=pl.col("action").replace_strict(
            dict(enumerate(ACTIONS)), return_dtype=pl.String
        ),
        event_time_us="event_time_us",
        request_id=pl.lit(request_ids).gather(slate)
        if len(request_ids)
        else pl.lit(None, pl.String),
        value=pl.when(pl.col("action") == _PURCHASE).then("price"),
    )


def sort_actions(parts: Sequence[Sequence[Actions]]) -> Actions:
    """All of them in order of time; ties keep their order, so that a seed means one answer."""
    flat = [actions for part in parts for actions in part]
    at_us = np.concatenate([a.at_us for a in flat])
    order = np.argsort(at_us, kind="stable")
    return Actions(
        np.concatenate([a.visit for a in flat])[order],
        np.concatenate([a.slate for a in flat])[order],
        np.concatenate([a.item_rows for a in flat])[order],
        np.concatenate([a.action for a in flat])[order],
        at_us[order],
    )


def _on_page(pages: Actions, utility: Float64Array, rng: np.random.Generator) -> list[Actions]:
    c = conditionals(utility)
    shared = np.flatnonzero(rng.random(len(utility)) < c.share)
    carted = np.flatnonzero(rng.random(len(utility)) < c.cart)
    bought = carted[rng.random(len(carted)) < c.purchase[carted]]
    carts = _step(pages, carted, _CART, rng)
    is_bought = np.flatnonzero(np.isin(carted, bought))
    return [_step(pages, shared, _SHARE, rng), carts, _step(carts, is_bought, _PURCHASE, rng)]


def _step(before: Actions, kept: Int64Array, action: int, rng: np.random.Generator) -> Actions:
    """Those that went on to `action`, up to twice its usual delay later."""
    delay_us = (rng.uniform(0.5, 2.0, len(kept)) * _DELAY_S[action] * US_PER_SECOND).astype(
        np.int64
    )
    return Actions(
        before.visit[kept],
        before.slate[kept],
        before.item_rows[kept],
        np.full(len(kept), action, np.int8),
        before.at_us[kept] + delay_us,
    )


def _pair_utilities(
    storefront: Storefront,
    user_rows: Int64Array,
    tastes: Float32Array,
    visit: Int64Array,
    item_rows: Int64Array,
) -> Float64Array:
    utility = storefront.utilities(tastes[visit], user_rows[visit], item_rows[:, None])
    return utility[:, 0].astype(np.float64)
