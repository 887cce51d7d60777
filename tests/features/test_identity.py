"""Whose an event is must be one answer, by day and by night."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.lake import Lake
from features.store import Store
from tests.features.rows import NOON_US, event, events, open_store

USERS, SESSIONS = ("ann", "bob"), ("s", "t", "u")
Told = tuple[str | None, str | None, int]  # user, session, seconds after noon; late ones too
Login = tuple[str, str]  # session, user

TOLD = st.tuples(
    st.sampled_from([None, *USERS]), st.sampled_from([None, *SESSIONS]), st.integers(-9, 9)
).filter(lambda row: row[0] is not None or row[1] is not None)
DAY = st.lists(
    st.one_of(
        st.lists(TOLD, min_size=1, max_size=6),
        st.tuples(st.sampled_from(SESSIONS), st.sampled_from(USERS)),
    ),
    max_size=8,
)


def live(store: Store, day: Sequence[list[Told] | Login], number: int = 0) -> None:
    for step in day:
        if isinstance(step, tuple):
            store.people.link(*step, linked_at_us=NOON_US)
            continue
        rows = []
        for user, session, at in step:
            number += 1
            rows.append(
                event(
                    f"e{number:03}",
                    user_id=user,
                    session_id=session,
                    item_id=f"i{number:03}",
                    event_time_us=NOON_US + at,
                )
            )
        store.append_events(events(*rows), received_at_us=NOON_US)


def by_day(store: Store, user_id: str) -> list[str]:
    recent = store.recent_events(
        user_id=user_id, session_id=None, before_us=NOON_US + 100, limit=1_000
    )
    return list(recent.item_ids)


def by_night(lake: Lake, user_id: str) -> list[str]:
    found = lake.scan_events().collect().sort("event_time_us", "event_id")
    return [row["item_id"] for row in found.to_dicts() if row["user_id"] == user_id]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(day=DAY)
def test_a_users_history_is_the_same_by_day_and_by_night(
    tmp_path_factory: pytest.TempPathFactory, day: list[list[Told] | Login]
) -> None:
    folder = tmp_path_factory.mktemp("identity")
    lake = Lake(folder / "lake")
    with open_store(folder) as store:
        half = len(day) // 2
        for steps, start in ((day[:half], 0), (day[half:], 500)):  # two nights
            live(store, steps, start)
            lake.close_events(store)
            lake.close_links(store)
            for user_id in USERS:
                assert by_day(store, user_id) == by_night(lake, user_id)


def test_logins_shared_devices_and_late_events(url: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with Store.open(url) as store:
        first: list[list[Told] | Login] = [
            [(None, "s", 1), (None, "s", 2)],
            ("s", "ann"),
            [("ann", "s", 3), ("bob", "s", 4), (None, "s", 5)],
            [(None, "s", -5), (None, "t", -4)],  # late
        ]
        live(store, first)
        lake.close_events(store)
        lake.close_links(store)
        assert by_day(store, "ann") == ["i006", "i001", "i002", "i003", "i005"]
        assert by_day(store, "bob") == ["i004"]
        for user_id in USERS:
            assert by_day(store, user_id) == by_night(lake, user_id)
        store.people.link("t", "bob", linked_at_us=NOON_US)  # days later
        lake.close_events(store)
        lake.close_links(store)
        assert by_night(lake, "bob") == by_day(store, "bob") == ["i007", "i004"]
