import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features import lake as lake_module
from features.errors import DataError
from features.events import EVENT_SCHEMA, US_PER_DAY
from features.lake import ClosedDays, Lake
from features.slates import EXPOSURE_SCHEMA, Assignment
from features.store import STORED_EVENT_SCHEMA, Store
from tests.features.rows import NOON_US, event, events, open_store, slate


def parts(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def add(store: Store, *rows: tuple[str, int]) -> None:
    """Events by (event_id, days after the first)."""
    made = (event(name, event_time_us=NOON_US + day * US_PER_DAY) for name, day in rows)
    store.append_events(events(*made), received_at_us=1)


def assert_lake_equals_store(lake: Lake, store: Store) -> None:
    in_store = pl.concat([pl.DataFrame(schema=STORED_EVENT_SCHEMA), *store.events_after(0)])
    in_lake = lake.scan_events().collect().sort("event_id")
    assert_frame_equal(in_lake, in_store.select(*EVENT_SCHEMA).sort("event_id"))


def test_events_land_in_the_folder_of_their_day(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, ("a", 0), ("b", 1), ("c", 0))
    assert lake.close_events(store) == ClosedDays(3, ("2023-11-15", "2023-11-16"), 3)
    assert parts(lake.root) == [
        "events/day=2023-11-15/part-000000000001-000000000003.parquet",
        "events/day=2023-11-16/part-000000000002-000000000002.parquet",
    ]
    assert_lake_equals_store(lake, store)


def test_a_late_event_makes_another_part_in_its_day(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, ("a", 0), ("b", 1))
    lake.close_events(store)
    add(store, ("late", 0))
    assert lake.close_events(store).days == ("2023-11-15",)
    assert len(list((lake.root / "events" / "day=2023-11-15").iterdir())) == 2
    assert_lake_equals_store(lake, store)


def test_closing_with_nothing_new_changes_nothing(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.close_events(store) == ClosedDays(0, (), 0)
    assert lake.scan_events().collect().schema == pl.Schema(EVENT_SCHEMA)
    add(store, ("a", 0))
    empty = lake.digest()
    lake.close_events(store)
    full = lake.digest()
    assert full != empty
    assert lake.close_events(store).rows == 0
    assert lake.digest() == full


def test_a_digest_up_to_a_day_ignores_later_days(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, ("a", 0))
    lake.close_events(store)
    next_day_us = (NOON_US // US_PER_DAY + 1) * US_PER_DAY
    before = lake.digest(end_us=next_day_us)
    add(store, ("b", 1))
    lake.close_events(store)
    assert lake.digest(end_us=next_day_us) == before
    assert lake.digest() != before


def test_a_scan_is_cut_at_its_half_open_interval(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, *((name, day) for day, name in enumerate("abcd")))
    lake.close_events(store)
    start, end = NOON_US + US_PER_DAY, NOON_US + 3 * US_PER_DAY
    found = lake.scan_events(start_us=start, end_us=end).collect()
    assert found["event_id"].to_list() == ["b", "c"]


class Killed(BaseException):
    """Stands for the process ending here."""


@pytest.mark.parametrize("writes_before_the_end", range(4))
def test_a_killed_closing_repeats_cleanly(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes_before_the_end: int
) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, ("old", 0))
    lake.close_events(store)
    add(store, *((f"e{day}", day) for day in range(3)))
    write, written = lake_module._write_whole, 0

    def write_until_killed(frame: pl.DataFrame, path: Path) -> None:
        nonlocal written
        if written == writes_before_the_end:
            (path.parent / f".{path.name}.unfinished").touch()
            raise Killed
        written += 1
        write(frame, path)

    def set_no_cursor(name: str, value: int) -> None:
        if written == 3 and not name.endswith("target"):
            raise Killed
        Store.set_cursor(store, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(lake_module, "_write_whole", write_until_killed)
        patch.setattr(store, "set_cursor", set_no_cursor)
        for folder in ("day=2023-11-15", "day=2023-11-16", "day=2023-11-17"):
            (lake.root / "events" / folder).mkdir(exist_ok=True)
        with pytest.raises(Killed):
            lake.close_events(store)
    # the world moves on before the next try, so batches and part names differ
    add(store, ("after", 1))
    store.people.erase("nobody", requested_at_us=1)
    lake.close_events(store)
    assert_lake_equals_store(lake, store)
    assert all(name.endswith(".parquet") for name in parts(lake.root))


def test_a_removed_lake_is_written_again(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, ("a", 0), ("b", 1))
    lake.close_events(store)
    shutil.rmtree(lake.root)
    lake.close_events(store)
    assert_lake_equals_store(lake, store)


def test_the_lake_of_another_store_is_left_alone(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    add(store, ("a", 0), ("b", 1))
    lake.close_events(store)
    before = parts(lake.root)
    with open_store(tmp_path / "other") as other:
        add(other, ("x", 0))
        with pytest.raises(DataError, match="belongs to another store"):
            lake.close_events(other)
    assert parts(lake.root) == before


def test_a_day_gets_one_part_however_many_groups_of_rows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "ROWS_AT_ONCE", 7)
    lake = Lake(tmp_path / "lake")
    add(store, *((f"e{n}", n % 5) for n in range(50)))
    assert len(lake.close_events(store).days) == 5
    assert len(parts(lake.root)) == 5
    assert_lake_equals_store(lake, store)


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3)), min_size=1, max_size=6),
        st.just("close"),
    ),
    max_size=10,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_order_of_appending_and_closing_keeps_every_event_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | list[tuple[int, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    lake = Lake(folder / "lake")
    with open_store(folder) as store:
        for step in steps:
            if isinstance(step, str):
                lake.close_events(store)
            else:
                add(store, *((f"e{name}", day) for name, day in step))
        lake.close_events(store)
        assert_lake_equals_store(lake, store)


def test_what_experiments_gave_is_closed_by_day(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    given = Assignment("order", 1, "bold", "hash", "ann")
    store.append_slates([replace(slate("r1", k=2), assignments=(given,)), slate("r2")])
    assert lake.close_assignments(store).rows == 1
    assert lake.close_assignments(store).rows == 0
    row = lake.scan_assignments().collect().row(0, named=True)
    assert (row["request_id"], row["experiment"], row["variant"]) == ("r1", "order", "bold")
    assert (row["n_items"], row["teams"], row["user_id"]) == (2, None, "ann")


def test_a_chance_that_is_not_known_is_null(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    drawn = np.array([0.5, np.nan], np.float32)
    store.append_slates([replace(slate("r1", k=2), propensities=drawn)])
    lake.close_exposures(store)
    assert lake.scan_exposures().collect()["propensity"].to_list() == [0.5, None]


def test_exposures_of_an_earlier_version_are_read(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    store.append_slates([slate("r1", k=2)])
    lake.close_exposures(store)
    (part,) = lake.root.glob("exposures/day=*/part-*.parquet")
    old = pl.read_parquet(part, hive_partitioning=False)
    old.insert_column(7, pl.lit(None, pl.String).alias("experiment")).write_parquet(part)
    store.append_slates([slate("r2", k=1)])
    lake.close_exposures(store)
    assert lake.scan_exposures().collect()["request_id"].to_list() == ["r1", "r1", "r2"]


def test_a_slate_becomes_one_exposure_an_item(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    later = slate("r3", k=1, user_id=None, at_us=NOON_US + US_PER_DAY)
    store.append_slates([slate("r1"), slate("empty", k=0), later])
    assert lake.close_exposures(store) == ClosedDays(3, ("2023-11-15", "2023-11-16"), 3)
    rows = lake.scan_exposures().collect()
    assert rows.schema == pl.Schema(EXPOSURE_SCHEMA)
    assert rows.select("request_id", "position", "item_id", "user_id").rows() == [
        ("r1", 0, "i0", "ann"),
        ("r1", 1, "i1", "ann"),
        ("r3", 0, "i0", None),
    ]
    assert rows["features"].to_list()[1] == [4.0, 5.0, 6.0, 7.0]
    assert np.isnan(rows["source_scores"].to_list()[0]).all()
    assert lake.close_exposures(store).rows == 0


def test_only_empty_slates_still_move_the_cursor(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    store.append_slates([slate("empty", k=0)])
    assert lake.close_exposures(store) == ClosedDays(0, (), 1)
    assert lake.scan_exposures().collect().is_empty()


def of_ann_and_bob(store: Store) -> None:
    """Two users in one session, one of them on another day too; and strangers."""
    nameless = {"user_id": None, "session_id": "s"}
    rows = [
        event("before", **nameless),
        event("ann", session_id="s"),
        event("bob", user_id="bob", session_id="s"),
        event("after", **nameless),
        event("stranger", user_id=None, session_id="t"),
        event("alone", event_time_us=NOON_US + US_PER_DAY),
    ]
    store.append_events(events(*rows), received_at_us=1)
    anonymous = replace(slate("r3", user_id=None), session_id="s")
    store.append_slates([slate("r1"), slate("r2", user_id="bob"), anonymous])


def close(lake: Lake, store: Store) -> None:
    lake.close_events(store)
    lake.close_exposures(store)
    lake.close_links(store)


def test_what_a_session_did_before_the_login_is_read_as_the_users(
    store: Store, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "lake")
    of_ann_and_bob(store)
    close(lake, store)
    users = dict(lake.scan_events().select("event_id", "user_id").collect().iter_rows())
    assert users.pop("bob") == "bob"
    assert users.pop("stranger") is None
    assert users == dict.fromkeys(("before", "ann", "after", "alone"), "ann")
    shown = lake.scan_exposures().select("request_id", "user_id").unique().collect()
    assert dict(shown.iter_rows()) == {"r1": "ann", "r2": "bob", "r3": "ann"}


def test_a_login_changes_the_digest_once_and_moves_no_row(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    of_ann_and_bob(store)
    close(lake, store)
    before, order = lake.digest(), lake.scan_events().select("event_id").collect()
    assert not lake.close_links(store)
    store.people.link("elsewhere", "ann", linked_at_us=1)  # a session of which nothing is known
    assert not lake.close_links(store)
    assert lake.digest() == before
    store.people.link("t", "cem", linked_at_us=1)
    assert lake.close_links(store)
    assert lake.digest() != before
    found = lake.scan_events().collect()
    assert found.select("event_id").equals(order)
    assert found.filter(pl.col("event_id") == "stranger")["user_id"].to_list() == ["cem"]


def test_a_forgotten_user_is_in_no_file(store: Store, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    of_ann_and_bob(store)
    close(lake, store)
    before = lake.digest()
    (lake.root / ".spool-events").mkdir()  # of a closing that was killed
    store.people.erase("ann", requested_at_us=1)
    owner_of, users = {"s": "ann"}, ["ann", "nobody"]
    assert lake.rows_by_user(owner_of, users) == {"ann": 4 + 4, "nobody": 0}
    lake.forget(owner_of, users, marks=["receipt"])
    lake.close_links(store)
    assert lake.rows_by_user(owner_of, users) == {"ann": 0, "nobody": 0}
    assert lake.digest() != before
    assert_lake_equals_store(lake, store)
    assert lake.scan_exposures().collect()["user_id"].to_list() == ["bob", "bob"]
    assert not any(b"ann" in path.read_bytes() for path in lake.root.rglob("*") if path.is_file())
    close(lake, store)
    assert_lake_equals_store(lake, store)
