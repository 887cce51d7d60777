"""Users through HTTP: attributes, login, export, erasure."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.answers_told import ErasureAnswer, UserExport
from tests.api.conftest import Client, Shop, event, manifest, open_client, until


@pytest.fixture
def workers(shop: Shop) -> Iterator[tuple[Client, Client]]:
    """Two processes' worth of servers on one store, whose release knows some shoppers."""
    draft = shop.releases.draft("r0")
    shop.store.items().write_parquet(draft / "items.parquet")
    shoppers = ["ann", "bob", "session:s-ann", "session:s-bob", "user:session:ann"]
    (draft / "facts.json").write_text(json.dumps({"answers": True, "shoppers": shoppers}))
    shop.releases.publish(draft, manifest("r0", shop.store.items_changed_after(0)[0]))
    with Client(shop.app()) as one, Client(shop.app()) as other:
        until(lambda: one.serves("r0") and other.serves("r0"))
        yield one, other


def known(client: Client) -> set[str]:
    serving = client.day.live.serving
    assert serving is not None
    return {*serving.recommender.shoppers()}


def got(client: Client, user_id: str) -> dict[str, Any]:
    answer = client.get(f"/v1/users/{user_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["attributes"]
    return found


def exported(client: Client, user_id: str) -> UserExport:
    return UserExport.model_validate_json(client.get(f"/v1/exports/users/{user_id}").content)


def erased(client: Client, user_id: str) -> ErasureAnswer:
    answer = client.delete(f"/v1/users/{user_id}")
    assert answer.status_code == 202, answer.text
    return ErasureAnswer.model_validate_json(answer.content)


def test_attributes_are_put_patched_and_read(client: Client) -> None:
    path = "/v1/users/ann/of/green"
    attributes = {"country": "NL", "age": 2**65, "likes": ["lamps"], "price": "any"}
    for changed in (True, False):
        stored = client.put(path, json={"attributes": attributes})
        assert (stored.status_code, stored.json()["changed"]) == (200, changed)
    assert got(client, "ann/of/green") == attributes
    patch = {"attributes": {"country": "BE", "likes": None, "vip": True}}
    assert client.patch(path, json=patch).json()["changed"] is True
    assert got(client, "ann/of/green") == {
        "country": "BE",
        "age": 2**65,
        "vip": True,
        "price": "any",
    }
    assert client.patch(path, json={}).json()["changed"] is False
    client.patch(path, json={"attributes": None})
    assert got(client, "ann/of/green") == {}


@pytest.mark.parametrize("method", ["get", "patch"])
def test_a_user_of_whom_nothing_is_stored_is_404(client: Client, method: str) -> None:
    body: object = {} if method == "patch" else None
    answer = client.request(method, "/v1/users/nobody", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body", [{"attributes": [1]}, {"attributes": {"a": {"b": 1}}}, {"name": "Ann"}, 1]
)
def test_what_is_no_user_is_refused(client: Client, body: object) -> None:
    assert client.put("/v1/users/ann", json=body).status_code == 422


def test_users_are_listed_by_cursor(client: Client) -> None:
    for n in range(5):
        client.put(f"/v1/users/u{n}", json={"attributes": {"n": n}})
    found, after = [], None
    for _ in range(3):
        asked = {"limit": "2"} if after is None else {"limit": "2", "after": after}
        page = client.get("/v1/users", params=asked).json()
        found += page["users"]
        after = page["next"]
    assert after is None
    assert found == [{"user_id": f"u{n}", "attributes": {"n": n}} for n in range(5)]


def test_what_a_session_saw_is_known_after_login_on_another_device(client: Client) -> None:
    """Anonymous on the phone; a login there; then the same user at a computer."""
    client.tell(
        *(event(f"e{n}", user_id=None, session_id="phone", item_id=f"i1{n}") for n in (9, 8))
    )
    assert client.shown(user_id="ann", session_id="computer", k=1) == ["i19"]
    linked = client.post("/v1/sessions", json={"session_id": "phone", "user_id": "ann"})
    assert linked.json()["linked"] is True
    assert client.shown(user_id="ann", session_id="computer", k=1) == ["i17"]
    assert client.shown(user_id="ann", k=1) == ["i17"]
    other = client.post("/v1/sessions", json={"session_id": "phone", "user_id": "bob"})
    assert other.json()["linked"] is False
    assert client.shown(user_id="bob", k=1) == ["i19"], "the first user keeps the session"


def test_an_event_with_both_ids_is_a_login_too(client: Client) -> None:
    client.tell(event("e1", user_id=None, session_id="phone", item_id="i19"))
    client.tell(event("e2", user_id="ann", session_id="phone", item_id="i18"))
    assert client.shown(user_id="ann", k=1) == ["i17"]


def test_an_export_has_everything_of_the_user_and_nothing_of_others(client: Client) -> None:
    client.put("/v1/users/ann", json={"attributes": {"country": "NL", "n": 2**70}})
    client.tell(
        event("e1", user_id=None, session_id="phone", item_id="i19"),
        event("e2", user_id="ann", session_id="phone"),
        event("e3", user_id="bob", session_id="tablet"),
    )
    shown = client.recommend(user_id="ann", k=3)
    client.recommend(user_id="bob", k=3)
    until(lambda: client.day.slates.written == 2)
    export = exported(client, "ann")
    assert (export.user_id, export.session_ids) == ("ann", ["phone"])
    assert export.attributes == {"country": "NL", "n": 2**70}
    assert [row["event_id"] for row in export.events] == ["e1", "e2"]
    (slate,) = export.slates
    assert slate["request_id"] == shown["request_id"]
    assert slate["item_ids"] == [entry["item_id"] for entry in shown["items"]]
    nobody = exported(client, "nobody")
    assert (nobody.attributes, nobody.events, nobody.slates) == (None, [], [])


def test_an_erased_user_is_gone_from_the_store_and_a_stranger_to_every_server(
    workers: tuple[Client, Client],
) -> None:
    one, other = workers
    one.put("/v1/users/ann", json={"attributes": {"country": "NL"}})
    one.tell(
        event("e1", user_id=None, session_id="s-ann", item_id="i19"),
        event("e2", user_id="ann", session_id="s-ann", item_id="i18"),
        event("e3", user_id="bob", session_id="s-bob", item_id="i19"),
    )
    page = one.recommend(user_id="ann", k=2)  # still queued when the erasure is asked for
    receipt = erased(one, "ann")
    assert receipt.status == "pending"
    assert receipt.erased["events"] == 2
    assert receipt.erased["slates"] == 1
    assert receipt.erased["users"] == 1
    for server in workers:
        until(lambda s=server: known(s) == {"bob", "session:s-bob", "user:session:ann"})  # type: ignore[misc]
        assert server.shown(user_id="ann", k=1) == ["i19"]
        assert server.shown(user_id="bob", k=1) == ["i18"]
    following = one.post("/v1/recommend/next", json={"request_id": page["request_id"]})
    assert (following.status_code, following.json()["error"]["code"]) == (404, "page_expired")
    assert other.get("/v1/users/ann").status_code == 404
    assert exported(other, "ann").events == []
    seen = ErasureAnswer.model_validate_json(
        other.get(f"/v1/erasures/{receipt.receipt_id}").content
    )
    assert (seen.status, seen.lake_rows) == ("pending", None)
    one.day.store.people.finish_erasure(receipt.receipt_id, 7, 1_800_000_000_000_000)
    done = ErasureAnswer.model_validate_json(
        other.get(f"/v1/erasures/{receipt.receipt_id}").content
    )
    assert (done.status, done.lake_rows) == ("complete", 7)
    assert done.completed_at == "2027-01-15T08:00:00.000000Z"


def test_a_release_from_before_an_erasure_does_not_bring_the_user_back(
    shop: Shop, workers: tuple[Client, Client]
) -> None:
    one, _ = workers
    receipt = erased(one, "ann")
    one.day.store.people.finish_erasure(receipt.receipt_id, 0, 1)
    erased(one, "session:ann")
    shop.publish("r1")
    until(lambda: one.serves("r1"))
    shop.releases.activate("r0")
    until(lambda: one.serves("r0"))
    assert known(one) == {"bob", "session:s-ann", "session:s-bob"}


def test_a_user_of_whom_nothing_is_stored_gets_a_receipt_too(client: Client) -> None:
    assert sum(erased(client, "nobody").erased.values()) == 0
    missing = client.get("/v1/erasures/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_an_erased_user_who_comes_back_is_known_by_what_follows(shop: Shop) -> None:
    with open_client(shop) as client:
        client.tell(event("e1", user_id="ann", item_id="i19"))
        erased(client, "ann")
        client.tell(event("e1", user_id="ann", item_id="i18"))
        assert client.shown(user_id="ann", k=2) == ["i19", "i17"]
