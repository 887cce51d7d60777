import itertools
import multiprocessing
import threading
import traceback
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from features.database import Database
from features.errors import ConfigError, DataError
from features.events import EVENT_SCHEMA, RecentEvents
from features.items import ITEM_SCHEMA
from features.slates import Assignment
from features.store import STORED_EVENT_SCHEMA, Shown, Store
from tests.features.rows import NOON_US, event, events, item, items, open_store, slate


def stored(store: Store, after: int = 0) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=STORED_EVENT_SCHEMA), *store.events_after(after)])


def recent_items(recent: RecentEvents) -> list[str]:
    return list(recent.item_ids)


def test_an_event_is_new_once(store: Store) -> None:
    first = store.append_events(events(event("a"), event("b"), event("a")), received_at_us=1)
    assert first.tolist() == [True, True, False]
    second = store.append_events(events(event("c"), event("b")), received_at_us=2)
    assert second.tolist() == [True, False]
    assert store.append_events(events(), received_at_us=3).tolist() == []
    assert stored(store)["event_id"].to_list() == ["a", "b", "c"]
    assert stored(store)["received_at_us"].to_list() == [1, 1, 2]


def test_of_duplicates_the_first_is_kept(store: Store) -> None:
    rows = events(event("a", item_id="first"), event("a", item_id="second"))
    store.append_events(rows, received_at_us=1)
    assert stored(store)["item_id"].to_list() == ["first"]


def test_events_survive_reopening(url: str) -> None:
    row = event("a", session_id="s", request_id="r", value=1.5, item_id="跑步鞋 😀 נעל")
    with Store.open(url) as store:
        store.append_events(events(row), received_at_us=1)
    with Store.open(url) as store:
        assert stored(store).select(*EVENT_SCHEMA).to_dicts() == [row]
        assert store.append_events(events(row), received_at_us=2).tolist() == [False]


def test_unchecked_rows_are_refused(store: Store) -> None:
    with pytest.raises(DataError, match="check the rows first"):
        store.append_events(pl.DataFrame({"event_id": ["a"]}), received_at_us=1)


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://shop:secret@host/db",
        "nonsense:secret@host",
        "postgresql://shop:secret@host:port/db",
        "postgresql://shop:secret@host",
        "mysql://host/db?password=secret",
    ],
)
def test_a_url_of_no_database_is_refused_without_its_password(wrong: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///path") as refused:
        Store.open(wrong)
    assert "secret" not in "".join(traceback.format_exception(refused.value))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(ids=st.lists(st.integers(0, 20), max_size=30), cuts=st.lists(st.integers(0, 30)))
def test_any_batching_of_events_makes_the_same_table(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], cuts: list[int]
) -> None:
    rows = events(*(event(f"e{n}", event_time_us=NOON_US + n) for n in ids))
    edges = sorted({0, len(ids), *(cut for cut in cuts if cut < len(ids))})
    with open_store(tmp_path_factory.mktemp("one")) as at_once:
        together = at_once.append_events(rows, received_at_us=1)
        expected = stored(at_once)
    with open_store(tmp_path_factory.mktemp("many")) as in_parts:
        parts = [
            in_parts.append_events(rows[start:stop], received_at_us=1)
            for start, stop in itertools.pairwise(edges)
        ]
        assert np.concatenate([np.empty(0, bool), *parts]).tolist() == together.tolist()
        columns = list(EVENT_SCHEMA)
        assert stored(in_parts).select(columns).equals(expected.select(columns))


def test_events_are_read_in_batches_from_any_seq(store: Store) -> None:
    store.append_events(events(*(event(str(n)) for n in range(7))), received_at_us=1)
    batches = list(store.events_after(2, until_seq=6, batch_size=3))
    assert [batch["seq"].to_list() for batch in batches] == [[3, 4, 5], [6]]
    assert batches[0].schema == pl.Schema(STORED_EVENT_SCHEMA)
    assert store.last_event_seq() == 7


def test_recent_events_are_the_newest_before_now_oldest_first(store: Store) -> None:
    rows = [event(str(n), item_id=f"i{n}", event_time_us=NOON_US + n) for n in range(5)]
    store.append_events(events(*reversed(rows)), received_at_us=1)
    recent = store.recent_events(user_id="ann", session_id=None, before_us=NOON_US + 4, limit=2)
    assert recent_items(recent) == ["i2", "i3"]
    assert list(recent.event_types) == ["view", "view"]
    assert recent.event_time_us.tolist() == [NOON_US + 2, NOON_US + 3]
    assert recent.event_time_us.dtype == np.int64


def test_an_event_of_both_user_and_session_counts_once(store: Store) -> None:
    rows = [
        event("1", item_id="user", event_time_us=NOON_US),
        event("2", item_id="both", session_id="s", event_time_us=NOON_US + 1),
        event("3", item_id="session", user_id=None, session_id="s", event_time_us=NOON_US + 2),
        event("4", item_id="stranger", user_id="bob", event_time_us=NOON_US + 3),
    ]
    store.append_events(events(*rows), received_at_us=1)
    later = NOON_US + 10
    both = store.recent_events(user_id="ann", session_id="s", before_us=later, limit=10)
    assert recent_items(both) == ["user", "both", "session"]
    newest = store.recent_events(user_id="ann", session_id="s", before_us=later, limit=2)
    assert recent_items(newest) == ["both", "session"]
    session = store.recent_events(user_id=None, session_id="s", before_us=later, limit=10)
    assert recent_items(session) == ["both", "session"]


def test_nobody_has_no_recent_events(store: Store) -> None:
    store.append_events(events(event("1")), received_at_us=1)
    for user_id, limit in ((None, 10), ("ann", 0), ("nobody", 10)):
        recent = store.recent_events(
            user_id=user_id, session_id=None, before_us=NOON_US + 1, limit=limit
        )
        assert recent_items(recent) == []
        assert len(recent.event_time_us) == 0


def test_events_of_one_time_are_in_the_order_of_their_ids(store: Store) -> None:
    store.append_events(events(*(event(n, item_id=n) for n in "cab")), received_at_us=1)
    recent = store.recent_events(user_id="ann", session_id=None, before_us=NOON_US + 1, limit=2)
    assert recent_items(recent) == ["b", "c"]


def test_a_user_with_100_000_events_is_read_through_the_index(tmp_path: Path) -> None:
    n = 100_000
    rows = pl.DataFrame(
        {
            "event_id": [f"e{k}" for k in range(n)],
            "user_id": "bot",
            "session_id": "long",
            "item_id": [f"i{k}" for k in range(n)],
            "event_type": "view",
            "event_time_us": np.arange(n) + NOON_US,
            "request_id": None,
            "value": None,
        },
        schema=EVENT_SCHEMA,
    )
    with open_store(tmp_path) as store:
        assert store.append_events(rows, received_at_us=1).all()
        ask = partial(
            store.recent_events, user_id="bot", session_id="long", before_us=2 * NOON_US, limit=3
        )
        assert recent_items(ask()) == ["i99997", "i99998", "i99999"]
        # whatever the machine: a limit of 3 visits few rows, so SQLite's own work stays tiny
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        driver = store._recent._connection
        driver.set_progress_handler(count, 100)
        ask()
        driver.set_progress_handler(None, 0)
        assert steps < 20


def test_threads_write_and_read_at_once(store: Store) -> None:
    def write(thread: int) -> None:
        for n in range(20):
            store.append_events(
                events(event(f"{thread}-{n}"), event(f"same-{n}")), received_at_us=1
            )

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        store.recent_events(user_id="ann", session_id=None, before_us=NOON_US + 1, limit=5)
    assert store.counts()["events"] == 4 * 20 + 20


def _append_from_another_process(url: str, name: str) -> None:
    with Store.open(url) as store:
        for n in range(20):
            store.append_events(events(event(f"{name}-{n}")), received_at_us=1)


def test_processes_share_one_database(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_append_from_another_process, args=(url, name)) for name in "ab"]
    for other in others:
        other.start()
    _append_from_another_process(url, "c")
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    with Store.open(url) as store:
        assert store.counts()["events"] == 60
        seqs = stored(store)["seq"]
        assert seqs.is_sorted()
        assert seqs.n_unique() == 60


def test_only_real_changes_of_items_count(store: Store) -> None:
    assert store.upsert_items(items(item("b"), item("a")), updated_at_us=1) == 2
    assert store.upsert_items(items(item("b"), item("a")), updated_at_us=2) == 0
    assert store.upsert_items(items(item("b"), item("a", title="New")), updated_at_us=3) == 1
    assert store.items().to_dicts() == [item("a", title="New"), item("b")]
    assert store.upsert_items(items(), updated_at_us=4) == 0


def test_of_one_item_twice_in_a_batch_the_last_counts(store: Store) -> None:
    rows = items(item("a", title="old"), item("a", title="new"))
    assert store.upsert_items(rows, updated_at_us=1) == 1
    assert store.item("a") == item("a", title="new")


def test_servers_see_changes_by_asking_with_the_last_number(store: Store) -> None:
    store.upsert_items(items(item("a"), item("b")), updated_at_us=1)
    first, rows = store.items_changed_after(0)
    assert rows["item_id"].to_list() == ["a", "b"]
    assert store.items_changed_after(first)[0] == first
    assert store.items_changed_after(first)[1].is_empty()
    store.upsert_items(items(item("b", available=False), item("a")), updated_at_us=2)
    second, rows = store.items_changed_after(first)
    assert second > first
    assert rows.select("item_id", "available", "deleted").rows() == [("b", False, False)]


def test_a_deleted_item_leaves_a_tombstone_and_can_live_again(store: Store) -> None:
    store.upsert_items(items(item("a"), item("b")), updated_at_us=1)
    first, _ = store.items_changed_after(0)
    assert store.delete_items(["a", "unknown"], updated_at_us=2) == 1
    assert store.delete_items(["a"], updated_at_us=3) == 0
    assert store.item("a") is None
    assert store.items()["item_id"].to_list() == ["b"]
    assert store.counts()["items"] == 1
    second, rows = store.items_changed_after(first)
    assert rows.select("item_id", "deleted").rows() == [("a", True)]
    assert store.upsert_items(items(item("a")), updated_at_us=4) == 1
    assert store.item("a") == item("a")
    assert store.items_changed_after(second)[1]["deleted"].to_list() == [False]


def test_item_texts_of_any_script_come_back(store: Store) -> None:
    row = item("😀", title="נעלי ריצה", tags=["跑步鞋", 'quote " and \\'], attributes='{"ö":"é"}')
    store.upsert_items(items(row), updated_at_us=1)
    assert store.items().to_dicts() == [row]


def test_a_slate_comes_back_as_it_was_shown(store: Store) -> None:
    shown = slate("r1", k=3)
    assert store.append_slates([shown, slate("r2", k=0), shown]) == 2
    assert store.append_slates([shown]) == 0
    found = store.slate("r1")
    assert found is not None
    assert found.item_ids == shown.item_ids
    assert (found.user_id, found.shown_at_us) == ("ann", NOON_US)
    assert (found.assignments, found.teams) == ((), None)
    for name in ("propensities", "scores", "source_scores", "features"):
        np.testing.assert_array_equal(getattr(found, name), getattr(shown, name))
    assert store.slate("unknown") is None
    pairs = [(seq, s.request_id) for b in store.slates_after(0, batch_size=1) for seq, s in b]
    assert [request_id for _, request_id in pairs] == ["r1", "r2"]
    assert pairs[-1][0] == store.last_slate_seq()


def test_a_slate_remembers_what_experiments_gave_it(store: Store) -> None:
    given = (
        Assignment("order", 2, "bold", "hash", "ann"),
        Assignment("sources", 1, "plain", "override", "ann"),
    )
    shown = replace(slate("r1", k=3), assignments=given, teams="A-B")
    store.append_slates([shown, slate("r2", k=1)])
    store.append_slates([shown])
    found = store.slate("r1")
    assert found is not None
    assert (found.assignments, found.teams) == (given, "A-B")
    (rows,) = store.assignments_after(0)
    assert rows.select("request_id", "experiment", "phase", "variant", "n_items").rows() == [
        ("r1", "order", 2, "bold", 3),
        ("r1", "sources", 1, "plain", 3),
    ]
    assert rows["seq"][-1] == store.last_assignment_seq()


def test_a_slate_whose_arrays_do_not_fit_is_refused() -> None:
    good = slate("r1")
    values = {name: getattr(good, name) for name in good.__slots__}
    with pytest.raises(DataError, match="expected one row for each of its 1 items"):
        type(good)(**(values | {"item_ids": ("only",)}))


def test_the_number_of_an_erased_event_is_not_given_again(store: Store) -> None:
    store.append_events(events(event("a"), event("b", user_id="bob"), event("c")), received_at_us=1)
    store.people.erase("ann", requested_at_us=1)
    store.append_events(events(event("d")), received_at_us=1)
    assert stored(store)["seq"].to_list() == [2, 4]


def test_what_was_shown_is_told_by_request(store: Store) -> None:
    store.append_slates([slate("r1", k=3), slate("r2", k=0, user_id=None)])
    found = store.shown(["r1", "unknown", "r2"])
    assert found == {
        "r1": Shown("ann", None, "home", ("i0", "i1", "i2")),
        "r2": Shown(None, None, "home", ()),
    }
    assert len(store.shown([*(f"none-{n}" for n in range(1_500)), "r1"])) == 1
    assert store.shown([]) == {}


def test_items_are_listed_page_by_page(store: Store) -> None:
    store.upsert_items(items(*(item(name) for name in "dBac")), updated_at_us=1)
    store.delete_items(["a"], updated_at_us=2)
    first = store.items_after(None, 2)
    assert first.schema == pl.Schema(ITEM_SCHEMA)
    assert first["item_id"].to_list() == ["B", "c"]  # by their bytes, whatever the database
    assert store.items_after("c", 2)["item_id"].to_list() == ["d"]
    assert store.items_after("d", 2).is_empty()


def test_cursors_start_at_zero_and_keep_their_value(store: Store) -> None:
    assert store.cursor("night") == 0
    store.set_cursor("night", 5)
    store.set_cursor("night", 4)
    store.set_cursor("other", 1)
    assert (store.cursor("night"), store.cursor("other")) == (4, 1)


def test_a_store_from_before_the_links_gains_tables_indexes_and_owners(url: str) -> None:
    rows = [
        event("1", user_id=None, session_id="s", item_id="before"),
        event("2", session_id="s", item_id="known"),
        event("3", user_id="bob", session_id="s", item_id="bobs"),
    ]
    with Store.open(url) as store:
        store.append_events(events(*rows), received_at_us=1)
    with closing(Database(url)) as database, database.writing() as connection:
        for name in ("session_links", "claims", "pages", "documents", "keys", "erasures"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("DROP INDEX slates_by_session"))
        connection.execute(text("DELETE FROM cursors WHERE name = 'links'"))
    for _ in range(2):
        with Store.open(url) as store:
            recent = store.recent_events(
                user_id="ann", session_id=None, before_us=NOON_US + 1, limit=9
            )
            assert recent_items(recent) == ["before", "known"]
            assert store.documents.all("rule") == {}
            with store._database.reading() as connection:
                names = {index["name"] for index in inspect(connection).get_indexes("slates")}
            assert "slates_by_session" in names
