import numpy as np
import polars as pl

from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY, EventType
from features.interactions import Interactions, shopper_id, user_of
from tests.features.logs import event_table, log_of


def test_events_are_sorted_by_shopper_then_time_then_event_id() -> None:
    table = event_table(
        ("bob", "a", "view", 2.0),
        ("ann", "c", "view", 5.0),
        ("ann", "b", "view", 3.0),
        ("ann", "a", "view", 3.0),
    )
    shuffled = table[[3, 1, 0, 2]]
    log = Interactions.build(shuffled, ["a", "b", "c"], DEFAULT_EVENT_TYPES)
    assert list(log.user_ids) == ["ann", "bob"]
    np.testing.assert_array_equal(log.indptr, [0, 3, 4])
    np.testing.assert_array_equal(log.item_rows, [1, 0, 2, 0])  # e0002 before e0003 at day 3
    np.testing.assert_array_equal(log.user_rows, [0, 0, 0, 1])


def test_a_session_stands_in_for_a_shopper_who_did_not_log_in() -> None:
    table = event_table(("ann", "a", "view", 1), ("x", "a", "view", 2), ("x", "b", "view", 3))
    anonymous = table["user_id"] == "x"
    table = table.with_columns(
        user_id=table["user_id"].set(anonymous, None),
        session_id=table["session_id"].set(anonymous, "ann"),
    )
    log = Interactions.build(table, ["a", "b"], DEFAULT_EVENT_TYPES)
    assert list(log.user_ids) == ["ann", "session:ann"]  # one name, two different shoppers
    np.testing.assert_array_equal(np.diff(log.indptr), [1, 2])


def test_no_two_shoppers_share_a_name_whatever_a_shop_calls_its_users() -> None:
    users = ["ann", "session:ann", "user:ann", "user:session:ann", "session:session:ann"]
    sessions = ["ann", "session:ann", "user:ann"]
    shoppers = [*((user, None) for user in users), *((None, session) for session in sessions)]
    names = [shopper_id(user, session) for user, session in shoppers]
    assert len({*names}) == len(shoppers)
    assert names[0] == "ann"
    assert [user_of(str(name)) for name in names] == [user for user, _ in shoppers]
    table = event_table(*((str(n), "a", "view", n) for n in range(len(shoppers)))).with_columns(
        user_id=pl.Series([user for user, _ in shoppers]),
        session_id=pl.Series([session for _, session in shoppers]),
    )
    log = Interactions.build(table, ["a"], DEFAULT_EVENT_TYPES)
    assert {*log.user_ids} == {*names}


def test_events_on_unknown_items_or_of_unknown_types_are_dropped() -> None:
    log = log_of(
        ("ann", "a", "view", 1), ("ann", "z", "view", 2), ("bob", "a", "sneeze", 3), items="ab"
    )
    assert list(log.user_ids) == ["ann"]
    assert len(log) == 1


def test_types_and_weights_are_those_of_the_given_event_types() -> None:
    kinds = (EventType("like", 2.5), EventType("hate", -1.0))
    log = log_of(("ann", "a", "hate", 1), ("ann", "a", "like", 2), items="a", event_types=kinds)
    np.testing.assert_array_equal(log.types, [1, 0])
    assert log.weights.tolist() == [-1.0, 2.5]


def test_before_is_half_open_and_keeps_every_shopper() -> None:
    log = log_of(("ann", "a", "view", 1), ("bob", "a", "view", 2), items="a")
    past = log.before(2 * US_PER_DAY)
    assert list(past.user_ids) == ["ann", "bob"]
    np.testing.assert_array_equal(past.indptr, [0, 1, 1])
    assert len(log.before(2 * US_PER_DAY + 1)) == 2


def test_no_events_make_a_log_of_nobody() -> None:
    log = log_of(items="ab")
    assert len(log) == 0
    assert list(log.user_ids) == []
    np.testing.assert_array_equal(log.indptr, [0])
    assert len(log.before(0).positive()) == 0
