"""Imports of data sets nobody here wrote, as published."""

import os
from pathlib import Path

import pytest

from features.store import Store
from tests.jobs.importing import import_into, stored_events

SHARED = Path(
    os.environ.get("RECSYS_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)


def real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is not there; set RECSYS_SHARED_DATA to the real data")
    return SHARED / name


def test_movielens_is_imported_whole(tmp_path: Path) -> None:
    reports = import_into(tmp_path, real("movielens-latest-small"))
    assert [(r.name, r.new, r.rejected) for r in reports] == [
        ("movies.csv", 9_742, 0),
        ("ratings.csv", 100_836, 0),
        ("tags.csv", 3_683, 0),
    ]


def test_one_campaign_of_open_bandit_is_imported_whole(tmp_path: Path) -> None:
    reports = import_into(tmp_path, real("open-bandit/random/men"))
    assert [(r.target, r.read, r.new) for r in reports] == [
        ("items", 34, 34),
        ("slates", 10_000, 10_000),
        ("events", 46, 46),
    ]
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        slate = store.slate("random-men-0")
    assert slate is not None
    assert slate.propensities[0] == pytest.approx(1 / 34)


def test_beauty_is_imported_whole_and_leaves_one_out(tmp_path: Path) -> None:
    items, events = import_into(tmp_path, real("beauty"))
    assert (items.new, events.new, events.rejected) == (12_101, 198_502, 0)
    stored = stored_events(tmp_path)
    last = stored.filter(stored["event_time_us"] == stored["event_time_us"].max())
    assert last["user_id"].n_unique() == last.height == 22_363
