"""An experiment whose truth is known: what each shopper would do under either of two rankings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrays import BoolArray, Float64Array, Int64Array
from features.events import US_PER_DAY, US_PER_SECOND
from jobs.sample.responses import respond
from jobs.sample.sessions import CHUNK, PLACEMENT, draw_visits
from jobs.sample.storefront import Storefront
from jobs.sample.world import SLATE_LENGTH
from recsys.progress import Progress

BEFORE_DAYS = 14  # that explain, as a metric's cuped_days
_CANDIDATES = 40  # the most popular items; either ranking orders these
_CLICK = 1  # of jobs.sample.storefront.ACTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Everybody who comes in `n_days`, one row each; both futures are drawn, one is ever seen.

    Rankings differ in how much of a shopper's true taste they know, so effects differ by shopper.
    """

    n_days: int
    start_us: int
    user_rows: Int64Array  # (n,) of the storefront
    before: Float64Array  # (n,) clicks in the BEFORE_DAYS days
    slates: Float64Array  # (n, n_days)
    clicks: tuple[Float64Array, Float64Array]  # (n, n_days) under the control, the treatment

    def __len__(self) -> int:
        return len(self.user_rows)

    @property
    def first_day(self) -> Int64Array:
        """(n,) when each comes first."""
        return np.asarray(np.argmax(self.slates > 0, axis=1), np.int64)

    def totals(self, arm: int, until_day: int | None = None) -> Float64Array:
        """(n,) clicks up to that day."""
        return np.asarray(self.clicks[arm][:, :until_day].sum(axis=1))

    @property
    def true_difference(self) -> float:
        """Clicks a shopper that the treatment adds, of all who come."""
        return float(self.totals(1).mean() - self.totals(0).mean())

    @property
    def true_lift(self) -> float:
        return self.true_difference / float(self.totals(0).mean())


def draw_population(
    storefront: Storefront,
    visits_a_day: int,
    *,
    n_days: int = 30,
    knowledge: tuple[float, float] = (0.0, 0.1),
    progress: Progress | None = None,
) -> Population:
    """`knowledge` is how much of the true taste each ranking adds to popularity; equal: A/A.

    The same visits come under both; each has one slate of SLATE_LENGTH items.
    """
    n = len(storefront.shoppers)
    clicks = [np.zeros((n, BEFORE_DAYS + n_days)) for _ in knowledge]
    slates = np.zeros((n, BEFORE_DAYS + n_days))
    for day in range(BEFORE_DAYS + n_days):
        for arm, known in enumerate(knowledge if day >= BEFORE_DAYS else knowledge[:1]):
            for who, found in _day(storefront, day, visits_a_day, arm, known):
                clicks[arm][:, day] += np.bincount(who[found], minlength=n)
                slates[:, day] += np.bincount(who, minlength=n) if arm == 0 else 0
        if progress is not None and day % 10 == 0:
            progress.say(f"day {day + 1} of {BEFORE_DAYS + n_days}")
    comes = slates[:, BEFORE_DAYS:].any(axis=1)
    return Population(
        n_days=n_days,
        start_us=storefront.day_start_us(BEFORE_DAYS),
        user_rows=np.flatnonzero(comes),
        before=clicks[0][comes, :BEFORE_DAYS].sum(axis=1),
        slates=slates[comes, BEFORE_DAYS:],
        clicks=(clicks[0][comes, BEFORE_DAYS:], clicks[1][comes, BEFORE_DAYS:]),
    )


def _day(
    storefront: Storefront, day: int, n_visits: int, arm: int, known: float
) -> Iterator[tuple[Int64Array, Int64Array]]:
    """For each chunk of visits who came, and the visits of its clicks."""
    catalogue = storefront.catalogue
    on_shelf = catalogue.n_arrived(storefront.day_start_us(day))
    quality = catalogue.quality[:on_shelf]
    popular = np.argsort(-quality, kind="stable")[:_CANDIDATES]
    for chunk, start in enumerate(range(0, n_visits, CHUNK)):
        rng = np.random.default_rng([storefront.seed, 3, arm, day, chunk])
        visits = draw_visits(storefront, day, start, min(start + CHUNK, n_visits), n_visits)
        shape = (len(visits), len(popular))
        scores = np.broadcast_to(quality[popular], shape)
        if known:
            items = np.broadcast_to(popular, shape)
            scores = scores + known * storefront.utilities(visits.tastes, visits.user_rows, items)
        rows = popular[np.argsort(-scores, axis=1, kind="stable")[:, :SLATE_LENGTH]]
        actions = respond(
            storefront,
            visits.user_rows,
            visits.tastes,
            np.arange(len(visits)),
            visits.at_us,
            rows,
            rng,
        )
        found = [part.visit[part.action == _CLICK] for part in actions]
        yield visits.user_rows, np.concatenate(found)


def frames(
    population: Population, treated: BoolArray, *, experiment: str, variants: tuple[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The lake's assignments and events if these (n,) units had been `treated`, the others not.

    A day's slates are shown at its noon and clicked a minute later; what came before is one click
    a unit and click in the week before its first slate.
    """
    user_ids = np.char.add("u", population.user_rows.astype(str))
    seen = np.where(treated[:, None], population.clicks[1], population.clicks[0])
    unit, day = np.nonzero(population.slates)
    times = np.repeat(np.arange(len(unit)), population.slates[unit, day].astype(np.int64))
    unit, day = unit[times], day[times]
    noon = population.start_us + day * US_PER_DAY + US_PER_DAY // 2
    dealt = np.array(variants)[treated[unit].astype(np.int64)]
    shown = pl.DataFrame({"unit_id": user_ids[unit], "variant": dealt, "shown_at_us": noon})
    assignments = shown.select(
        pl.format("r{}", pl.int_range(pl.len())).alias("request_id"),
        pl.lit(experiment).alias("experiment"),
        pl.lit(1, pl.Int32).alias("phase"),
        "variant",
        pl.lit("hash").alias("how"),
        "unit_id",
        pl.col("unit_id").alias("user_id"),
        pl.lit(None, pl.String).alias("session_id"),
        pl.lit(PLACEMENT).alias("placement"),
        "shown_at_us",
        pl.lit(SLATE_LENGTH, pl.Int32).alias("n_items"),
        pl.lit(None, pl.String).alias("teams"),
    )
    return assignments, _events(population, user_ids, seen)


def _events(
    population: Population, user_ids: npt.NDArray[np.str_], seen: Float64Array
) -> pl.DataFrame:
    unit, day = np.nonzero(seen)
    times = np.repeat(np.arange(len(unit)), seen[unit, day].astype(np.int64))
    at_us = population.start_us + day[times] * US_PER_DAY + US_PER_DAY // 2 + 60 * US_PER_SECOND
    past = np.repeat(np.arange(len(population)), population.before.astype(np.int64))
    past_us = population.start_us + (population.first_day[past] - 5) * US_PER_DAY
    who, when = np.concatenate([unit[times], past]), np.concatenate([at_us, past_us])
    return pl.DataFrame({"user_id": user_ids[who], "event_time_us": when}).select(
        pl.format("e{}", pl.int_range(pl.len())).alias("event_id"),
        "user_id",
        pl.lit(None, pl.String).alias("session_id"),
        pl.lit("sku-000000").alias("item_id"),
        pl.lit("click").alias("event_type"),
        "event_time_us",
        pl.lit(None, pl.String).alias("request_id"),
        pl.lit(None, pl.Float64).alias("value"),
    )
