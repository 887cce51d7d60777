"""Replays on the sample storefront, where what a policy is truly worth is known exactly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrays import Float64Array, Int32Array, Int64Array
from features.events import US_PER_DAY
from jobs.sample.logging_policy import POPULAR, RANDOM, SIMILAR, LoggingPolicy
from jobs.sample.responses import browse, respond
from jobs.sample.storefront import Storefront, conditionals, examination
from jobs.sample.taxonomy import CATEGORIES
from jobs.sample.world import SLATE_LENGTH, Size
from recsys.evaluation.offpolicy.log import ExposureLog
from recsys.evaluation.offpolicy.policy import TablePolicy
from recsys.evaluation.offpolicy.replay import ESTIMATORS, Replay, ReplayConfig, replay
from recsys.evaluation.offpolicy.weights import Standing
from recsys.progress import Progress

Mixture = tuple[float, float, float]  # how often a slot is popular, random, similar
LOGGED: Mixture = (POPULAR, RANDOM, SIMILAR)
TARGETS: dict[str, Mixture] = {
    "more similar": (0.3, 0.1, 0.6),
    "only popular": (1.0, 0.0, 0.0),
    "only random": (0.0, 1.0, 0.0),
}
SHOPPERS, ITEMS, DAY = 5_000, 300, 10
_VISITS = 2.0  # a shopper, on average; the busiest have dozens
_PAGES = 0.9  # of jobs.sample.responses.browse: who looks at none comes without a category
_APPEAL = 6.0  # of the same
_CLICK = 1  # of jobs.sample.storefront.ACTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """One estimator of one target over all replays; intervals are of mean reward an exposure."""

    target: str
    estimator: str
    truth: float
    mean: float
    bias: float  # relative to the truth
    spread: float  # standard deviation over replays, relative to the truth
    covered: float | None  # share of the replays whose interval holds the truth
    lift_covered: float | None  # the same for the lift over what was logged


@dataclass(frozen=True, slots=True, kw_only=True)
class StorefrontReplays:
    """What `replays` logs told; `verdicts` counts them by target."""

    replays: int
    seed: int
    shoppers: int  # drawn for a log
    logged: float
    rows: tuple[Coverage, ...]
    verdicts: dict[str, dict[Standing, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """One moment of a storefront: who comes how often, what is on the shelves."""

    storefront: Storefront
    policy: LoggingPolicy
    at_us: int
    activity: Float64Array  # (shoppers,) expected visits

    @classmethod
    def open(cls, seed: int, *, shoppers: int = SHOPPERS, items: int = ITEMS) -> "Shop":
        size = Size(n_events=1, n_users=shoppers, n_items=items, n_days=30)
        storefront = Storefront(seed, size)
        share = np.diff(storefront.shoppers.activity_cdf, prepend=0.0)
        return cls(
            storefront,
            LoggingPolicy.of_day(storefront, DAY),
            storefront.day_start_us(DAY) + US_PER_DAY // 2,
            share * shoppers * _VISITS,
        )

    def log(
        self, n_shoppers: int, rng: np.random.Generator, mixture: Mixture | None = None
    ) -> ExposureLog:
        """What shoppers drawn anew were shown and clicked, one slate a visit.

        Without a mixture by the sample's own policy, which is LOGGED.
        """
        drawn = rng.integers(len(self.activity), size=n_shoppers)
        unit = np.repeat(np.arange(n_shoppers), rng.poisson(self.activity[drawn]))
        users = drawn[unit]
        at_us = np.full(len(users), self.at_us)
        tastes = self.storefront.tastes(users, at_us)
        _, context = browse(self.storefront, users, tastes, at_us, rng, DAY)
        if mixture is None:
            rows, chances = self.policy.slates(context, rng)
        else:
            rows, chances = self._slates(context, self.chances(mixture), rng)
        everyone = np.arange(len(users))
        actions = respond(self.storefront, users, tastes, everyone, at_us, rows, rng)
        clicked = np.zeros(rows.shape)
        for part in actions:
            clicks = part.action == _CLICK
            slate, item = part.slate[clicks], part.item_rows[clicks]
            clicked[slate, (rows[slate] == item[:, None]).argmax(axis=1)] = 1.0
        return ExposureLog(
            unit_rows=np.repeat(unit, SLATE_LENGTH),
            request_rows=np.repeat(everyone, SLATE_LENGTH),
            positions=np.tile(np.arange(SLATE_LENGTH), len(users)),
            item_rows=rows.ravel().astype(np.int64),
            rewards=clicked.ravel(),
            propensities=chances.ravel(),
            item_ids=pl.Series(np.arange(len(self.policy.items))),
            contexts=np.repeat(context + 1, SLATE_LENGTH),
        )

    def chances(self, mixture: Mixture) -> Float64Array:
        """(categories + 1, items) at any position, by the category a visit came from, 0: none."""
        policy, n = self.policy, len(self.policy.items)
        sizes = np.diff(policy.pool_start)
        pool = np.repeat(np.arange(SLATE_LENGTH), sizes)
        similar = np.tile(1 / sizes[pool], (len(CATEGORIES) + 1, 1))
        for category in range(len(CATEGORIES)):
            alike = policy.category == category
            here = np.bincount(pool[alike], minlength=SLATE_LENGTH)[pool]
            similar[category + 1] = np.where(
                here > 0, alike / np.maximum(here, 1), similar[category + 1]
            )
        popular, at_random, near = mixture
        mixed = popular * policy.popularity + at_random / sizes[pool] + near * similar
        found = np.empty((len(CATEGORIES) + 1, n))
        found[:, policy.items] = mixed / SLATE_LENGTH
        return found

    def _slates(
        self, context: Int64Array, table: Float64Array, rng: np.random.Generator
    ) -> tuple[Int32Array, Float64Array]:
        """As `LoggingPolicy.slates`, with the pools' items drawn by these chances."""
        start, items = self.policy.pool_start, self.policy.items
        turn = rng.integers(SLATE_LENGTH, size=(len(context), 1))
        pools = (np.arange(SLATE_LENGTH) + turn) % SLATE_LENGTH
        drawn = pools + rng.random(pools.shape)
        cdf = np.cumsum(table[:, items] * SLATE_LENGTH, axis=1)  # a pool is one unit of it
        place = np.empty(pools.shape, np.int64)
        for category in np.unique(context):
            here = context == category
            place[here] = np.searchsorted(cdf[category + 1], drawn[here], side="right")
        rows = items[np.clip(place, start[pools], start[pools + 1] - 1)]
        return rows, table[context[:, None] + 1, rows]

    def truth(self, mixtures: list[Mixture]) -> list[float]:
        """Expected clicks an exposure under each, over all shoppers, categories and items."""
        tables = [self.chances(mixture) for mixture in mixtures]
        sums = np.zeros(len(mixtures))
        items = np.arange(len(self.policy.items))
        for users in np.array_split(np.arange(len(self.activity)), 50):
            tastes = self.storefront.tastes(users, np.full(len(users), self.at_us))
            rows = np.broadcast_to(items, (len(users), len(items)))
            step = conditionals(self.storefront.utilities(tastes, users, rows))
            comes = self._comes_from(tastes) * self.activity[users, None]
            for number, table in enumerate(tables):
                sums[number] += ((comes @ table) * step.view * step.click).sum()
        looks = examination(np.arange(SLATE_LENGTH)).mean()
        return [float(total * looks / self.activity.sum()) for total in sums]

    def _comes_from(self, tastes: npt.NDArray[np.floating]) -> Float64Array:
        """(n, categories + 1) the chance of each context, as `browse` draws it."""
        catalogue = self.storefront.catalogue
        on_shelf = np.bincount(
            catalogue.category[: catalogue.n_arrived(self.storefront.day_start_us(DAY))],
            minlength=len(CATEGORIES),
        )
        appeal = np.exp(_APPEAL * (tastes @ catalogue.category_latent.T)) * (on_shelf > 0)
        none = np.exp(-_PAGES)
        looked = (1 - none) * appeal / appeal.sum(axis=1, keepdims=True)
        return np.column_stack([np.full(len(tastes), none), looked])


def run_storefront_replays(
    *, replays: int, shoppers: int, seed: int, progress: Progress
) -> StorefrontReplays:
    """Each log is asked about every target."""
    shop = Shop.open(seed)
    names = list(TARGETS)
    logged, *truths = shop.truth([LOGGED, *TARGETS.values()])
    policies = [TablePolicy(shop.chances(TARGETS[name]), "context") for name in names]
    found: dict[str, list[Replay]] = {name: [] for name in names}
    for number in progress.track(range(replays), total=replays, label="replays"):
        log = shop.log(shoppers, np.random.default_rng([seed, 7, number]))
        for name, policy in zip(names, policies, strict=True):
            found[name].append(replay(log, policy, ReplayConfig(seed=number)))
    rows = [
        row
        for name, truth in zip(names, truths, strict=True)
        for row in _rows(name, truth, logged, found[name])
    ]
    standings: tuple[Standing, ...] = ("usable", "weak", "refuse")
    verdicts = {
        name: {s: sum(one.verdict.standing == s for one in told) for s in standings}
        for name, told in found.items()
    }
    return StorefrontReplays(
        replays=replays,
        seed=seed,
        shoppers=shoppers,
        logged=logged,
        rows=tuple(rows),
        verdicts=verdicts,
    )


def _rows(target: str, truth: float, logged: float, found: list[Replay]) -> Iterator[Coverage]:
    for name in ESTIMATORS:
        told = [one[name] for one in found]
        values = np.array([one.value for one in told if one.value is not None])
        yield Coverage(
            target=target,
            estimator=name,
            truth=truth,
            mean=float(values.mean()),
            bias=float(values.mean() / truth - 1),
            spread=float(values.std() / truth),
            covered=_covered([(v.low, v.high) for v in told], truth),
            lift_covered=_covered([(v.lift_low, v.lift_high) for v in told], truth / logged - 1),
        )


def _covered(ends: list[tuple[float | None, float | None]], truth: float) -> float | None:
    held = [low <= truth <= high for low, high in ends if low is not None and high is not None]
    return sum(held) / len(held) if held else None
