from dataclasses import replace

import polars as pl
import pytest

from features.people import USER_SCHEMA
from features.slates import Assignment
from features.store import Store
from tests.features.rows import NOON_US, event, events, slate


def recent(store: Store, user_id: str | None, session_id: str | None = None) -> list[str]:
    """Item ids of everything the shopper is known to have done."""
    found = store.recent_events(
        user_id=user_id, session_id=session_id, before_us=2 * NOON_US, limit=100
    )
    return list(found.item_ids)


def tell(store: Store, *rows: tuple[str | None, str | None, str]) -> None:
    """Events of (user, session, item), one a second in this order, whatever came before."""
    start = store.last_event_seq()
    made = (
        event(f"e{n}", user_id=user, session_id=session, item_id=item, event_time_us=NOON_US + n)
        for n, (user, session, item) in enumerate(rows, start)
    )
    store.append_events(events(*made), received_at_us=NOON_US)


def users(*ids: str, attributes: str = "{}") -> pl.DataFrame:
    return pl.DataFrame({"user_id": ids, "attributes": attributes}, schema=USER_SCHEMA)


def test_users_are_stored_and_listed_page_by_page(url: str) -> None:
    with Store.open(url) as store:
        people = store.people
        assert people.upsert_users(users("bob", "Ann", "cem"), updated_at_us=1) == 3
        assert people.upsert_users(users("bob"), updated_at_us=2) == 0
        assert people.upsert_users(users("bob", attributes='{"a":1}'), updated_at_us=3) == 1
        assert people.user("bob") == {"user_id": "bob", "attributes": '{"a":1}'}
        assert people.user("dora") is None
        assert people.after(None, 2)["user_id"].to_list() == ["Ann", "bob"]
        assert people.after("bob", 2)["user_id"].to_list() == ["cem"]
        assert people.after("cem", 2).schema == pl.Schema(USER_SCHEMA)


def test_what_a_session_did_before_the_login_is_the_users(url: str) -> None:
    with Store.open(url) as store:
        tell(store, (None, "s", "before"), (None, "other", "strangers"))
        assert recent(store, "ann") == []
        assert store.people.link("s", "ann", linked_at_us=NOON_US)
        assert recent(store, "ann") == ["before"]
        assert recent(store, "ann", "s") == ["before"]
        assert recent(store, "ann", "other") == ["before", "strangers"]
        tell(store, (None, "s", "late"))
        assert recent(store, "ann") == ["before", "late"]
        assert store.people.owner("s") == "ann"
        assert store.people.owner("other") is None


def test_an_event_with_both_ids_is_a_login(url: str) -> None:
    with Store.open(url) as store:
        tell(store, (None, "s", "before"))
        tell(store, (None, "s", "same batch"), ("ann", "s", "known"), (None, "s", "after"))
        assert recent(store, "ann") == ["before", "same batch", "known", "after"]
        assert recent(store, None, "s") == ["before", "same batch", "known", "after"]


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_the_first_user_of_a_session_keeps_it(url: str, *, in_one_batch: bool) -> None:
    rows = [
        (None, "s", "nameless"),
        ("ann", "s", "anns"),
        ("bob", "s", "bobs"),
        (None, "s", "later"),
    ]
    with Store.open(url) as store:
        for batch in [rows] if in_one_batch else [[row] for row in rows]:
            tell(store, *batch)
        assert not store.people.link("s", "bob", linked_at_us=NOON_US)
        assert recent(store, "ann", "s") == ["nameless", "anns", "later"]
        assert recent(store, "bob", "s") == ["bobs"]
        assert recent(store, None, "s") == ["nameless", "anns", "later"]  # bob's is not told


def test_an_event_that_is_refused_as_a_duplicate_links_nothing(url: str) -> None:
    with Store.open(url) as store:
        tell(store, (None, "s", "first"))
        again = event("e0", user_id="ann", session_id="s", item_id="first")
        store.append_events(events(again), received_at_us=NOON_US)
        assert store.people.owner("s") is None


def test_erasing_a_user_removes_every_row_of_theirs_and_leaves_a_receipt(url: str) -> None:
    with Store.open(url) as store:
        people = store.people
        people.upsert_users(users("ann", "bob"), updated_at_us=1)
        tell(store, (None, "s", "before"), ("ann", "s", "a"), ("bob", "s", "b"), ("ann", None, "c"))
        given = Assignment("order", 1, "bold", "hash", "ann")
        shown = replace(slate("r1"), assignments=(given,))
        store.append_slates([shown, slate("r2", user_id="bob"), slate("r3", user_id=None)])
        erasure = people.erase("ann", requested_at_us=7)
        assert erasure.counts == {
            "events": 3,
            "slates": 1,
            "assignments": 1,
            "pages": 0,
            "session_links": 1,
            "users": 1,
        }
        assert store.counts() == {"events": 1, "users": 1, "items": 0, "slates": 2}
        assert recent(store, "ann", "s") == []
        assert recent(store, "bob") == ["b"]
        assert people.user("ann") is None
        assert people.erasure(erasure.receipt_id) == erasure
        assert people.erasure("unknown") is None
        assert people.pending_erasures() == [erasure]
        assert (erasure.user_id, erasure.session_ids) == ("ann", ("s",))
        assert (erasure.lake_rows, erasure.completed_at_us) == (None, None)
