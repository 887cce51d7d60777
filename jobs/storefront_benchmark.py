"""How much of what a perfect shop could give does this one give, where the truth is known?

A night learns from the sample storefront's log; everybody who comes the next morning is asked for
by the funnel, each source alone, popularity, chance, and an oracle that knows what each shopper
would do with each item. All obey the same mask: what the shopper has acted on is not shown.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float64Array, Int32Array
from features.errors import ConfigError
from features.events import EVENT_SCHEMA, EventType, RecentEvents
from features.interactions import Interactions
from jobs.benchmark import read_items, seeded
from jobs.plan import label_start
from jobs.sample import Judges, Storefront, write_sample
from recsys.evaluation.bootstrap import N_RESAMPLES, Interval, bootstrap
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.recommender import Recommender
from recsys.training.recipe import RecipeConfig, TrainingData, fit_bundle
from recsys.types import Ask, CandidateSource

RECENT_EVENTS = 200  # a server looks up as many
FUNNEL = "funnel, by utility"  # what the others are compared with
ORACLE, CHANCE = "oracle", "chance"

# (n_judges, k) item rows, best first, padded with -1.
Slates: TypeAlias = Int32Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One storefront's morning: every contestant's true value to every judge."""

    seed: int
    values: dict[str, Float64Array]  # name → (n,), for the same judges
    is_known: BoolArray  # (n,) came with a login


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One contestant over all storefronts; intervals are over shoppers, 95 %."""

    name: str
    utility: Interval  # true utility of a slate
    of_oracle: float  # utility / the oracle's
    reached: Interval  # (utility - chance) / (oracle - chance)
    reached_by_seed: tuple[float, ...]
    reached_known: float  # of shoppers who came with a login
    reached_strangers: float
    against_funnel: Interval  # utility minus FUNNEL's, paired


@dataclass(frozen=True, slots=True, kw_only=True)
class StorefrontReport:
    """What `benchmark-storefront` measured."""

    events: int
    seeds: tuple[int, ...]
    shoppers: int  # judges, of all seeds together
    strangers: int
    k: int
    standings: tuple[Standing, ...]


def sample_data(
    storefront: Storefront,
    event_types: Sequence[EventType],
    progress: Progress,
) -> TrainingData:
    """The storefront's whole log as a night would read it; item row i is the catalogue's row i."""
    with tempfile.TemporaryDirectory(prefix="sample-") as name:
        folder = Path(name)
        write_sample(storefront, folder, progress)
        items = read_items(folder / "items.jsonl")
        events = pl.read_parquet(folder / "events" / "**" / "*.parquet", hive_partitioning=False)
    types = tuple(event_types)
    log = Interactions.build(events.select(*EVENT_SCHEMA), items["item_id"].to_list(), types)
    return TrainingData(items, log, types)


def run_contest(
    storefront: Storefront,
    event_types: Sequence[EventType],
    recipe: RecipeConfig,
    *,
    visits: int,
    k: int,
    progress: Progress,
) -> Contest:
    """Trains on the whole log and asks for the first `visits` of the day after it."""
    data = sample_data(storefront, event_types, progress)
    day = storefront.size.n_days
    judges = Judges.of_morning(storefront, day, visits)
    cut_us = storefront.day_start_us(day)
    with tempfile.TemporaryDirectory(prefix="storefront-") as name:
        folder = Path(name)
        window = (label_start(data.log, cut_us), cut_us)
        fit_bundle(data, window, seeded(recipe, storefront.seed), folder, progress)
        recommender = Recommender.load(folder, release_id=f"seed-{storefront.seed}")
        asks = questions(judges, data, k)
        allowed = unseen(asks, data.items["item_id"].to_list())
        slates = _slates(recommender, asks, allowed, data, recipe.policy, progress)
    values = {name: judges.values(found) for name, found in slates.items()}
    values[ORACLE] = judges.values(judges.best(allowed, k))
    values[CHANCE] = judges.by_chance(allowed, k)
    return Contest(seed=storefront.seed, values=values, is_known=judges.is_known)


def questions(judges: Judges, data: TrainingData, k: int) -> list[Ask]:
    """What a server would be asked, with the past it would look up."""
    log = data.log
    user_of = {user_id: user for user, user_id in enumerate(log.user_ids)}
    item_ids = data.items["item_id"].to_list()
    names = [kind.name for kind in data.event_types]

    def recent(user_id: str | None) -> RecentEvents:
        user = user_of.get(user_id) if user_id is not None else None
        if user is None:
            return RecentEvents.none()
        stop = int(log.indptr[user + 1])
        rows = range(max(int(log.indptr[user]), stop - RECENT_EVENTS), stop)
        return RecentEvents(
            [item_ids[log.item_rows[row]] for row in rows],
            [names[log.types[row]] for row in rows],
            log.time_us[rows.start : rows.stop],
        )

    people = zip(judges.user_ids, judges.session_ids, judges.at_us, strict=True)
    return [
        Ask(
            request_id=f"judge-{number}",
            now_us=int(at_us),
            k=k,
            user_id=user_id,
            session_id=session_id,
            recent=recent(user_id),
        )
        for number, (user_id, session_id, at_us) in enumerate(people)
    ]


def unseen(asks: Sequence[Ask], item_ids: Sequence[str]) -> BoolArray:
    """(n, n_items) what each may be shown: what they have not acted on."""
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    allowed = np.ones((len(asks), len(item_ids)), np.bool_)
    for number, ask in enumerate(asks):
        allowed[number, [row_of[item_id] for item_id in ask.recent.item_ids]] = False
    return allowed


def _slates(
    recommender: Recommender,
    asks: Sequence[Ask],
    allowed: BoolArray,
    data: TrainingData,
    policy: Policy,
    progress: Progress,
) -> dict[str, Slates]:
    plain = policy.model_copy(update={"exploration": 0.0})
    bare = plain.model_copy(update={"diversity": 0.0})
    counts = np.bincount(data.log.positive().item_rows, minlength=len(data.items))
    popular = np.argsort(-counts, kind="stable")
    ways: dict[str, Callable[[int], Sequence[int]]] = {
        "funnel, as shipped": lambda n: _funnel(recommender, asks[n], policy),
        "funnel, exploration 0": lambda n: _funnel(recommender, asks[n], plain),
        FUNNEL: lambda n: _funnel(recommender, asks[n], bare),
        **{
            f"{source.name} alone": lambda n, source=source: _alone(  # type: ignore[misc]
                recommender, source, asks[n], allowed[n]
            )
            for source in recommender.bundle.sources
        },
        "popularity": lambda n: popular[allowed[n][popular]],
    }
    k = asks[0].k
    return {
        name: _padded(
            (
                way(n)[:k]
                for n in progress.track(range(len(asks)), total=len(asks), label=f"slates: {name}")
            ),
            (len(asks), k),
        )
        for name, way in ways.items()
    }


def _funnel(recommender: Recommender, ask: Ask, policy: Policy) -> Sequence[int]:
    answer = recommender.recommend(replace(ask, policy=policy))
    rows: Sequence[int] = answer.slate.item_rows.tolist()
    return rows


def _alone(
    recommender: Recommender, source: CandidateSource, ask: Ask, allowed: BoolArray
) -> Sequence[int]:
    """The source's own order; what it leaves empty is filled with what is popular, as by day."""
    queries = recommender.queries(ask)
    assert queries.allowed is not None  # `Recommender.queries` sets it
    queries.allowed[~allowed] = False
    found = source.candidates(queries, ask.k).item_rows[0]
    rows: list[int] = found[found >= 0].tolist()
    queries.allowed[rows] = False
    return [*rows, *recommender.bundle.most_popular(queries.allowed, ask.k - len(rows)).tolist()]


def _padded(slates: Iterator[Sequence[int]], shape: tuple[int, int]) -> Slates:
    out = np.full(shape, -1, np.int32)
    for number, slate in enumerate(slates):
        out[number, : len(slate)] = slate
    return out


def report_of(contests: Sequence[Contest], *, events: int, k: int) -> StorefrontReport:
    """All storefronts' judges together, best first."""
    if not contests:
        raise ConfigError("found no seed, expected at least one")
    names = contests[0].values
    pooled = {name: np.concatenate([c.values[name] for c in contests]) for name in names}
    owner = np.repeat(np.arange(len(contests)), [len(c.is_known) for c in contests])
    known = np.concatenate([c.is_known for c in contests])
    groups = [owner == number for number in range(len(contests))]
    standings = [_standing(name, pooled, groups, known) for name in names]
    return StorefrontReport(
        events=events,
        seeds=tuple(contest.seed for contest in contests),
        shoppers=len(known),
        strangers=int((~known).sum()),
        k=k,
        standings=tuple(sorted(standings, key=lambda s: -s.utility.mean)),
    )


def _standing(
    name: str, pooled: Mapping[str, Float64Array], groups: Sequence[BoolArray], known: BoolArray
) -> Standing:
    own, oracle = pooled[name], pooled[ORACLE]
    gained, possible = own - pooled[CHANCE], oracle - pooled[CHANCE]

    def share(who: BoolArray) -> float:
        return float(gained[who].sum() / possible[who].sum()) if who.any() else float("nan")

    return Standing(
        name=name,
        utility=bootstrap(own, seed=0),
        of_oracle=float(own.sum() / oracle.sum()),
        reached=ratio_interval(gained, possible, seed=0),
        reached_by_seed=tuple(share(group) for group in groups),
        reached_known=share(known),
        reached_strangers=share(~known),
        against_funnel=bootstrap(own - pooled[FUNNEL], seed=0),
    )


def ratio_interval(top: Float64Array, bottom: Float64Array, *, seed: int) -> Interval:
    """Σ top / Σ bottom, aligned (n,), with its percentile interval over users."""
    rng = np.random.default_rng(seed)
    ratios = np.empty(N_RESAMPLES)
    for number in range(N_RESAMPLES):
        drawn = rng.integers(0, len(top), size=len(top))
        ratios[number] = top[drawn].sum() / bottom[drawn].sum()
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high))
