"""Which slates a night may learn from: those whose feature rows mean what they mean now."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from features.events import EVENT_SCHEMA, US_PER_DAY
from features.lake import Lake
from features.slates import SlateRecord
from features.store import Store
from features.views import FEATURE_NAMES, views_hash
from jobs.ranker_step import past_slates, taught_by
from recsys.releases import Releases
from tests.recsys.release_fixtures import built, manifest

T = TypeVar("T")
DAY_US = 20_000 * US_PER_DAY


class Told:
    """Progress that remembers what it said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        yield from items

    def say(self, text: str) -> None:
        self.said.append(text)


def slate(
    request_id: str, release_id: str, *, days: int = 0, placement: str = "home"
) -> SlateRecord:
    return SlateRecord(
        request_id=request_id,
        user_id="ann",
        session_id=None,
        placement=placement,
        shown_at_us=DAY_US + days * US_PER_DAY,
        release_id=release_id,
        item_ids=("a", "b"),
        propensities=np.ones(2, np.float32),
        scores=np.ones(2, np.float32),
        source_scores=np.ones((2, 6), np.float32),
        features=np.ones((2, len(FEATURE_NAMES)), np.float32),
        first_position=4,
    )


def test_slates_of_other_views_or_of_unknown_releases_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    releases, lake, progress = Releases(tmp_path / "releases"), Lake(tmp_path / "lake"), Told()
    for release_id, views in (("old", "another list"), ("now", views_hash())):
        named = manifest(release_id).model_copy(update={"feature_views_hash": views})
        releases.publish(built(releases, release_id), named)
    (releases.root / "damaged").mkdir()
    (releases.root / "damaged" / "manifest.json").write_text("{")
    shown = [
        slate("r1", "old"),
        slate("r2", "now"),
        slate("r3", "pruned"),
        slate("r4", "damaged"),
        slate("r5", "now", days=1),
        slate("r6", "now", placement="search"),
    ]
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        store.append_slates(shown)
        lake.close_exposures(store)
    events = pl.DataFrame(schema=EVENT_SCHEMA)
    shown_before = lake.scan_exposures(end_us=DAY_US + US_PER_DAY)
    past = past_slates(taught_by(shown_before, ["search"]), releases, events, progress)
    assert past.exposures.collect()["request_id"].unique().to_list() == ["r2"]
    (said,) = progress.said
    assert "3 of 4 slates are left out" in said


def test_a_shop_without_slates_has_nothing_to_say(tmp_path: Path) -> None:
    progress = Told()
    releases = Releases(tmp_path / "releases")
    events = pl.DataFrame(schema=EVENT_SCHEMA)
    shown = Lake(tmp_path / "lake").scan_exposures(end_us=DAY_US)
    past = past_slates(shown, releases, events, progress)
    assert past.exposures.collect().is_empty()
    assert progress.said == []
