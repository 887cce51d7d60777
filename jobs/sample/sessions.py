"""A day in the shop: who comes, what they are shown, and what they do with it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from features.errors import DataError
from features.events import US_PER_DAY, US_PER_SECOND
from jobs.sample.logging_policy import LoggingPolicy
from jobs.sample.responses import browse, event_frame, respond, sort_actions
from jobs.sample.storefront import Storefront, hashed_uniform
from jobs.sample.world import SLATE_LENGTH

ANONYMOUS = 0.15  # share of visits without a login
PLACEMENT = "home"
CHUNK = 20_000  # visits simulated at once: bounds memory at about 150 MB whatever the size


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """Sessions of one day, in order of time."""

    day: int
    numbers: Int64Array
    user_rows: Int64Array
    anonymous: BoolArray
    at_us: Int64Array
    tastes: Float32Array

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self) -> pl.DataFrame:
        """session_id, user_id (null when anonymous) and at_us."""
        numbers = pl.DataFrame(
            {"n": self.numbers, "user": self.user_rows, "anonymous": self.anonymous}
        )
        return numbers.select(
            session_id=pl.format("visit-{}-{}", pl.lit(self.day), "n"),
            user_id=pl.when(~pl.col("anonymous")).then(
                pl.format("shopper-{}", pl.col("user").cast(pl.String).str.zfill(6))
            ),
            at_us=pl.Series(self.at_us),
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """A slate that a policy gave to one visit."""

    request_id: str
    item_ids: Sequence[str]


# Takes Visits.frame() and answers every row; None leaves that visit without a slate.
SlatePolicy: TypeAlias = Callable[[pl.DataFrame], Sequence[Shown | None]]


@dataclass(frozen=True, slots=True)
class DayOfEvents:
    """`events` fit EVENT_SCHEMA; `slates` hold one row a slate with list columns."""

    events: pl.DataFrame
    slates: pl.DataFrame


def draw_visits(storefront: Storefront, day: int, start: int, stop: int, total: int) -> Visits:
    """Visits [start, stop) of a day that has `total`; busiest in the evening."""
    numbers = np.arange(start, stop, dtype=np.int64)
    x = (numbers + 0.5) / total
    clock = x + 0.12 * np.sin(2 * np.pi * x)  # monotone: the derivative stays above 0.24
    at_us = storefront.day_start_us(day) + (clock * US_PER_DAY).astype(np.int64)
    user_rows = storefront.visitors(day, numbers)
    return Visits(
        day=day,
        numbers=numbers,
        user_rows=user_rows,
        anonymous=hashed_uniform(storefront.seed, day, numbers, salt=2) < ANONYMOUS,
        at_us=at_us,
        tastes=storefront.tastes(user_rows, at_us),
    )


def logged_day(storefront: Storefront, day: int, n_visits: int) -> Iterator[DayOfEvents]:
    """The day under the logging policy, chunk by chunk; needs no other day."""
    policy = LoggingPolicy.of_day(storefront, day)
    for chunk, start in enumerate(range(0, n_visits, CHUNK)):
        rng = np.random.default_rng([storefront.seed, 1, day, chunk])
        visits = draw_visits(storefront, day, start, min(start + CHUNK, n_visits), n_visits)
        yield _logged_chunk(storefront, policy, visits, rng, f"d{day}-{chunk}")


def simulate_day(
    storefront: Storefront, policy: SlatePolicy, day: int, *, n_visits: int
) -> DayOfEvents:
    """What shoppers truly do on `day` when `policy` fills the slates, organic views included.

    The same visits come whatever the policy is, so that two policies can be compared pairwise.
    """
    visits = draw_visits(storefront, day, 0, n_visits, n_visits)
    frame = visits.frame()
    answers = policy(frame)
    if len(answers) != n_visits:
        raise DataError(
            f"found {len(answers)} slates; expected {n_visits}, one a visit; answer every row"
        )
    rng = np.random.default_rng([storefront.seed, 2, day])
    organic, _ = browse(storefront, visits.user_rows, visits.tastes, visits.at_us, rng, day)
    shown = [(v, s) for v, s in enumerate(answers) if s is not None and len(s.item_ids)]
    who = np.array([v for v, _ in shown], np.int64)
    rows = _padded_rows(storefront, [s.item_ids for _, s in shown])
    at_us = visits.at_us[who] + 30 * US_PER_SECOND
    actions = respond(storefront, visits.user_rows, visits.tastes, who, at_us, rows, rng)
    request_ids = pl.Series([s.request_id for _, s in shown], dtype=pl.String)
    events = event_frame(
        storefront,
        sort_actions([organic, actions]),
        frame,
        request_ids,
        event_prefix=f"live-{day}",
    )
    slates = frame[who].select(
        request_ids.alias("request_id"),
        "user_id",
        "session_id",
        placement=pl.lit(PLACEMENT),
        shown_at_us=pl.Series(at_us),
        item_ids=pl.Series([list(s.item_ids) for _, s in shown], dtype=pl.List(pl.String)),
        propensities=pl.lit(None, pl.List(pl.Float32)),
    )
    return DayOfEvents(events, slates)


def _logged_chunk(
    storefront: Storefront,
    policy: LoggingPolicy,
    visits: Visits,
    rng: np.random.Generator,
    label: str,
) -> DayOfEvents:
    organic, context = browse(
        storefront, visits.user_rows, visits.tastes, visits.at_us, rng, visits.day
    )
    per_visit = 1 + rng.poisson(0.8, len(visits))
    who = np.repeat(np.arange(len(visits)), per_visit)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(per_visit) - per_visit, per_visit)
    at_us = visits.at_us[who] + (30 + 75 * nth) * US_PER_SECOND
    rows, propensities = policy.slates(context[who], rng)
    actions = respond(storefront, visits.user_rows, visits.tastes, who, at_us, rows, rng)
    frame = visits.frame()
    request_ids = _numbered(f"r-{label}-", len(who))
    events = event_frame(
        storefront, sort_actions([organic, actions]), frame, request_ids, event_prefix=f"e-{label}"
    )
    slates = _slate_frame(frame[who], request_ids, at_us, rows, propensities)
    return DayOfEvents(events, slates.sort("shown_at_us", "request_id"))


def _slate_frame(
    visitors: pl.DataFrame,
    request_ids: pl.Series,
    at_us: Int64Array,
    rows: Int32Array,
    propensities: Float64Array,
) -> pl.DataFrame:
    names = pl.Series(rows.ravel()).cast(pl.String).str.zfill(6)
    return visitors.select(
        request_ids.alias("request_id"),
        "user_id",
        "session_id",
        placement=pl.lit(PLACEMENT),
        shown_at_us=pl.Series(at_us),
        item_ids=("sku-" + names).reshape((-1, SLATE_LENGTH)).cast(pl.List(pl.String)),
        propensities=pl.Series(propensities.astype(np.float32)).cast(pl.List(pl.Float32)),
    )


def _numbered(prefix: str, n: int) -> pl.Series:
    return prefix + pl.int_range(n, eager=True).cast(pl.String)


def _padded_rows(storefront: Storefront, slates: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    """(n, longest) item rows, -1 after the end of a short slate."""
    longest = max((len(s) for s in slates), default=0)
    rows = np.full((len(slates), longest), -1, np.int64)
    for number, item_ids in enumerate(slates):
        rows[number, : len(item_ids)] = storefront.item_rows(item_ids)
    return rows
