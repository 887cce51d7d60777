"""Rules as data: checked when written, tried before they are live, counted when they fire."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import api.rules
from recsys.rules import RULE
from tests.api.conftest import Client, Shop, open_client, until
from tests.api.keys import bearer, give

HIDE = {"action": "hide", "where": "item_id = 'i19'"}
TWO = {"action": "hide", "where": "item_id in ('i19', 'i18')"}


def put(client: Client, rule_id: str, **body: object) -> dict[str, Any]:
    answer = client.put(f"/v1/rules/{rule_id}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pin(item_id: str, position: int = 0) -> dict[str, object]:
    return {"action": "pin", "item_id": item_id, "position": position}


def from_now(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def test_a_rule_holds_in_the_very_next_answer_until_it_is_deleted(client: Client) -> None:
    written = put(client, "sold-out", then=HIDE)
    assert (written["changed"], written["in_force"], written["warnings"]) == (True, True, [])
    assert put(client, "sold-out", then=HIDE)["changed"] is False
    assert client.shown(k=1) == ["i18"]
    assert client.delete("/v1/rules/sold-out").json()["deleted"] is True
    assert client.shown(k=1) == ["i19"]
    assert client.delete("/v1/rules/sold-out").status_code == 404


def test_a_rule_holds_in_its_placements_only(client: Client) -> None:
    put(client, "r", placements=["mail"], then=HIDE)
    assert client.shown(k=1) == ["i19"]
    assert client.shown(placement="mail", k=1) == ["i18"]


def test_a_rule_holds_in_its_window_only(client: Client) -> None:
    put(client, "later", starts_at=from_now(hours=1), then=HIDE)
    put(client, "over", ends_at=from_now(hours=-1), then=HIDE)
    put(client, "off", enabled=False, then=HIDE)
    assert client.shown(k=1) == ["i19"]
    assert [r["in_force"] for r in client.get("/v1/rules").json()["rules"]] == [False] * 3
    put(client, "soon", starts_at=from_now(seconds=0.3), then=HIDE)
    until(lambda: client.shown(k=1) == ["i18"], within_s=2.0)
    put(client, "soon", ends_at=from_now(seconds=0.3), then=HIDE)
    assert client.shown(k=1) == ["i18"]
    until(lambda: client.shown(k=1) == ["i19"], within_s=2.0)


def test_firings_are_counted_and_explained(client: Client) -> None:
    put(client, "hide", then=TWO)
    put(client, "idle", then={"action": "hide", "where": "item_id = 'nobody'"})
    for _ in range(3):
        client.recommend()
    answer = client.recommend(explain=True)
    assert answer["rules"] == {"hide": 2}, "items"
    counts = {r["rule_id"]: r["fired"] for r in client.get("/v1/rules").json()["rules"]}
    assert counts == {"hide": 4, "idle": 0}, "slates"
    assert client.get("/v1/rules/hide").json()["fired"] == 4
    assert client.day.directives.fired == {"hide": 4}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"then": {"action": "shout"}},
        {"then": {"action": "hide", "where": "price <"}},
        {"then": {"action": "hide", "where": ""}},
        {"then": {"action": "pin", "item_id": "i01", "position": -1}},
        {"then": {"action": "pin", "item_id": "i01", "position": "1"}},
        {"then": {"action": "boost", "where": "price < 5", "strength": 0}},
        {"then": HIDE, "context": "price <"},
        {"then": HIDE, "placements": ["a b"]},
        {"then": HIDE, "starts_at": "2026-11-23T10:00:00"},
        {"then": HIDE, "starts_at": "2026-11-23T10:00:00Z", "ends_at": "2026-11-23T10:00:00Z"},
        {"then": HIDE, "rule_id": "another"},
        {"then": HIDE, "nonsense": 1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(client: Client, body: dict[str, object]) -> None:
    assert client.put("/v1/rules/r", json=body).status_code == 422
    assert client.get("/v1/rules/r").status_code == 404


def test_what_may_be_meant_differently_is_pointed_out(client: Client) -> None:
    put(client, "first", then=pin("i01"))
    warnings = put(client, "second", placements=["home", "hoem"], then=pin("ghost"))["warnings"]
    assert "there is no placement 'hoem'" in warnings
    assert any("'ghost'" in text for text in warnings)
    assert any("'first'" in text and "position 0" in text for text in warnings)
    where = {"action": "hide", "where": "colour = 'red'"}
    assert put(client, "third", context="size = 1", then=where)["warnings"] == [
        "no item has the attribute 'size'",
        "no item has the attribute 'colour'",
    ]
    quota = {"action": "quota", "attribute": "brand", "at_most": 1}
    assert put(client, "fourth", then=quota)["warnings"] == ["no item has the attribute 'brand'"]


def test_pins_that_never_meet_are_no_concern(client: Client) -> None:
    put(client, "a", placements=["home"], ends_at=from_now(hours=1), then=pin("i01"))
    assert put(client, "b", placements=["mail"], then=pin("i02"))["warnings"] == []
    assert (
        put(client, "c", starts_at=from_now(hours=2), placements=["home"], then=pin("i02"))[
            "warnings"
        ]
        == []
    )
    assert put(client, "d", placements=["home"], then=pin("i02", 1))["warnings"] == []
    assert len(put(client, "e", then=pin("i03"))["warnings"]) == 3


def test_before_a_release_rules_are_stored_and_say_what_was_not_checked(
    early_client: Client,
) -> None:
    (warning,) = put(early_client, "r", then=HIDE)["warnings"]
    assert "no release" in warning
    assert early_client.get("/v1/rules").json()["rules"][0]["rule_id"] == "r"


def test_there_are_never_more_rules_than_a_request_can_bear(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.rules, "MAX_RULES", 2)
    put(client, "a", then=HIDE)
    put(client, "over", ends_at=from_now(hours=-1), then=HIDE)
    put(client, "b", then=HIDE)
    refused = client.put("/v1/rules/c", json={"then": HIDE})
    assert refused.status_code == 422
    assert "2" in refused.json()["error"]["message"]
    put(client, "b", then=pin("i03"))
    put(client, "c", enabled=False, then=HIDE)


def test_another_worker_follows_within_a_moment(shop: Shop) -> None:
    with open_client(shop) as one, Client(shop.app()) as other:
        until(lambda: other.serves("r1"))
        put(one, "r", then=HIDE)
        assert one.shown(k=1) == ["i18"]
        until(lambda: other.shown(k=1) == ["i18"], within_s=2.0)
        other.delete("/v1/rules/r")
        assert other.shown(k=1) == ["i19"]
        until(lambda: one.shown(k=1) == ["i19"], within_s=2.0)


def test_rules_outlive_a_restart_and_what_cannot_be_read_is_named(shop: Shop) -> None:
    with open_client(shop) as client:
        put(client, "good", then=HIDE)
    shop.store.documents.put(RULE, "bad", '{"rule_id":"bad","then":{}}', updated_at_us=1)
    with Client(shop.app()) as client:
        until(lambda: client.serves("r1"))
        assert client.shown(k=1) == ["i18"]
        listed = client.get("/v1/rules").json()
        assert [r["rule_id"] for r in listed["rules"]] == ["good"]
        assert list(listed["unreadable"]) == ["rule/bad"]
        assert list(client.get("/readyz").json()["unreadable"]) == ["rule/bad"]
        assert client.delete("/v1/rules/bad").status_code == 200
        assert client.get("/readyz").json()["unreadable"] == {}


def test_rules_and_placements_are_for_admins(client: Client) -> None:
    server, admin = (bearer(give(client, role)) for role in ("server", "admin"))
    for path in ("/v1/rules", "/v1/placements"):
        assert client.get(path, headers=server).status_code == 403
        assert client.get(path, headers=admin).status_code == 200
    for method, path in (("PUT", "/v1/rules/r"), ("POST", "/v1/rules/preview")):
        assert client.request(method, path, json={"then": HIDE}, headers=server).status_code == 403


def preview(client: Client, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/rules/preview", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(slate: dict[str, Any]) -> list[str]:
    return [entry["item_id"] for entry in slate["items"]]


def test_a_preview_shows_both_slates_and_changes_nothing(shop: Shop) -> None:
    with open_client(shop) as client:
        tried = preview(client, rule={"then": pin("i00", 1)}, ask={"k": 3})
        assert ids(tried["without_rule"]) == ["i19", "i18", "i17"]
        assert ids(tried["with_rule"]) == ["i19", "i00", "i18"]
        assert tried["fired"] == {"draft": 1}
        assert tried["in_force"] is True
        assert client.shown(k=3) == ["i19", "i18", "i17"]
        assert client.get("/v1/rules").json()["rules"] == []
        assert not client.day.directives.fired
        assert len(client.day.pages) == 1
    assert shop.store.counts()["slates"] == 1


def test_a_preview_of_a_stored_rule_replaces_it(client: Client) -> None:
    put(client, "r", then=HIDE)
    tried = preview(client, rule={"rule_id": "r", "then": pin("i00")}, ask={"k": 2})
    assert ids(tried["without_rule"]) == ["i19", "i18"]
    assert ids(tried["with_rule"]) == ["i00", "i19"]


def test_a_preview_is_of_the_moment_that_is_asked_for(client: Client) -> None:
    later = {"starts_at": from_now(days=2), "enabled": False, "then": HIDE}
    assert preview(client, rule=later, ask={})["in_force"] is True, "when it begins"
    now = preview(client, rule=later, ask={}, at=from_now())
    assert now["in_force"] is False
    assert ids(now["with_rule"]) == ids(now["without_rule"])
    elsewhere = preview(client, rule={"placements": ["mail"], "then": HIDE}, ask={})
    assert elsewhere["in_force"] is False


def test_a_preview_warns_as_writing_does(client: Client) -> None:
    (warning,) = preview(client, rule={"then": pin("ghost")}, ask={})["warnings"]
    assert "'ghost'" in warning


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "1969-07-20T00:00:00Z"]
)
def test_any_moment_is_a_moment(client: Client, at: str) -> None:
    assert put(client, "since", starts_at=at, then=HIDE)["starts_at"]
    assert put(client, "until", ends_at=at, then=HIDE)["ends_at"]
    assert len(ids(preview(client, rule={"then": pin("i00")}, ask={}, at=at)["with_rule"])) == 10
    assert len(client.shown()) == 10
