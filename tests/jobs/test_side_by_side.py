import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.store import Store
from jobs.experiments.list_page import lists_of, render_preview
from jobs.experiments.outlook import Outlook
from jobs.experiments.side_by_side import (
    LENGTH,
    SideBySide,
    loader,
    newest_shoppers,
    side_by_side,
)
from jobs.experiments.watching import shown_now
from jobs.plan import Places
from recsys.experiments.experiment import Design, Metric, Plan, Variant
from recsys.experiments.lifecycle import drafted
from recsys.placements import PLACEMENT, Placement
from recsys.releases import Releases
from recsys.rules import RULE, Hide, Rule
from tests.features.rows import event, events
from tests.tiny import NOW_US, TINY_COLORS

CONTROL = Variant(key="as-is")
BY_TREND = Variant(key="by-trend", policy={"sources": {"trending": 60}, "personalisation": 0.0})


def design(*others: Variant, **changes: Any) -> Design:
    plan = Plan(goals=(Metric(name="clicks", event_type="click"),))
    return Design(
        name="wide",
        hypothesis="<b>other</b> lists",
        variants=(CONTROL, *others),
        plan=plan,
        **changes,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two fans of a colour, one of whom is known by a session alone."""
    fans = [
        event(
            f"{color}-{n}",
            user_id="ann" if color == "blue" else None,
            session_id="visit" if color != "blue" else None,
            item_id=f"{color}-{thing}",
            event_type="click",
            event_time_us=NOW_US - 1_000_000 * (10 - n),
        )
        for color in ("blue", "red")
        for n, thing in enumerate(("shirt", "hat", "sock") if color == "blue" else ("shoe",))
    ]
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        opened.append_events(events(*fans), received_at_us=NOW_US)
        yield opened


@pytest.fixture
def look(store: Store, tiny_release: tuple[Path, str]) -> Any:
    load = loader(Releases(tiny_release[0]))
    shoppers = pl.DataFrame({"user_id": ["ann", None, "bob"], "session_id": [None, "visit", None]})

    def asked(of: Design) -> SideBySide:
        return side_by_side(store, of, shoppers, load, now_us=NOW_US)

    return asked


def colours(viewer: Any, key: str) -> list[str]:
    return [item.item_id.split("-")[0] for item in viewer.lists[key]]


def test_each_variant_shows_its_own_list_to_the_same_shoppers(look: Any) -> None:
    lists = look(design(BY_TREND))
    assert [viewer.events_known for viewer in lists.viewers] == [1, 3], "bob is unknown"
    ann = lists.viewers[1]
    assert ann.latest[0] == ("click", "blue sock")
    assert colours(ann, "as-is")[:3] == ["blue"] * 3
    assert len(ann.lists["by-trend"]) == LENGTH
    assert len({*colours(ann, "by-trend")} & {*TINY_COLORS}) > 2, "popular with everybody"
    assert 0 < lists.differing(design(BY_TREND))["by-trend"] < 1
    assert look(design(BY_TREND)) == lists, "nothing is drawn"


def test_variants_that_show_the_same_are_found_out(look: Any) -> None:
    alike = design(Variant(key="same", policy={"exploration": 0.3}))
    lists = look(alike)
    assert lists.differing(alike) == {"same": 0.0}
    assert "same shows them the same items as the control" in lists_of(alike, lists).words[0]


def test_a_variant_may_be_a_release(look: Any, tiny_release: tuple[Path, str]) -> None:
    of = design(Variant(key="older", release_id=tiny_release[1]))
    assert look(of).differing(of) == {"older": 0.0}
    gone = design(Variant(key="older", release_id="2020-01-01-0123456789"))
    with pytest.raises(Exception, match="does not exist"):
        look(gone)


def test_placement_rules_and_filter_hold_here_too(look: Any, store: Store) -> None:
    rule = Rule(rule_id="no-blue", then=Hide(action="hide", where="color = 'blue'"))
    place = Placement(name="shelf", needs_context=True, filter="not color = 'red'", k=5)
    for kind, name, body in ((RULE, "no-blue", rule), (PLACEMENT, "shelf", place)):
        store.documents.put(kind, name, body.model_dump_json(), updated_at_us=1)
    lists = look(design(BY_TREND, placements=("shelf",)))
    assert lists.placement == "shelf"
    for viewer in lists.viewers:
        for key in ("as-is", "by-trend"):
            assert len(viewer.lists[key]) == 5
            assert not {"blue", "red"} & {*colours(viewer, key)}


def test_without_a_release_or_shoppers_the_reason_is_told(
    store: Store, tmp_path: Path, look: Any
) -> None:
    nobody = pl.DataFrame(schema={"user_id": pl.String, "session_id": pl.String})
    load = loader(Releases(tmp_path / "none"))
    found = side_by_side(store, design(BY_TREND), nobody, load, now_us=NOW_US)
    assert found.problem == "there is no shopper yet of whom something is known"
    assert "No lists: there is no shopper" in lists_of(design(BY_TREND), found).words[0]


def test_a_draft_is_previewed_by_who_came_lately_and_names_nobody(
    store: Store, tmp_path: Path, tiny_release: tuple[Path, str]
) -> None:
    from features.lake import Lake
    from jobs.ingest import ingest
    from recsys.progress import Silent

    places = Places(tmp_path / "lake", tiny_release[0], tmp_path / "work", tmp_path / "reports")
    ingest(store, places, NOW_US, Silent())
    experiment = drafted(design(BY_TREND), datetime.fromtimestamp(NOW_US / 1e6, UTC))
    lake = Lake(places.lake)
    lists = shown_now(store, lake, experiment, loader(Releases(places.releases)), now_us=NOW_US)
    assert len(lists.viewers) == 2
    page = render_preview(experiment, lists, Outlook(problem="nothing is known"))
    assert "&lt;b&gt;other" in page
    assert "of what by-trend shows them" in page
    assert "blue sock (click)" in page
    assert ">ann<" not in page
    assert '"ann"' not in json.dumps([viewer.latest for viewer in lists.viewers])
    empty = loader(Releases(tmp_path / "none"))
    told = shown_now(store, lake, experiment, empty, now_us=NOW_US)
    assert told.problem is not None
    assert "found no live release" in told.problem


def test_the_newest_shoppers_come_first_and_nobodys_rows_are_left_out() -> None:
    rows = pl.LazyFrame(
        {
            "user_id": ["a", "b", "a", None],
            "session_id": [None, None, None, None],
            "shown_at_us": [1, 2, 3, 4],
        },
        schema_overrides={"session_id": pl.String},
    )
    assert newest_shoppers(rows, "shown_at_us")["user_id"].to_list() == ["a", "b"]
