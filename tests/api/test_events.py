from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from api.bodies_told import MAX_EVENTS
from features.events import US_PER_SECOND
from features.store import Store
from tests.api.conftest import Client, Shop, event, open_client, until


def test_every_row_has_its_verdict_in_order(client: Client) -> None:
    rows: list[Any] = [
        event("e0"),
        event("e1", item_id=7),
        "not an object",
        event("e3", event_type="teleport"),
        event("e4", user_id=None),
        event("e0"),
        event("e6", usr_id="u1"),
        event("e7", event_time="2026-01-01T00:00:00"),
        event("e8", event_time=(datetime.now(UTC) + timedelta(hours=1)).isoformat()),
        event("e9", item_id="a\x00b"),
        event("e" * 300),
        event("e11", session_id="s1", value=2, request_id="r", event_time="2026-01-01T00:00:00Z"),
        {"user_id": "u1", "item_id": "i1", "event_type": "view"},
        None,
    ]
    answer = client.tell(*rows)
    verdicts = answer["verdicts"]
    assert [v["index"] for v in verdicts] == list(range(len(rows)))
    assert [v["verdict"][0] for v in verdicts] == list("arrrrdrrrrrarr")
    assert (answer["accepted"], answer["duplicate"], answer["rejected"]) == (2, 1, 11)
    assert verdicts[11]["event_id"] == "e11"
    expected = {
        1: "item_id",
        2: "row",
        3: "teleport",
        4: "session_id",
        6: "usr_id",
        7: "time zone",
        8: "future",
        9: "control character",
        10: "300 characters",
        12: "event_id",
        13: "row",
    }
    for index, words in expected.items():
        assert words in verdicts[index]["reason"], verdicts[index]
    assert all(("reason" in v) == (v["verdict"] == "rejected") for v in verdicts)
    assert client.day.store.counts()["events"] == 2


def test_a_batch_of_nothing_but_rubbish_is_answered_row_by_row(client: Client) -> None:
    answer = client.tell(1, [], {}, True)
    assert [v["verdict"] for v in answer["verdicts"]] == ["rejected"] * 4


@pytest.mark.parametrize("n", [0, MAX_EVENTS + 1])
def test_a_batch_of_none_or_too_many_is_refused_whole(client: Client, n: int) -> None:
    answer = client.post("/v1/events", json={"events": [event(f"e{i}") for i in range(n)]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert client.day.store.counts()["events"] == 0


def test_a_full_batch_is_accepted(client: Client) -> None:
    assert client.tell(*(event(f"e{i}") for i in range(MAX_EVENTS)))["accepted"] == MAX_EVENTS


def test_events_without_a_time_keep_their_order_and_get_the_servers(client: Client) -> None:
    client.tell(*(event(f"e{9 - i}", item_id=f"i0{i}") for i in range(5)))
    now_us = int(datetime.now(UTC).timestamp() * US_PER_SECOND)
    recent = client.day.store.recent_events(
        user_id="u1", session_id=None, before_us=now_us + 1, limit=9
    )
    assert list(recent.item_ids) == [f"i0{i}" for i in range(5)]
    assert now_us - recent.event_time_us[0] < 10 * US_PER_SECOND


def test_a_time_with_an_offset_is_stored_as_utc(client: Client) -> None:
    client.tell(event("e1", event_time="2026-01-01T02:00:00+02:00"))
    (stored,) = client.day.store.events_after(0)
    expected = datetime(2026, 1, 1, tzinfo=UTC).timestamp() * US_PER_SECOND
    assert stored["event_time_us"].to_list() == [expected]


def verdicts(client: Client, *rows: Any) -> list[str | None]:
    return [verdict.get("attribution") for verdict in client.tell(*rows)["verdicts"]]


@pytest.fixture
def workers(shop: Shop) -> Iterator[tuple[Client, Client]]:
    """Two processes' worth of servers on one store."""
    with open_client(shop) as one, Client(shop.app()) as other:
        until(lambda: other.serves("r1"))
        yield one, other


@pytest.mark.parametrize("is_stored", [False, True])
def test_an_event_says_whether_its_slate_showed_it_to_this_shopper(
    client: Client, is_stored: bool
) -> None:
    answer = client.recommend(user_id="ann", session_id="s1", k=2)  # i19, i18
    if is_stored:
        until(lambda: client.day.slates.written == 1)
    came = {"request_id": answer["request_id"], "item_id": "i19"}
    rows = [
        event("e0", **came, user_id="ann"),
        event("e1", **came, user_id="bob", session_id="s1"),
        event("e2", **came, user_id=None, session_id="s1"),
        event("e3", **came, user_id=None, session_id="s2"),
        event("e4", **came | {"item_id": "i00"}, user_id="ann"),
        event("e5", **came | {"request_id": "made up"}, user_id="ann"),
        event("e6", item_id="i19", user_id="ann"),
        event("e7", **came, user_id="ann", event_type="teleport"),
        event("e0", **came, user_id="ann"),
    ]
    expected = [
        "ok",
        "other_shopper",
        "ok",
        "other_shopper",
        "item_not_in_slate",
        "unknown_request",
        None,
        None,
        "ok",
    ]
    assert verdicts(client, *rows) == expected
    assert client.day.store.counts()["events"] == 7


def test_a_login_between_the_slate_and_the_click_is_the_same_shopper(client: Client) -> None:
    asked = client.recommend(session_id="s1", k=1)["request_id"]
    clicked = event("e1", user_id="ann", session_id="s1", item_id="i19", request_id=asked)
    assert verdicts(client, clicked) == ["ok"]
    nobody = client.recommend(k=1)["request_id"]
    anyone = event("e2", user_id="ann", item_id="i18", request_id=nobody)
    assert verdicts(client, anyone | {"item_id": "i19"}) == ["ok"]


def test_a_slate_that_another_server_showed_a_moment_ago_is_found(
    workers: tuple[Client, Client],
) -> None:
    one, other = workers
    for n in range(3):
        answer = one.recommend(user_id="ann", k=1)
        row = event(
            f"e{n}",
            user_id="ann",
            item_id=answer["items"][0]["item_id"],
            request_id=answer["request_id"],
        )
        assert verdicts(other, row) == ["ok"]


def test_clicks_are_counted_by_the_placement_that_led_to_them(client: Client) -> None:
    answer = client.recommend(user_id="ann", k=2)
    came = {"request_id": answer["request_id"], "user_id": "ann"}
    client.tell(
        event("e1", **came, item_id="i19"),
        event("e1", **came, item_id="i19"),
        event("e2", **came, item_id="i18", event_type="share"),
        event("e3", **came, item_id="i00"),
        event("e4", user_id="ann"),
    )
    tallies = client.app.state.metrics.tallies  # type: ignore[attr-defined]
    assert tallies["recsys_attributed_events"] == {("home", "click"): 1, ("home", "share"): 1}
    assert tallies["recsys_event_attribution"] == {("ok",): 2, ("item_not_in_slate",): 1}
    assert tallies["recsys_events"] == {("accepted",): 4, ("duplicate",): 1}


def test_events_are_acknowledged_although_their_slates_cannot_be_read(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Store, _: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    monkeypatch.setattr(Store, "shown", fail)
    answer = client.tell(event("e1", request_id="unknown"))
    assert (answer["accepted"], "attribution" in answer["verdicts"][0]) == (1, False)


def at(hours_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat()


def test_a_history_is_in_the_order_of_what_happened_whatever_the_order_of_arrival(
    client: Client,
) -> None:
    happened = {"i01": 5.0, "i02": 4.0, "i03": 3.0, "i04": 2.0, "i05": 1.0}
    for n, item_id in enumerate(("i03", "i05", "i01")):
        client.tell(event(f"e{n}", item_id=item_id, event_time=at(happened[item_id])))
    client.tell(*(event(f"l{i}", item_id=i, event_time=at(happened[i])) for i in ("i04", "i02")))
    recent = client.day.store.recent_events(
        user_id="u1", session_id=None, before_us=2**62, limit=100
    )
    assert list(recent.item_ids) == [*happened]


def test_a_very_late_event_does_not_jump_to_the_front(client: Client) -> None:
    client.tell(event("e1", item_id="i05", event_time=at(1)))
    client.tell(event("late", item_id="i00", event_time=at(24 * 400)))
    recent = client.day.store.recent_events(
        user_id="u1", session_id=None, before_us=2**62, limit=100
    )
    assert list(recent.item_ids) == ["i00", "i05"]
    newest = client.day.store.recent_events(user_id="u1", session_id=None, before_us=2**62, limit=1)
    assert list(newest.item_ids) == ["i05"]


def test_a_clock_that_is_ahead_is_held_to_now(client: Client) -> None:
    client.tell(event("e1", event_time=at(-0.05)))
    (stored,) = client.day.store.events_after(0)
    assert stored["event_time_us"].to_list() == stored["received_at_us"].to_list()
