"""A tiny storefront whose truth is plain: every shopper loves one colour."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, US_PER_DAY, US_PER_SECOND
from features.items import ITEM_SCHEMA
from features.store import Store
from jobs.night_config import NightConfig
from jobs.nightly import NightReport, run_night
from jobs.plan import Places
from recsys.progress import Progress, Silent
from recsys.training.collaborative import CollaborativeConfig
from recsys.training.encoder.config import EncoderConfig
from recsys.training.ranker import RankerConfig
from recsys.training.recipe import RecipeConfig
from recsys.training.sequence import SequenceConfig
from tests.recsys.encoder_fixtures import COLORS, THINGS

TINY_COLORS, TINY_THINGS = COLORS[:6], THINGS
FIRST_DAY_US = 20_000 * US_PER_DAY
N_DAYS, N_SHOPPERS = 20, 120
NOW_US = FIRST_DAY_US + N_DAYS * US_PER_DAY + 3 * 3_600 * US_PER_SECOND  # cron runs at three


@dataclass(frozen=True, slots=True)
class TinyWorld:
    """A store with items and events, and where its nights read and write."""

    url: str
    places: Places
    encoder: Path

    @property
    def config(self) -> NightConfig:
        return tiny_config(self.encoder)

    def open_store(self) -> Store:
        return Store.open(self.url)

    def night(
        self,
        *,
        now_us: int = NOW_US,
        force: bool = False,
        progress: Progress | None = None,
        config: NightConfig | None = None,
    ) -> NightReport:
        with self.open_store() as store:
            return run_night(
                store,
                self.places,
                DEFAULT_EVENT_TYPES,
                config or self.config,
                now_us=now_us,
                progress=progress or Silent(),
                force=force,
            )


def make_world(folder: Path, encoder: Path, items: pl.DataFrame, events: pl.DataFrame) -> TinyWorld:
    world = world_in(folder, encoder)
    with world.open_store() as store:
        if len(items):
            store.upsert_items(items, updated_at_us=NOW_US)
        store.append_events(events, received_at_us=NOW_US)
    return world


def world_in(folder: Path, encoder: Path) -> TinyWorld:
    places = Places(folder / "lake", folder / "releases", folder / "work", folder / "reports")
    return TinyWorld(f"sqlite:///{folder / 'store.sqlite'}", places, encoder)


def tiny_config(encoder: Path) -> NightConfig:
    """Every trainer runs for real and for a moment."""
    return NightConfig(
        recipe=RecipeConfig(
            encoder=EncoderConfig(base=str(encoder), tuned_layers=0, max_tokens=16),
            collaborative=CollaborativeConfig(dim=8, epochs=5),
            sequence=SequenceConfig(dim=8, blocks=1, epochs=3, max_length=10),
            ranker=RankerConfig(hidden=(16, 8), epochs=20),
        )
    )


def tiny_items() -> pl.DataFrame:
    """60 items `red-shirt`, tagged by colour and thing; the gloves arrive on day 15."""
    rows = []
    for color in TINY_COLORS:
        for number, thing in enumerate(TINY_THINGS):
            published = FIRST_DAY_US + (15 if thing == "glove" else -30) * US_PER_DAY
            rows.append(item_row(color, thing, price=10 + 5 * number, published_at_us=published))
    return pl.DataFrame(rows, schema=ITEM_SCHEMA)


def item_row(
    color: str,
    thing: str,
    *,
    price: float = 10,
    published_at_us: int | None = None,
    item_id: str | None = None,
) -> dict[str, object]:
    return {
        "item_id": item_id or f"{color}-{thing}",
        "title": f"{color} {thing}",
        "description": "",
        "tags": [color, thing],
        "attributes": f'{{"color":"{color}","price":{price}}}',
        "available": True,
        "published_at_us": published_at_us,
    }


def tiny_events(*, first_day: int = 0, n_days: int = N_DAYS, seed: int = 0) -> pl.DataFrame:
    """About two events a shopper and day; every tenth shopper is anonymous, known by a session."""
    rng = np.random.default_rng([seed, first_day])
    rows: list[dict[str, object]] = []
    for day in range(first_day, first_day + n_days):
        for shopper in np.flatnonzero(rng.random(N_SHOPPERS) < 0.5):
            start = FIRST_DAY_US + day * US_PER_DAY + int(rng.integers(US_PER_DAY // 2))
            steps = range(int(rng.integers(2, 6)))
            times = (start + step * 40 * US_PER_SECOND for step in steps)
            rows.extend(_event_row(rng, day, int(shopper), time) for time in times)
    numbered = [{**row, "event_id": f"e{first_day}-{n:06d}"} for n, row in enumerate(rows)]
    return pl.DataFrame(numbered, schema=EVENT_SCHEMA)


def _event_row(rng: np.random.Generator, day: int, shopper: int, time_us: int) -> dict[str, object]:
    is_own = rng.random() < 0.85
    color = TINY_COLORS[shopper % 6 if is_own else rng.integers(6)]
    thing = TINY_THINGS[rng.integers(10 if day >= 15 else 9)]
    kinds = ("view", "click", "share", "purchase") if is_own else ("view", "dismiss")
    anonymous = shopper % 10 == 9
    return {
        "user_id": None if anonymous else f"shopper-{shopper}",
        "session_id": f"visit-{shopper}" if anonymous else None,
        "item_id": f"{color}-{thing}",
        "event_type": str(rng.choice(kinds)),
        "event_time_us": time_us,
        "request_id": None,
        "value": None,
    }
