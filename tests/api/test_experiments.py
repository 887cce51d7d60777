"""Experiments over HTTP: their life, who gets what, and what the store remembers of it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from api.experiment_bodies import DESIGN
from recsys.experiments.assignment import Running, bucket
from tests.api.conftest import Client, Shop, open_client, until

NAME = "/v1/experiments/variety"


def design(**changes: object) -> dict[str, Any]:
    return {**DESIGN, **changes}


def draft(client: Client, **changes: object) -> dict[str, Any]:
    answer = client.put(NAME, json=design(**changes))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def step(client: Client, name: str, **body: object) -> dict[str, Any]:
    answer = client.post(f"{NAME}/{name}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def arm(client: Client, user_id: str | None = None, **body: object) -> str | None:
    answer = client.post("/v1/recommend", json={"user_id": user_id, **body}).json()
    assert answer["degraded"] == []
    given = [e["variant"] for e in answer["experiments"] if e["experiment"] == "variety"]
    return given[0] if given else None


def test_an_experiment_lives_from_draft_to_decision(client: Client) -> None:
    assert draft(client)["status"] == "draft"
    assert arm(client, "u1") is None, "a draft decides nothing"
    assert step(client, "start", reason="monday")["phases"][0]["weights"] == [0.5, 0.5]
    assert arm(client, "u1") in ("as-is", "varied")
    assert step(client, "stop", reason="enough")["status"] == "stopped"
    assert arm(client, "u1") is None
    decided = step(client, "decide", variant="varied", reason="+3 %")
    assert (decided["status"], decided["decision"]) == ("decided", "varied")
    assert [entry["action"] for entry in decided["log"]] == [
        "drafted",
        "started",
        "stopped",
        "decided",
    ]
    assert client.delete(NAME).status_code == 422, "what has run stays"


def test_a_draft_can_be_forgotten(client: Client) -> None:
    draft(client)
    assert client.delete(NAME).json()["deleted"] is True
    assert client.get(NAME).status_code == 404
    assert client.post(f"{NAME}/start", json={}).status_code == 404


def test_units_are_dealt_evenly_and_always_get_the_same(client: Client) -> None:
    draft(client)
    step(client, "start")
    arms = {f"u{n}": arm(client, f"u{n}", k=1) for n in range(200)}
    assert arms == {user_id: arm(client, user_id, k=1) for user_id in arms}
    counts = Counter(arms.values())
    assert set(counts) == {"as-is", "varied"}
    assert min(counts.values()) > 70  # 4 standard deviations below 100 are 72
    assert arm(client, None) is None, "a stranger without any id cannot be dealt"
    assert arm(client, "u1", placement="trending") is None, "it runs on home only"


def test_a_variant_changes_the_answer(client: Client) -> None:
    narrow = {"key": "narrow", "policy": {"sources": {"trending": 3}}}
    draft(client, variants=[{"key": "as-is"}, narrow], overrides={"a": "as-is", "b": "narrow"})
    step(client, "start")
    asks = [client.day.directives.known.running.assign(
        placement="home", user_id=user, session_id=None, now_us=0, attributes=dict
    ) for user in ("a", "b")]  # fmt: skip
    assert [dict(assigned.policy or {}) for assigned in asks] == [{}, narrow["policy"]]
    assert [arm(client, user) for user in ("a", "b")] == ["as-is", "narrow"]


def test_slates_remember_who_got_what_and_the_chances(shop: Shop, client: Client) -> None:
    draft(client, overrides={"tester": "varied"})
    step(client, "start")
    shown = [
        client.post("/v1/recommend", json={"user_id": user, "k": 2}).json()["request_id"]
        for user in ("u1", "tester")
    ]
    until(lambda: all(client.day.store.slate(request_id) for request_id in shown))
    first, second = (client.day.store.slate(request_id) for request_id in shown)
    assert first is not None
    assert second is not None
    (given,) = first.assignments
    assert (given.experiment, given.phase, given.how, given.unit_id) == ("variety", 1, "hash", "u1")
    assert second.assignments[0].how == "override"
    assert np.isnan(first.propensities).all(), "the fake recommender leaves nothing to chance"


def test_what_decides_who_sees_what_begins_a_new_phase(client: Client) -> None:
    draft(client)
    step(client, "start")
    weights = [{"key": "as-is", "weight": 1}, {**DESIGN["variants"][1], "weight": 3}]
    changed = draft(client, variants=weights)
    assert [phase["number"] for phase in changed["phases"]] == [1, 2]
    assert changed["phases"][0]["ended_at"] == changed["phases"][1]["started_at"]
    assert changed["phases"][1]["weights"] == [0.25, 0.75]
    assert changed["phases"][0]["seed"] != changed["phases"][1]["seed"]
    again = draft(client, variants=weights, hypothesis="said better")
    assert len(again["phases"]) == 2


def test_the_plan_of_a_running_experiment_is_fixed_in_words(client: Client) -> None:
    draft(client)
    step(client, "start")
    plan = {"goals": [{"name": "other", "event_type": "share"}]}
    refused = client.put(NAME, json=design(plan=plan))
    assert refused.status_code == 422
    assert "its plan is fixed, or goals could be chosen by result" in refused.text
    less = client.put(NAME, json=design(coverage=0.5))
    assert less.status_code == 422
    assert "whoever is in stays in" in less.text


def test_more_coverage_moves_nobody_who_is_in(client: Client) -> None:
    draft(client, coverage=0.2)
    step(client, "start")
    users = [f"u{n}" for n in range(150)]
    before = {user: arm(client, user, k=1) for user in users}
    draft(client, coverage=0.8)
    after = {user: arm(client, user, k=1) for user in users}
    assert all(after[user] == given for user, given in before.items() if given is not None)
    assert sum(g is not None for g in after.values()) > sum(g is not None for g in before.values())


def test_a_ramp_begins_at_its_time(client: Client) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    draft(client, coverage=0.0, ramp=[{"at": later.isoformat(), "coverage": 1.0}])
    step(client, "start")
    assert arm(client, "u1") is None
    running = client.day.directives.known.running
    assigned = running.assign(
        placement="home",
        user_id="u1",
        session_id=None,
        now_us=int(later.timestamp() * 1e6),
        attributes=dict,
    )
    assert len(assigned.assignments) == 1


def test_held_out_units_get_the_usual_and_are_remembered(client: Client) -> None:
    assert client.put("/v1/holdout", json={"share": 0.5}).json()["share"] == 0.5
    draft(client)
    step(client, "start")
    user = next(f"u{n}" for n in range(99) if bucket("holdout/holdout", f"u{n}") < 0.5)
    request_id = client.post("/v1/recommend", json={"user_id": user}).json()["request_id"]
    assert arm(client, user) is None
    until(lambda: client.day.store.slate(request_id) is not None)
    slate = client.day.store.slate(request_id)
    assert slate is not None
    assert slate.assignments[0].how == "holdout"


def test_targeting_asks_what_is_stored_of_the_user(client: Client) -> None:
    client.put("/v1/users/dutch", json={"attributes": {"country": "NL"}})
    draft(client, targeting="country = 'NL'")
    step(client, "start")
    assert arm(client, "dutch") is not None
    assert arm(client, "unknown") is None
    assert arm(client, None, session_id="s1") is None


def test_experiments_that_would_meet_are_refused_until_a_layer_parts_them(client: Client) -> None:
    draft(client)
    step(client, "start")
    other = "/v1/experiments/other"
    client.put(other, json=design())
    refused = client.post(f"{other}/start", json={})
    assert refused.status_code == 422
    assert "both vary diversity on the same placements" in refused.text
    step(client, "stop")
    draft(client, layer="home", layer_range=[0.0, 0.5])
    step(client, "start")
    overlapping = design(layer="home", layer_range=[0.4, 1.0])
    assert client.put(other, json=overlapping).status_code == 200
    assert "do not overlap" in client.post(f"{other}/start", json={}).text
    client.put(other, json=design(layer="home", layer_range=[0.5, 1.0]))
    assert client.post(f"{other}/start", json={}).status_code == 200
    for n in range(60):
        answer = client.post("/v1/recommend", json={"user_id": f"u{n}", "k": 1}).json()
        assert len(answer["experiments"]) == 1, "one layer, one experiment a unit"


def test_what_fails_in_an_experiment_lets_the_control_answer(
    client: Client, monkeypatch: Any
) -> None:
    draft(client, targeting="country = 'NL'")
    step(client, "start")
    people = client.day.store.people

    def broken(_user_id: str) -> dict[str, object]:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(people, "user", broken)
    answer = client.post("/v1/recommend", json={"user_id": "u1"}).json()
    assert answer["items"]
    assert (answer["experiments"], answer["degraded"]) == ([], ["experiments"])
    metrics = client.get("/metrics").text
    assert 'recsys_assignments_failed_total{experiment="variety"} 1.0' in metrics


def test_a_request_with_a_policy_of_its_own_is_in_no_experiment(client: Client) -> None:
    draft(client)
    step(client, "start")
    assert arm(client, "u1", policy={"diversity": 0.9}) is None


def test_interleaved_slates_name_the_team_of_each_position(client: Client) -> None:
    goals = [{"name": "clicks", "event_type": "click"}]
    draft(client, kind="interleave", plan={"goals": goals})
    step(client, "start")
    answer = client.post("/v1/recommend", json={"user_id": "u1", "k": 4}).json()
    assert answer["experiments"] == [{"experiment": "variety", "variant": "interleaved"}]
    assert len({item["item_id"] for item in answer["items"]}) == 4
    until(lambda: client.day.store.slate(answer["request_id"]) is not None)
    slate = client.day.store.slate(answer["request_id"])
    assert slate is not None
    assert slate.teams == "----", "both variants rank alike here: nobody earns anything"


def test_what_a_unit_would_get_can_be_asked(client: Client) -> None:
    draft(client, overrides={"tester": "varied"})
    asked = f"{NAME}/assignment?unit_id=tester"
    assert client.get(asked).json()["variant"] is None, "a draft gives nobody anything"
    step(client, "start")
    assert client.get(asked).json()["how"] == "override"
    assert client.get(f"{asked}&placement=trending").json()["variant"] is None


def test_a_report_is_there_once_an_analysis_was_made(client: Client) -> None:
    draft(client)
    assert "was not analysed yet" in client.get(f"{NAME}/report").text
    documents = client.day.store.documents
    documents.put("experiment_report", "variety", '{"verdict": "collecting"}', updated_at_us=1)
    assert client.get(f"{NAME}/report").json()["report"] == {"verdict": "collecting"}


def test_nonsense_is_refused_in_words(client: Client) -> None:
    for changes, words in (
        ({"variants": [{"key": "only"}]}, "at least 2"),
        ({"variants": [{"key": "a"}, {"key": "a"}]}, "twice"),
        ({"variants": [{"key": "a"}, {"key": "b", "policy": {"divercity": 1}}]}, "divercity"),
        ({"variants": [{"key": "a"}, {"key": "b", "release_id": "r"}]}, "found the release 'r'"),
        ({"overrides": {"u": "nobody"}}, "expected one of as-is, varied"),
        ({"layer_range": [0, 0.5]}, "the layer's name"),
        ({"targeting": "country ="}, "targeting"),
        ({"plan": {"goals": []}}, "goals"),
        ({"plan": {"goals": [{"name": "r", "kind": "ratio", "event_type": "click"}]}}, "per"),
    ):
        answer = client.put(NAME, json=design(**changes))
        assert answer.status_code == 422, changes
        assert words in answer.text
    assert client.get("/v1/experiments").json()["experiments"] == []


def test_another_process_follows_and_a_new_one_knows(shop: Shop, client: Client) -> None:
    with open_client(shop) as other:
        draft(client)
        step(client, "start")
        until(lambda: arm(other, "u1") is not None)
        assert arm(other, "u1") == arm(client, "u1")


def test_an_experiment_of_another_version_is_named_and_the_rest_runs(client: Client) -> None:
    documents = client.day.store.documents
    documents.put("experiment", "odd", '{"design": {"name": "odd"}}', updated_at_us=1)
    draft(client)
    step(client, "start")
    assert list(client.get("/v1/experiments").json()["unreadable"]) == ["experiment/odd"]
    assert arm(client, "u1") is not None
    assert isinstance(client.day.directives.known.running, Running)


@pytest.mark.parametrize("rival", ["variety", "other"])
def test_what_another_server_wrote_a_moment_before_counts(
    shop: Shop, client: Client, monkeypatch: pytest.MonkeyPatch, rival: str
) -> None:
    """It starts the same experiment, or one that would meet it, just before the first is kept."""
    for name in ("variety", "other"):
        assert client.put(f"/v1/experiments/{name}", json=design()).status_code == 200
    documents = client.day.store.documents
    keep, tries = documents.put_if_unchanged, []

    def late(*args: Any, **fields: Any) -> bool:
        tries.append(args)
        if len(tries) == 1:
            assert other.post(f"/v1/experiments/{rival}/start", json={}).status_code == 200
        return keep(*args, **fields)

    monkeypatch.setattr(documents, "put_if_unchanged", late)
    with open_client(shop) as other:
        refused = client.post(f"{NAME}/start", json={"reason": "second"})
    words = "it is running" if rival == "variety" else "both vary diversity"
    assert refused.status_code == 422
    assert words in refused.text
    kept = client.get(f"/v1/experiments/{rival}").json()
    assert [entry["action"] for entry in kept["log"]] == ["drafted", "started"]
    draft(client, hypothesis="said better")
    assert len(tries) == 2, "nobody was in between: kept at the first try"


def test_who_never_gets_a_word_in_is_told_so(client: Client, monkeypatch: Any) -> None:
    draft(client)
    monkeypatch.setattr(client.day.store.documents, "put_if_unchanged", lambda *_, **__: False)
    refused = client.post(f"{NAME}/start", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert "others keep writing" in refused.text


def test_the_longest_reason_can_be_given(client: Client) -> None:
    draft(client)
    started = step(client, "start", reason="x" * 2_000)
    assert started["log"][-1]["reason"] == "phase 1: " + "x" * 2_000


def test_no_experiment_is_named_like_a_folder_above(client: Client) -> None:
    assert client.put("/v1/experiments/.hidden", json=design()).status_code == 422
    assert client.put("/v1/experiments/%2E%2E", json=design()).status_code in (404, 405, 422)


def test_what_cannot_be_read_is_kept_from_harm_and_may_be_deleted(client: Client) -> None:
    documents = client.day.store.documents
    documents.put("experiment", "variety", '{"design": {"name": "variety"}}', updated_at_us=1)
    refused = client.put(NAME, json=design())
    assert (refused.status_code, "cannot be read" in refused.text) == (422, True)
    assert "cannot be read" in client.post(f"{NAME}/stop", json={}).text
    assert client.delete(NAME).status_code == 200
    assert client.get("/v1/experiments").json()["unreadable"] == {}
    draft(client)


def test_an_experiment_started_a_moment_before_is_not_deleted(
    shop: Shop, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft(client)
    documents = client.day.store.documents
    delete, tries = documents.delete_if_unchanged, []

    def late(*args: Any, **fields: Any) -> bool:
        tries.append(args)
        if len(tries) == 1:
            assert other.post(f"{NAME}/start", json={}).status_code == 200
        return delete(*args, **fields)

    monkeypatch.setattr(documents, "delete_if_unchanged", late)
    with open_client(shop) as other:
        refused = client.delete(NAME)
    assert (refused.status_code, "is running, expected a draft" in refused.text) == (422, True)
    assert client.get(NAME).json()["status"] == "running"
