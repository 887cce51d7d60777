"""Whom an experiment takes in, and what is remembered of it."""

import pytest

from tests.api.conftest import Client, Shop
from tests.api.test_experiments import NAME, design, draft, step


def test_the_holdout_stands_still_while_anything_runs(client: Client) -> None:
    assert client.put("/v1/holdout", json={"share": 0.2}).status_code == 200
    draft(client)
    step(client, "start")
    refused = client.put("/v1/holdout", json={"share": 0.3})
    assert (refused.status_code, "found variety running" in refused.text) == (422, True)
    assert client.put("/v1/holdout", json={"share": 0.2}).status_code == 200, "nothing changes"
    step(client, "stop")
    assert client.put("/v1/holdout", json={"share": 0.3}).status_code == 200


def test_a_session_of_a_held_out_user_is_held_out(client: Client) -> None:
    client.put("/v1/holdout", json={"share": 0.5})
    draft(client, unit="session")
    step(client, "start")
    hows: dict[int, set[bool]] = {}
    for user in range(12):
        for session in range(4):
            told = client.recommend(user_id=f"u{user}", session_id=f"s{user}-{session}", k=1)
            assert len(told["experiments"]) <= 1
            hows.setdefault(user, set()).add(bool(told["experiments"]))
    assert {len(found) for found in hows.values()} == {1}, "all of a user's sessions, or none"
    assert {next(iter(found)) for found in hows.values()} == {True, False}


def test_a_tester_sees_what_they_asked_for_whatever_else_is_in_the_layer(client: Client) -> None:
    ranges = {"variety": [0.0, 0.5], "other": [0.5, 1.0]}
    for name, part in ranges.items():
        of = design(
            layer="home",
            layer_range=part,
            overrides={"tester": "varied"} if name == "variety" else {},
            variants=[
                {"key": "as-is"},
                {"key": "varied", "policy": {"diversity": 0.4 if name == "variety" else 0.9}},
            ],
        )
        assert client.put(f"/v1/experiments/{name}", json=of).status_code == 200
        assert client.post(f"/v1/experiments/{name}/start", json={}).status_code == 200
    told = client.recommend(user_id="tester", k=1)["experiments"]
    assert [(e["experiment"], e["variant"]) for e in told] == [("variety", "varied")]
    others = [client.recommend(user_id=f"u{n}", k=1)["experiments"] for n in range(30)]
    assert {e["experiment"] for es in others for e in es} == {"variety", "other"}
    assert {len(es) for es in others} == {1}


def test_a_slate_that_stayed_empty_is_logged_with_its_variant(shop: Shop, client: Client) -> None:
    draft(client)
    step(client, "start")
    answer = client.recommend(user_id="u1", filter="tags = 'nothing has it'")
    assert answer["items"] == []
    client.day.slates.flush()
    (kept,) = shop.store.assignments_after(0)
    assert kept["unit_id"].to_list() == ["u1"]


def test_attributes_are_read_once_for_all_slates_of_a_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put("/v1/users/u1", json={"attributes": {"country": "NL"}})
    draft(client, targeting="country = 'NL'")
    step(client, "start")
    people, calls = client.day.store.people, []
    user = people.user

    def counted(user_id: str) -> dict[str, object] | None:
        calls.append(user_id)
        return user(user_id)

    monkeypatch.setattr(people, "user", counted)
    body = {"user_id": "u1", "slates": [{"k": 1}] * 4}
    slates = client.post("/v1/recommend/many", json=body).json()["slates"]
    assert all(slate["experiments"] for slate in slates)
    assert calls == ["u1"]


def test_who_is_erased_is_no_tester_either(client: Client) -> None:
    draft(client, overrides={"tester": "varied", "other": "as-is"})
    assert client.delete("/v1/users/tester").status_code == 202
    assert client.get(NAME).json()["design"]["overrides"] == {"other": "as-is"}
