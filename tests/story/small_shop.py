"""A small sample storefront whose days are lived through the server, and the truth about them."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl

from api.app import create_app
from api.bodies_told import MAX_EVENTS
from features.arrays import Float64Array
from features.events import US_PER_DAY
from features.store import Store
from jobs.importing import ImportOptions
from jobs.importing.importer import Importer
from jobs.night_config import NightConfig
from jobs.nightly import NightReport, run_night
from jobs.plan import Places
from jobs.sample import Shown, Size, Storefront, simulate_day, write_sample
from jobs.sample.storefront import examination
from recsys.progress import Silent
from recsys.settings import Settings
from recsys.training.collaborative import CollaborativeConfig
from recsys.training.encoder.config import EncoderConfig
from recsys.training.ranker import RankerConfig
from recsys.training.recipe import RecipeConfig
from recsys.training.sequence import SequenceConfig
from tests.api.conftest import Client, until

K = 8

# Shopper → the items of a slate.
Slates = Mapping[str, Sequence[str]]


def quick_config() -> NightConfig:
    """Every trainer works in earnest on a few thousand events; the encoder stays as it came."""
    return NightConfig(
        recipe=RecipeConfig(
            encoder=EncoderConfig(tuned_layers=0, max_tokens=24),
            collaborative=CollaborativeConfig(dim=16, epochs=10),
            sequence=SequenceConfig(dim=32, blocks=1, epochs=6, max_length=20),
            ranker=RankerConfig(hidden=(32, 16), epochs=15),
        )
    )


@dataclass(slots=True)
class Clock:
    """What time it is in the shop when somebody asks it for a slate."""

    now_us: int = 0

    def __call__(self) -> int:
        return self.now_us


@dataclass(frozen=True, slots=True)
class SmallShop:
    """A storefront of the sample in the recent past: days after its log can still be lived."""

    truth: Storefront
    settings: Settings
    n_logged_slates: int
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def opened(cls, folder: Path, seed: int, size: Size, *, days_to_live: int) -> "SmallShop":
        today = int(time.time() * 1e6) // US_PER_DAY
        # a day apart from now: what ends a visit of the last evening is past too
        truth = Storefront(seed, size, first_day=today - size.n_days - days_to_live - 1)
        settings = Settings(data_dir=folder / "data", poll_interval_s=0.05)
        write_sample(truth, folder / "sample", Silent())
        with Store.open(settings.database_url) as store:
            importer = Importer(
                store=store,
                rejects_dir=settings.rejects_dir,
                event_types=settings.event_types(),
                now_us=truth.day_start_us(size.n_days),
            )
            reports = importer.import_path(folder / "sample", ImportOptions(), Silent())
            n_slates = store.counts()["slates"]
        assert all(report.rejected == 0 for report in reports)
        return cls(truth, settings, n_slates)

    def morning_us(self, day: int) -> int:
        return self.truth.day_start_us(day)

    def night(self, *, before_day: int) -> NightReport:
        places = Places.of(self.settings)
        with Store.open(self.settings.database_url) as store:
            return run_night(
                store,
                places,
                self.settings.event_types(),
                quick_config(),
                now_us=self.morning_us(before_day),
                progress=Silent(),
            )

    @contextmanager
    def server(self) -> Iterator[Client]:
        asked_now = patch("api.recommend.now_us", self.clock)
        with asked_now, Client(create_app(self.settings)) as client:
            until(lambda: client.day.live.serving is not None, within_s=30)
            yield client

    def counts(self) -> dict[str, int]:
        with Store.open(self.settings.database_url) as store:
            return store.counts()

    def stored_events(self) -> pl.DataFrame:
        with Store.open(self.settings.database_url) as store:
            return pl.concat(store.events_after(0))


def live_a_day(
    shop: SmallShop, client: Client, day: int, n_visits: int, exploration: float
) -> pl.DataFrame:
    """Every visit of a day is given a slate by the server and answers it; the events are told."""

    def answers(visits: pl.DataFrame) -> list[Shown]:
        shown = []
        for session_id, user_id, shop.clock.now_us in visits.iter_rows():
            shown.append(_shown(client, user_id, session_id, exploration))
        return shown

    events = simulate_day(shop.truth, answers, day, n_visits=n_visits).events
    times = pl.from_epoch("event_time_us", time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    sent = events.with_columns(event_time=times).drop("event_time_us")
    for batch in sent.iter_slices(MAX_EVENTS):
        verdicts = client.tell(*batch.to_dicts())
        assert verdicts["accepted"] == len(batch), verdicts
    return events


def _shown(client: Client, user_id: str | None, session_id: str, exploration: float) -> Shown:
    answer = client.recommend(
        user_id=user_id, session_id=session_id, k=K, policy={"exploration": exploration}
    )
    return Shown(answer["request_id"], [entry["item_id"] for entry in answer["items"]])


def slates_for(
    shop: SmallShop, client: Client, shoppers: Sequence[str], at_us: int
) -> dict[str, list[str]]:
    shop.clock.now_us = at_us
    return {
        shopper: client.shown(user_id=shopper, k=K, policy={"exploration": 0})
        for shopper in shoppers
    }


def true_values(truth: Storefront, slates: Slates, at_us: int) -> Float64Array:
    """(n,) what each shopper's slate is really worth: each position's utility, if looked at."""
    looked = examination(np.arange(K))
    return np.array(
        [
            truth.expected_utility(shopper, items, at_us) @ looked[: len(items)]
            for shopper, items in slates.items()
        ]
    )


def popular_unseen(events: pl.DataFrame, shoppers: Sequence[str]) -> dict[str, list[str]]:
    """What most people did something with, without what the shopper did."""
    counts = events.group_by("item_id").len().sort("len", "item_id", descending=True)
    return _unseen(events, dict.fromkeys(shoppers, counts["item_id"]))


def best_unseen(
    truth: Storefront, events: pl.DataFrame, shoppers: Sequence[str], at_us: int
) -> dict[str, list[str]]:
    """What somebody who knew the truth would show."""
    n_items = len(truth.catalogue)
    return _unseen(events, {s: truth.best_items(s, at_us, n_items) for s in shoppers})


def _unseen(events: pl.DataFrame, orders: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    by_user = events.drop_nulls("user_id").group_by("user_id").agg(pl.col("item_id").unique())
    seen = {user: set(items) for user, items in by_user.iter_rows()}
    return {shopper: _first(order, seen.get(shopper, set())) for shopper, order in orders.items()}


def _first(order: Iterable[str], seen: set[str]) -> list[str]:
    return list(islice((item_id for item_id in order if item_id not in seen), K))
