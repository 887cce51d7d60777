"""A storefront's day, as it sees it through the API."""

from datetime import UTC, datetime, timedelta

from tests.api.conftest import Client, Shop, event, until


def test_before_the_first_night_events_and_items_are_accepted(
    shop: Shop, early_client: Client
) -> None:
    client = early_client
    refused = client.post("/v1/recommend", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
    assert refused.headers["Retry-After"]
    assert client.get("/healthz").json()["status"] == "alive"
    assert client.get("/readyz").status_code == 503
    assert client.tell(event("e1", item_id="early"))["accepted"] == 1
    stored = client.put("/v1/items/early", json={"title": "Early bird"}).json()
    assert (stored["changed"], stored["retrievable"]) == (True, False)

    shop.publish("r1")
    until(lambda: client.serves("r1"))
    assert client.get("/readyz").json()["release_id"] == "r1"
    assert "early" not in client.shown(user_id="u1", k=100), "the click came before the release"
    assert "early" in client.shown(user_id="u2", k=100)


def test_an_unknown_user_gets_a_sensible_answer(client: Client) -> None:
    answer = client.recommend(user_id="never seen", k=5)
    assert len(answer["items"]) == 5
    assert answer["release_id"] == "r1"
    assert answer["degraded"] == answer["missing_ids"] == answer["experiments"] == []
    assert len(client.shown()) == 10, "neither user nor session: a stranger"


def test_an_event_changes_the_very_next_answer(client: Client) -> None:
    for number in range(5):
        first = client.shown(user_id="u1", k=1)[0]
        client.tell(event(f"e{number}", item_id=first))
        assert first not in client.shown(user_id="u1", k=20)


def test_a_session_counts_like_a_user(client: Client) -> None:
    client.tell(event("e1", user_id=None, session_id="s1", item_id="i19"))
    assert "i19" not in client.shown(session_id="s1", k=20)
    assert "i19" in client.shown(session_id="s2", k=20)


def test_an_event_from_a_clock_that_runs_ahead_counts_at_once(client: Client) -> None:
    ahead = client.post("/v1/events", json={"events": [event("e1", event_time=_in_minutes(2))]})
    assert ahead.json()["accepted"] == 1
    assert "i00" not in client.shown(user_id="u1", k=20)


def test_the_same_event_twice_counts_once(client: Client) -> None:
    assert client.tell(event("e1"), event("e1"))["duplicate"] == 1
    again = client.tell(event("e1"), event("e2"))
    assert [v["verdict"] for v in again["verdicts"]] == ["duplicate", "accepted"]
    assert client.day.store.counts()["events"] == 2


def test_a_new_item_is_retrievable_at_once(client: Client) -> None:
    answer = client.put("/v1/items/fresh", json={"title": "Fresh kettle", "tags": ["kitchen"]})
    assert answer.json()["retrievable"] is True
    assert client.shown(k=1) == ["fresh"]
    assert client.shown(filter="tags = 'kitchen'") == ["fresh"]
    assert client.shown(query="kettle", k=1) == ["fresh"]


def test_an_unavailable_or_deleted_item_disappears_at_once(client: Client) -> None:
    client.put("/v1/items/i19", json={"title": "Sold out", "available": False})
    assert client.delete("/v1/items/i18").json()["deleted"] is True
    assert client.shown(k=1) == ["i17"]
    assert client.get("/v1/items/i18").status_code == 404
    assert client.delete("/v1/items/i18").status_code == 404
    client.put("/v1/items/i18", json={"title": "Back again"})
    assert client.shown(k=1) == ["i18"]


def test_an_item_comes_back_as_it_was_sent(client: Client) -> None:
    sent = {
        "title": "Ночник 🌙",
        "description": "מנורה",
        "tags": ["light", "bedroom"],
        "attributes": {"price": 12.5, "brand": "Lumo", "sizes": ["s", "m"]},
        "available": True,
        "published_at": "2026-01-02T03:04:05.000006Z",
    }
    assert client.put("/v1/items/a/b c?", json=sent).status_code == 200
    got = client.get("/v1/items/a/b c").json()
    assert {k: got[k] for k in sent} == sent
    assert client.put("/v1/items/a/b c", json=sent).json()["changed"] is False


def test_an_item_as_old_as_the_epoch_has_its_date(client: Client) -> None:
    client.put("/v1/items/first", json={"title": "x", "published_at": "1970-01-01T00:00:00Z"})
    got = client.get("/v1/items/first").json()["published_at"]
    assert got == "1970-01-01T00:00:00.000000Z"


def test_every_slate_is_written_down_with_what_was_served(client: Client) -> None:
    answer = client.recommend(
        user_id="u1", session_id="s1", placement="cart", context_item_ids=["i01"], k=3
    )
    until(lambda: client.day.slates.written == 1)
    slate = client.day.store.slate(answer["request_id"])
    assert slate is not None
    assert list(slate.item_ids) == [entry["item_id"] for entry in answer["items"]]
    assert (slate.user_id, slate.session_id, slate.placement) == ("u1", "s1", "cart")
    assert slate.release_id == "r1"
    assert slate.features.shape == (3, 3)


def test_closing_the_server_loses_no_slate(shop: Shop) -> None:
    shop.publish("r1")
    with Client(shop.app()) as client:
        until(lambda: client.serves("r1"))
        for _ in range(50):
            client.recommend()
    assert shop.store.counts()["slates"] == 50


def test_context_items_that_nobody_knows_are_named(client: Client) -> None:
    answer = client.recommend(context_item_ids=["i01", "ghost"], exclude_ids=["i19"])
    assert answer["missing_ids"] == ["ghost"]
    assert not {"i01", "i19"} & {entry["item_id"] for entry in answer["items"]}
    assert client.tell(event("e1", item_id="ghost"))["missing_ids"] == ["ghost"]


def _in_minutes(minutes: int) -> str:

    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
