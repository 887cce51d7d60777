from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.history import HISTORY_LENGTH
from features.interactions import Interactions
from recsys.training.queries import PastQueries, window_queries, with_users, without_outcome
from tests.features.logs import Line, event_table, log_of, visits

A, B, C, D, E = range(5)


def asked(
    log: Interactions,
    start_day: int,
    end_day: int,
    *,
    per_user: int = 100,
    max_labels: int = 100,
    now_day: int | None = None,
) -> PastQueries:
    return window_queries(
        log,
        start_day * US_PER_DAY,
        end_day * US_PER_DAY,
        per_user=per_user,
        max_labels=max_labels,
        rng=np.random.default_rng(0),
        now_us=None if now_day is None else now_day * US_PER_DAY,
    )


def labels(past: PastQueries) -> list[list[int]]:
    return [past.label_rows[start:stop].tolist() for start, stop in pairwise(past.label_indptr)]


def seen(past: PastQueries) -> list[list[int]]:
    return [past.seen_rows[start:stop].tolist() for start, stop in pairwise(past.seen_indptr)]


def histories(past: PastQueries) -> list[list[int]]:
    return [rows[rows >= 0].tolist() for rows in past.queries.history_rows]


def test_each_shopper_is_asked_what_came_next_at_each_moment_of_the_window() -> None:
    log = log_of(
        ("ann", "a", "view", 1),
        ("ann", "b", "view", 2),
        ("ann", "c", "click", 3),
        ("ann", "d", "view", 4),
        ("bob", "e", "view", 1.5),
        ("cat", "a", "view", 2.5),
        items="abcde",
    )
    past = asked(log, 2, 4)
    assert [log.user_ids[user] for user in past.users] == ["ann", "ann", "cat"]
    np.testing.assert_array_equal(past.queries.now_us / US_PER_DAY, [2, 3, 2.5])
    assert histories(past) == [[A], [A, B], []]
    assert labels(past) == [[B, C], [C], [A]]  # d at day 4 is outside [2, 4)
    assert seen(past) == [[A], [A, B], []]


def test_of_each_shopper_the_first_moment_is_asked_and_others_are_drawn() -> None:
    log = log_of(*visits("ann", "abcdeabcde"), *visits("bob", "ab"), items="abcde")
    past = asked(log, 1, 2, per_user=3)
    ann = past.queries.now_us[past.users == 0]
    assert len(ann) == 3
    assert ann[0] == US_PER_DAY
    assert (np.diff(ann) > 0).all()
    assert (past.users == 1).sum() == 2


def test_at_most_max_labels_outcomes_follow() -> None:
    past = asked(log_of(*visits("ann", "abcde"), items="abcde"), 1, 2, per_user=1, max_labels=2)
    assert labels(past) == [[A, B]]


def test_aversion_is_history_but_never_a_moment_or_an_outcome() -> None:
    log = log_of(
        ("ann", "a", "dismiss", 2), ("ann", "b", "view", 3), ("ann", "c", "dismiss", 4), items="abc"
    )
    past = asked(log, 1, 9)
    assert histories(past) == [[A]]
    assert labels(past) == [[B]]
    assert DEFAULT_EVENT_TYPES[past.queries.history_types[0, -1]].name == "dismiss"


def test_events_of_the_very_same_time_are_outcomes_and_not_history() -> None:
    log = log_of(
        ("ann", "a", "view", 1),
        ("ann", "b", "view", 2),
        ("ann", "c", "view", 2),
        ("ann", "d", "view", 2),
        items="abcd",
    )
    past = asked(log, 2, 3)
    assert histories(past) == [[A]]  # one moment, as the day could ask only once
    assert labels(past) == [[B, C, D]]


def test_with_a_given_now_nothing_after_it_is_known() -> None:
    log = log_of(
        ("ann", "a", "view", 1), ("ann", "b", "dismiss", 2), ("ann", "c", "view", 3), items="abc"
    )
    past = asked(log, 2, 9, per_user=1, now_day=2)
    assert past.queries.now_us.tolist() == [2 * US_PER_DAY]
    assert histories(past) == [[A]]
    assert seen(past) == [[A]]
    assert labels(past) == [[C]]


def test_histories_keep_the_latest_events_and_seen_keeps_all() -> None:
    n = HISTORY_LENGTH + 7
    lines: list[Line] = [("ann", "a" if day < 7 else "b", "view", day) for day in range(n)]
    past = asked(log_of(*lines, ("ann", "c", "view", n), items="abc"), n, n + 1)
    assert histories(past) == [[B] * HISTORY_LENGTH]
    assert seen(past) == [[A] * 7 + [B] * HISTORY_LENGTH]


def test_a_window_without_events_asks_nothing() -> None:
    for log in (log_of(items="ab"), log_of(*visits("ann", "ab"), items="ab")):
        past = asked(log, 5, 9)
        assert len(past) == 0
        assert len(past.label_rows) == 0


def test_before_the_first_event_shoppers_have_empty_histories() -> None:
    log = log_of(("ann", "a", "view", 1), ("bob", "b", "view", 2), items="ab").before(0)
    past = without_outcome(log, np.array([0, 1], np.int32), np.zeros(2, np.int64))
    assert histories(past) == seen(past) == [[], []]


def test_take_keeps_queries_with_their_outcomes() -> None:
    log = log_of(*visits("ann", "abc"), *visits("bob", "de"), items="abcde")
    past = asked(log, 1, 2)
    taken = past.take(np.array([3, 0]))
    assert labels(taken) == [labels(past)[3], labels(past)[0]] == [[D, E], [A, B, C]]
    assert histories(taken) == [[], []]


def test_users_get_the_row_a_model_knows_them_by() -> None:
    past = asked(log_of(*visits("ann", "ab"), *visits("bob", "b"), items="ab"), 1, 2)
    rows = with_users(past, np.array([-1, 7], np.int32)).queries.user_rows
    assert rows.tolist() == [-1, -1, 7]


lines = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cat"]),
        st.sampled_from("abcde"),
        st.sampled_from(["view", "share", "dismiss"]),
        st.integers(1, 8).map(float),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(lines=lines, start=st.integers(1, 8), length=st.integers(1, 4))
def test_every_query_is_what_counting_by_hand_says(
    lines: list[Line], start: int, length: int
) -> None:
    log = log_of(*lines, items="abcde")
    past = asked(log, start, start + length)
    table = event_table(*lines).sort("event_time_us", "event_id").to_dicts()
    expected = []
    for user in sorted({line[0] for line in lines}):
        own = [e for e in table if e["user_id"] == user]
        inside = [
            e
            for e in own
            if start * US_PER_DAY <= e["event_time_us"] < (start + length) * US_PER_DAY
            and e["event_type"] != "dismiss"
        ]
        for now in sorted({e["event_time_us"] for e in inside}):
            before = ["abcde".index(e["item_id"]) for e in own if e["event_time_us"] < now]
            after = ["abcde".index(e["item_id"]) for e in inside if e["event_time_us"] >= now]
            expected.append((user, now, before, after))
    found = zip(
        [log.user_ids[user] for user in past.users],
        past.queries.now_us.tolist(),
        histories(past),
        labels(past),
        strict=True,
    )
    assert list(found) == expected
    assert seen(past) == [before for _, _, before, _ in expected]


@pytest.mark.parametrize("per_user", [1, 3])
def test_equal_seeds_draw_equal_moments(per_user: int) -> None:
    log = log_of(*visits("ann", "abcdeabcde"), items="abcde")
    first, second = (asked(log, 1, 2, per_user=per_user) for _ in range(2))
    np.testing.assert_array_equal(first.queries.now_us, second.queries.now_us)
