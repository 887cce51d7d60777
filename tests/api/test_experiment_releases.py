"""Experiments whose variants are answered from releases beside the live one."""

import shutil
from typing import Any

from tests.api.conftest import Client, Shop, until
from tests.api.test_experiments import NAME, design, draft, step

OF_RELEASES: dict[str, Any] = {
    "variants": [{"key": "old", "release_id": "r1"}, {"key": "new", "release_id": "r2"}]
}


def test_a_variant_is_answered_from_its_release_beside_the_live_one(
    shop: Shop, client: Client
) -> None:
    shop.publish("r2", [f"n{n}" for n in range(20)])
    until(lambda: client.serves("r2"))
    draft(client, **OF_RELEASES)
    step(client, "start")
    until(lambda: {*client.day.live.beside} == {"r1", "r2"})
    until(lambda: all(client.day.live.of(r) is not None for r in ("r1", "r2")))
    answers = [client.recommend(user_id=f"u{n}", k=1) for n in range(40)]
    given = {
        (a["experiments"][0]["variant"], a["release_id"], a["items"][0]["item_id"]) for a in answers
    }
    assert given == {("old", "r1", "i19"), ("new", "r2", "n19")}
    assert client.recommend(k=1)["release_id"] == "r2", "strangers are in no experiment"
    client.delete("/v1/items/i19")
    assert "i19" not in {client.shown(user_id=f"u{n}", k=1)[0] for n in range(40)}
    step(client, "stop")
    until(lambda: not client.day.live.beside)
    assert {client.recommend(user_id=f"u{n}", k=1)["release_id"] for n in range(40)} == {"r2"}


def test_nobody_takes_part_while_a_release_of_the_experiment_is_not_loaded(
    shop: Shop, client: Client
) -> None:
    shop.publish("r2", answers=False)  # refused by the probe
    shop.releases.activate("r1")
    draft(client, **OF_RELEASES)
    step(client, "start")
    until(lambda: client.day.live.of("r1") is not None)
    answers = [client.recommend(user_id=f"u{n}", k=1) for n in range(20)]
    assert {a["release_id"] for a in answers} == {"r1"}
    assert all(a["experiments"] == [] and a["degraded"] == ["experiments"] for a in answers)


def test_a_release_that_is_not_stored_is_refused(client: Client) -> None:
    answer = client.put(NAME, json=design(**OF_RELEASES))
    assert answer.status_code == 422
    assert "variants.new: found the release 'r2', expected one of r1" in answer.text


def test_a_variants_next_page_and_previews_come_from_its_release(
    shop: Shop, client: Client
) -> None:
    shop.publish("r2", [f"n{n}" for n in range(40)])
    until(lambda: client.serves("r2"))
    draft(client, **OF_RELEASES)
    step(client, "start")
    until(lambda: all(client.day.live.of(r) is not None for r in ("r1", "r2")))
    for n in range(20):
        first = client.recommend(user_id=f"u{n}", k=2)
        body = {"request_id": first["request_id"]}
        second = client.post("/v1/recommend/next", json=body).json()
        assert second["release_id"] == first["release_id"]
        letters = {entry["item_id"][0] for entry in (*first["items"], *second["items"])}
        assert letters == {"i" if first["release_id"] == "r1" else "n"}
        rule = {"then": {"action": "hide", "where": "tags = 'x'"}}
        preview = client.post(
            "/v1/rules/preview",
            json={"rule": rule, "ask": {"user_id": f"u{n}", "return_properties": True}},
        ).json()
        for shown in (preview["with_rule"], preview["without_rule"]):
            assert {entry["item_id"][0] for entry in shown["items"]} == letters


def test_what_a_start_names_must_still_be_there(shop: Shop, client: Client) -> None:
    answer = client.put(NAME, json=design(placements=["hone"]))
    assert answer.status_code == 422
    assert "placements: found 'hone', expected some of home, " in answer.text
    shop.publish("r2")
    draft(client, **OF_RELEASES)
    shop.releases.activate("r1")
    shutil.rmtree(shop.releases.path("r2"))
    answer = client.post(f"{NAME}/start", json={})
    assert answer.status_code == 422
    assert "variants.new: found the release 'r2', expected one of r1" in answer.text


def test_a_release_that_is_missing_switches_off_its_own_experiment_alone(
    shop: Shop, client: Client
) -> None:
    shop.publish("r2", answers=False)
    shop.releases.activate("r1")
    draft(client, **OF_RELEASES)
    step(client, "start")
    other = design(variants=[{"key": "a"}, {"key": "b", "policy": {"exploration": 0.2}}])
    assert client.put("/v1/experiments/other", json=other).status_code == 200
    assert client.post("/v1/experiments/other/start", json={}).status_code == 200
    live = client.day.live
    until(lambda: "r2" in live.beside and "r2" in live.beside["r2"].refused)
    answers = [client.recommend(user_id=f"u{n}", k=1) for n in range(20)]
    assert {a["release_id"] for a in answers} == {"r1"}
    assert all([e["experiment"] for e in a["experiments"]] == ["other"] for a in answers)
    assert [r["release_id"] for r in client.get("/readyz").json()["refused"]] == ["r2"]
