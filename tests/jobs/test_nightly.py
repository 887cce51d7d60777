"""Nights of the tiny storefront: whole, repeated, interrupted; and of shops with very little."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import pytest

from features.errors import DataError
from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, US_PER_SECOND
from features.interactions import shopper_id
from features.items import ITEM_SCHEMA
from recsys.recommender import Recommender
from recsys.releases import Releases
from recsys.types import Ask
from tests.tiny import (
    FIRST_DAY_US,
    NOW_US,
    TinyWorld,
    item_row,
    make_world,
    tiny_events,
    tiny_items,
)

KILLED_NIGHT = """
import os, signal, sys
from pathlib import Path
from recsys.progress import Silent
from tests.tiny import world_in

class Deadly(Silent):
    def say(self, text):
        if text.startswith("counting"):
            os.kill(os.getpid(), signal.SIGKILL)

world_in(Path(sys.argv[1]), Path(sys.argv[2])).night(progress=Deadly())
"""
STEPS = ("encoder", "text", "audit", "past", "ranker", "recent", "serving")
T = TypeVar("T")


class StumbledError(RuntimeError):
    pass


class Stumbling:
    """Progress that ends the night at its first sign of life within a step."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._armed = False

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        for item in items:
            if self._armed:
                raise StumbledError(label)
            yield item

    def say(self, text: str) -> None:
        if self._armed:
            raise StumbledError(text)
        self._armed = text == f"{self._step}: working"


def served(world: TinyWorld) -> Recommender:
    releases = Releases(world.places.releases)
    release_id = releases.current()
    assert release_id is not None
    releases.verify(release_id)
    return Recommender.load(releases.path(release_id), release_id=release_id)


def answer(recommender: Recommender, k: int = 5) -> tuple[str, ...]:
    return recommender.recommend(Ask(request_id="r", now_us=NOW_US, k=k)).item_ids


def test_a_night_without_news_skips_every_step_and_publishes_nothing(
    tiny_world: TinyWorld, tiny_release: tuple[Path, str]
) -> None:
    for now_us in (NOW_US, NOW_US + 3_600 * US_PER_SECOND):
        report = tiny_world.night(now_us=now_us)
        assert not report.published
        assert report.skipped_steps == STEPS
    assert Releases(tiny_release[0]).list() == (tiny_release[1],)


def test_a_night_replaces_what_was_killed_at_its_pointer_or_damaged_but_not_what_was_rolled_back(
    tiny_world: TinyWorld, tiny_release: tuple[Path, str], tmp_path: Path
) -> None:
    root, release_id = tiny_release
    shutil.copytree(root, tmp_path / "releases")
    world = replace(tiny_world, places=replace(tiny_world.places, releases=tmp_path / "releases"))
    releases = Releases(world.places.releases)
    (releases.root / "CURRENT").unlink()  # killed after the folder got its name
    assert world.night().published
    assert releases.current() == release_id

    damaged = releases.root / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    (releases.root / "CURRENT").write_text(f"damaged\n{release_id}\n")
    assert "was rolled back" in world.night().reason
    assert world.night(force=True).published
    assert releases.current() == release_id


def test_the_manifest_says_what_the_release_was_made_of(tiny_release: tuple[Path, str]) -> None:
    root, release_id = tiny_release
    manifest = Releases(root).verify(release_id)
    assert manifest.data_end_us == FIRST_DAY_US + 20 * 86_400 * US_PER_SECOND
    assert manifest.event_types == DEFAULT_EVENT_TYPES
    assert set(manifest.steps) == {"encoder", "text", "ranker", "serving"}


def test_a_night_that_fails_or_is_killed_in_any_step_publishes_nothing_and_is_resumed(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    world = make_world(tmp_path, tiny_text_encoder, tiny_items(), tiny_events(n_days=12))
    releases = Releases(world.places.releases)
    for step in STEPS:
        with pytest.raises(StumbledError):
            world.night(progress=Stumbling(step))
        assert releases.current() is None
        if step == "audit":  # the next one is killed outright, in the step after it
            night = [sys.executable, "-c", KILLED_NIGHT, str(tmp_path), str(tiny_text_encoder)]
            assert subprocess.run(night).returncode == -signal.SIGKILL
            assert releases.current() is None
    report = world.night()
    assert report.published
    assert report.skipped_steps == STEPS[:-1]  # what was finished before each fall was kept
    assert len(answer(served(world))) == 5
    leftovers = [path.name for path in world.places.work.iterdir() if path.name.startswith(".")]
    assert leftovers == []


def test_a_shop_of_one_item_without_tags_or_events_is_served_and_grows(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    bare = {**item_row("red", "shirt"), "tags": []}
    items = pl.DataFrame([bare], schema=ITEM_SCHEMA)
    world = make_world(tmp_path, tiny_text_encoder, items, pl.DataFrame(schema=EVENT_SCHEMA))
    assert world.night(now_us=FIRST_DAY_US).published
    assert answer(served(world)) == ("red-shirt",)

    with world.open_store() as store:  # the shop's first weeks
        store.upsert_items(tiny_items(), updated_at_us=NOW_US)
        store.append_events(tiny_events(n_days=12), received_at_us=NOW_US)
    report = world.night()
    assert report.published, report.reason
    assert len(answer(served(world))) == 5


def test_a_shop_whose_first_day_of_events_is_its_only_one_is_served(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    world = make_world(tmp_path, tiny_text_encoder, tiny_items(), tiny_events(n_days=1))
    report = world.night()
    assert report.published, report.reason
    assert len(answer(served(world))) == 5


def test_one_shopper_with_a_hundred_thousand_events_is_served(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    n, items = 100_000, tiny_items()
    rng = np.random.default_rng(0)
    events = pl.DataFrame(
        {
            "event_id": [f"e{number:06d}" for number in range(n)],
            "user_id": ["ann"] * n,
            "session_id": pl.Series([None] * n, dtype=pl.String),
            "item_id": items["item_id"].gather(rng.integers(0, 40, n)),
            "event_type": rng.choice(["view", "click"], n),
            "event_time_us": FIRST_DAY_US + np.arange(n) * 15 * US_PER_SECOND,
            "request_id": pl.Series([None] * n, dtype=pl.String),
            "value": pl.Series([None] * n, dtype=pl.Float64),
        },
        schema=EVENT_SCHEMA,
    )
    world = make_world(tmp_path, tiny_text_encoder, items, events)
    assert world.night().published
    recommender = served(world)
    with world.open_store() as store:
        recent = store.recent_events(user_id="ann", session_id=None, before_us=NOW_US, limit=200)
    ask = Ask(request_id="r", now_us=NOW_US, k=5, user_id="ann", recent=recent)
    found = recommender.recommend(ask)
    assert len(found.item_ids) == 5
    assert not set(found.item_ids) & set(recent.item_ids)


def test_a_night_over_an_empty_catalogue_says_what_to_do(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    nothing = pl.DataFrame(schema=ITEM_SCHEMA)
    world = make_world(tmp_path, tiny_text_encoder, nothing, tiny_events(n_days=1))
    with pytest.raises(DataError, match="import items"):
        world.night()
    assert Releases(world.places.releases).current() is None


def test_a_night_knows_a_session_by_its_user_and_nobody_who_was_erased(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    world = make_world(tmp_path, tiny_text_encoder, tiny_items(), tiny_events(n_days=12))

    def learned() -> set[str | None]:
        names = served(world).shoppers()
        asked = (("shopper-1", None), ("shopper-0", None), (None, "visit-9"), (None, "visit-19"))
        return {shopper_id(*who) for who in asked} & set(names)

    assert world.night().published
    first = {shopper_id("shopper-1", None), shopper_id("shopper-0", None)}
    assert learned() == first | {shopper_id(None, "visit-9"), shopper_id(None, "visit-19")}
    with world.open_store() as store:
        store.people.link("visit-9", "shopper-1", linked_at_us=NOW_US)  # known at last
        store.people.link("visit-19", "shopper-0", linked_at_us=NOW_US)
        erasure = store.people.erase("shopper-0", requested_at_us=NOW_US)
    assert world.night(force=True).published
    assert learned() == {shopper_id("shopper-1", None)}
    with world.open_store() as store:
        receipt = store.people.erasure(erasure.receipt_id)
        assert receipt is not None
        assert receipt.completed_at_us == NOW_US
        assert receipt.lake_rows == erasure.counts["events"]
