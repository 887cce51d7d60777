"""Data that no one here wrote, through the same commands a storefront uses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from api.app import create_app
from features.store import Store
from jobs.benchmark import read_items, read_sequences, run_benchmark
from jobs.importing import ImportOptions, PartReport
from jobs.importing.importer import Importer
from jobs.night_config import NightConfig
from jobs.nightly import run_night
from jobs.plan import Places
from recsys.progress import Silent
from recsys.settings import Settings
from recsys.training.recipe import RecipeConfig
from tests.api.conftest import Client, event, until
from tests.jobs.test_real_data import real
from tests.story.small_shop import quick_config

NOW_US = 1_700_000_000_000_000  # after the last event of every set
TOY_STORY, TOY_STORY_2 = "1", "3114"
KNOWN = "414"  # MovieLens' busiest user
USERS = 1_000  # of Beauty's 22,363: enough that a ranker below its best source would show


def hasty_recipe() -> RecipeConfig:
    """Ten thousand items: half the words of each, a third of the epochs of a small shop."""
    quick = quick_config().recipe
    return replace(
        quick,
        encoder=replace(quick.encoder, max_tokens=12),
        sequence=replace(quick.sequence, epochs=2, warm_epochs=1),
    )


def imported(settings: Settings, path: Path) -> list[PartReport]:
    with Store.open(settings.database_url) as store:
        importer = Importer(
            store=store,
            rejects_dir=settings.rejects_dir,
            event_types=settings.event_types(),
            now_us=NOW_US,
        )
        return importer.import_path(path, ImportOptions(), Silent())


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of MovieLens, after one night."""
    source = real("movielens-latest-small")
    settings = Settings(data_dir=tmp_path_factory.mktemp("movies"), poll_interval_s=0.05)
    imported(settings, source)
    with Store.open(settings.database_url) as store:
        report = run_night(
            store,
            Places.of(settings),
            settings.event_types(),
            NightConfig(recipe=hasty_recipe()),
            now_us=NOW_US,
            progress=Silent(),
        )
    assert report.published, report.reason
    with Client(create_app(settings)) as client:
        until(lambda: client.serves(str(report.release_id)), within_s=60)
        yield client


def test_importing_a_second_time_changes_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    for source in (real("movielens-latest-small"), real("open-bandit/bts/all")):
        first, second = imported(settings, source), imported(settings, source)
        assert [report.rejected for report in first] == [0] * len(first)
        assert all(report.new > 0 for report in first)
        assert [(r.new, r.known) for r in second] == [(0, r.new + r.known) for r in first]


def test_a_known_user_is_not_a_stranger_and_sees_nothing_twice(movies: Client) -> None:
    known = movies.shown(user_id=KNOWN, k=50)
    stranger = movies.shown(user_id="nobody", k=50)
    assert len({*known}) == len({*stranger}) == 50
    assert len({*known} & {*stranger}) < 35  # how many depends on the processor's arithmetic too
    recent = movies.day.store.recent_events(
        user_id=KNOWN, session_id=None, before_us=NOW_US, limit=200
    )
    assert not {*known} & {*recent.item_ids}


def test_movies_like_toy_story_are_for_children_or_from_its_makers(movies: Client) -> None:
    answer = movies.recommend(placement="similar", context_item_ids=[TOY_STORY])["items"]
    assert TOY_STORY_2 in [entry["item_id"] for entry in answer]
    assert sum(bool({"Children", "Animation"} & genres(movies, e)) for e in answer) >= 5


def test_a_movie_is_found_by_its_words(movies: Client) -> None:
    assert {TOY_STORY, TOY_STORY_2} <= {*movies.shown(query="toy story", k=5)}


def test_three_horror_movies_make_a_horror_fan(movies: Client) -> None:
    seen = ("1258", "1219", "1387")  # The Shining, Psycho, Jaws
    events = [event(i, user_id="fan", item_id=i, event_type="like") for i in seen]
    assert movies.tell(*events)["missing_ids"] == []
    shares = [
        sum(bool({"Horror", "Thriller"} & genres(movies, e)) for e in answer["items"])
        for answer in (movies.recommend(user_id="fan", k=20), movies.recommend(k=20))
    ]
    assert shares[0] > shares[1]


def genres(movies: Client, entry: dict[str, object]) -> set[str]:
    return {*movies.get(f"/v1/items/{entry['item_id']}").json()["tags"]}


def test_the_ranker_is_no_worse_than_its_best_source_on_some_of_beauty() -> None:
    folder = real("beauty")
    sequences = read_sequences(folder / "sequences.csv.gz")
    some = sequences["user_id"].unique(maintain_order=True).sort().head(USERS)
    sequences = sequences.filter(pl.col("user_id").is_in(some.implode()))
    items = read_items(folder / "items.jsonl.gz")
    items = items.filter(pl.col("item_id").is_in(sequences["item_id"].implode()))
    report = run_benchmark(
        items,
        sequences,
        dataset="beauty",
        config=hasty_recipe(),
        seed=0,
        refit=False,
        progress=Silent(),
    )
    assert report.users == USERS
    best = max(scores["N@10"] for scores in report.sources.values())
    assert report.ranker["N@10"] >= best - 0.003
