"""A shop with a store, releases and a server, all in a temporary folder."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.day import Day
from api.live import Load
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.items import ITEM_SCHEMA
from features.store import Store
from jobs.plan import Places
from recsys.releases import Manifest, Releases
from recsys.settings import Settings
from tests.api.fake_recommender import load_fake
from tests.tiny import NOW_US, TinyWorld, tiny_events

POLL_S = 0.05


def item(item_id: str, **values: object) -> dict[str, object]:
    defaults = {
        "title": f"Title of {item_id}",
        "description": "",
        "tags": ["lamp"],
        "attributes": '{"price":10.0}',
        "available": True,
        "published_at_us": None,
    }
    return {"item_id": item_id, **defaults, **values}


def items(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ITEM_SCHEMA)


def until(happened: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for a watch of the server to notice."""
    end_s = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)


@dataclass
class Shop:
    """The folder of a storefront, with the night's side of it for the tests to play."""

    settings: Settings
    releases: Releases
    store: Store

    def publish(
        self, release_id: str, item_ids: Sequence[str] | None = None, *, answers: bool = True
    ) -> None:
        """What a night does; without `item_ids` the catalogue is what the store holds."""
        change = self.store.items_changed_after(0)[0]
        rows = self.store.items() if item_ids is None else items(*map(item, item_ids))
        draft = self.releases.draft(release_id)
        rows.write_parquet(draft / "items.parquet")
        (draft / "facts.json").write_text(json.dumps({"answers": answers}))
        self.releases.publish(draft, manifest(release_id, change))

    def app(self, load: Load = load_fake) -> FastAPI:
        return create_app(self.settings, load=load)


def manifest(release_id: str, change: int) -> Manifest:
    return Manifest(
        release_id=release_id,
        created_at_us=time.time_ns() // 1_000,
        data_start_us=0,
        data_end_us=1,
        catalogue_change=change,
        feature_views_hash="",
        event_types=DEFAULT_EVENT_TYPES,
    )


@contextmanager
def open_shop(tmp_path: Path) -> Iterator[Shop]:
    """A store of the items i00 … i19, and no release yet."""
    settings = Settings(data_dir=tmp_path, poll_interval_s=POLL_S)
    with Store.open(settings.database_url) as store:
        store.upsert_items(items(*(item(f"i{n:02}") for n in range(20))), updated_at_us=1)
        yield Shop(settings, Releases(settings.releases_dir), store)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path) as opened:
        yield opened


class Client(TestClient):
    """Speaks to the server as a storefront does; `day` looks behind the counter."""

    @property
    def day(self) -> Day:
        app = self.app
        assert isinstance(app, FastAPI)
        found = app.state.day
        assert isinstance(found, Day)
        return found

    def recommend(self, **body: object) -> dict[str, Any]:
        answer = self.post("/v1/recommend", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def shown(self, **body: object) -> list[str]:
        return [entry["item_id"] for entry in self.recommend(**body)["items"]]

    def tell(self, *events: object) -> dict[str, Any]:
        answer = self.post("/v1/events", json={"events": events})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def serves(self, release_id: str) -> bool:
        serving = self.day.live.serving
        return serving is not None and serving.recommender.release_id == release_id


@contextmanager
def open_client(shop: Shop) -> Iterator[Client]:
    """A server with the release `r1` of the store's items in place."""
    shop.publish("r1")
    with Client(shop.app()) as opened:
        until(lambda: opened.serves("r1"))
        yield opened


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with open_client(shop) as opened:
        yield opened


@pytest.fixture
def early_client(shop: Shop) -> Iterator[Client]:
    """A server before the first night."""
    with Client(shop.app()) as opened:
        yield opened


def event(event_id: str, **values: object) -> dict[str, object]:
    return {
        "event_id": event_id,
        "user_id": "u1",
        "item_id": "i00",
        "event_type": "click",
        **values,
    }


@pytest.fixture(scope="session")
def two_nights(
    tiny_world: TinyWorld, tiny_release: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """A data folder with the releases of two nights, the second one live."""
    folder = tmp_path_factory.mktemp("nights")
    _copy_world(tiny_world, folder)
    world = TinyWorld(
        Settings(data_dir=folder).database_url,
        Places(folder / "lake", folder / "releases", folder / "work", folder / "reports"),
        tiny_world.encoder,
    )
    with world.open_store() as store:
        newer = tiny_events(first_day=20, n_days=2)
        store.append_events(newer, received_at_us=NOW_US + 2 * US_PER_DAY)
    report = world.night(now_us=NOW_US + 2 * US_PER_DAY, force=True)
    assert report.release_id is not None
    return folder, tiny_release[1], report.release_id


def _copy_world(world: TinyWorld, folder: Path) -> None:
    with world.open_store():  # its last user writes the WAL back
        pass
    source = world.places.releases.parent
    shutil.copy2(source / "store.sqlite", folder / "store.sqlite")
    for name in ("lake", "releases", "work"):
        shutil.copytree(source / name, folder / name)


@pytest.fixture
def real_settings(two_nights: tuple[Path, str, str], tmp_path: Path) -> Settings:
    """A copy of the folder, for one test to change."""
    folder = tmp_path / "data"
    shutil.copytree(two_nights[0], folder, ignore=shutil.ignore_patterns("work", "lake"))
    return Settings(data_dir=folder, poll_interval_s=POLL_S)


@pytest.fixture
def first(two_nights: tuple[Path, str, str]) -> str:
    return two_nights[1]


@pytest.fixture
def second(two_nights: tuple[Path, str, str]) -> str:
    return two_nights[2]
