from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.bodies_told import MAX_EVENTS
from features.events import US_PER_SECOND
from tests.api.conftest import Client, event


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
