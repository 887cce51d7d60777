"""Placements as data: in force in the next answer, here at once and elsewhere in a moment."""

from typing import Any

from recsys.placements import DEFAULT_PLACEMENTS, PLACEMENT
from tests.api.conftest import Client, Shop, open_client, until

FIRST = "item_id in ('i00', 'i01', 'i02', 'i03', 'i04')"


def put(client: Client, name: str, **body: object) -> dict[str, Any]:
    answer = client.put(f"/v1/placements/{name}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_defaults_are_there_before_anybody_writes_one(client: Client) -> None:
    listed = client.get("/v1/placements").json()["placements"]
    assert {p["name"] for p in listed} == {p.name for p in DEFAULT_PLACEMENTS}
    assert not any(p["stored"] for p in listed)


def test_a_new_placement_holds_in_the_very_next_answer(client: Client) -> None:
    written = put(client, "footer", k=2, filter=FIRST)
    assert (written["changed"], written["stored"], written["warnings"]) == (True, True, [])
    assert put(client, "footer", k=2, filter=FIRST)["changed"] is False
    assert client.shown(placement="footer") == ["i04", "i03"]
    assert client.shown(placement="footer", k=1) == ["i04"], "a request may ask for another k"
    assert client.shown(placement="footer", filter="item_id in ('i00', 'i01', 'i10')") == [
        "i01",
        "i00",
    ]
    assert client.get("/v1/placements/footer").json()["k"] == 2


def test_a_stored_placement_replaces_a_default_until_it_is_deleted(client: Client) -> None:
    put(client, "home", k=3)
    assert len(client.shown()) == 3
    assert client.delete("/v1/placements/home").json()["deleted"] is True
    assert len(client.shown()) == 10
    assert client.delete("/v1/placements/home").status_code == 404


def test_a_deleted_placement_is_unknown(client: Client) -> None:
    put(client, "footer")
    client.delete("/v1/placements/footer")
    assert client.post("/v1/recommend", json={"placement": "footer"}).status_code == 422
    assert client.get("/v1/placements/footer").status_code == 404


def test_its_policy_is_the_releases_but_for_what_it_changes(client: Client) -> None:
    put(client, "open", policy={"filter_viewed": False, "diversity": 0.7})
    serving = client.day.live.required()
    directives = client.day.directives
    policy = directives.policy(directives.placement("open"), serving.policy)
    assert (policy.filter_viewed, policy.diversity) == (False, 0.7)
    assert policy.exploration == serving.policy.exploration


def test_what_makes_no_sense_is_refused(client: Client) -> None:
    for body in (
        {"k": 0},
        {"k": "3"},
        {"filter": "price <"},
        {"policy": {"diversity": 7}},
        {"policy": {"colour": "red"}},
        {"name": "another"},
        {"nonsense": 1},
    ):
        assert client.put("/v1/placements/new", json=body).status_code == 422, body
    assert client.put("/v1/placements/new", json={"name": "new"}).status_code == 200


def test_attributes_that_no_item_has_are_pointed_out(client: Client) -> None:
    assert put(client, "red", filter="colour = 'red'")["warnings"] == [
        "no item has the attribute 'colour'"
    ]


def test_another_worker_follows_within_a_moment(shop: Shop) -> None:
    with open_client(shop) as one, Client(shop.app()) as other:
        until(lambda: other.serves("r1"))
        put(one, "home", k=3)
        until(lambda: len(other.shown()) == 3, within_s=2.0)
        one.delete("/v1/placements/home")
        until(lambda: len(other.shown()) == 10, within_s=2.0)


def test_what_cannot_be_read_is_skipped_and_named(shop: Shop) -> None:
    shop.store.documents.put(PLACEMENT, "home", '{"name":"home","k":0}', updated_at_us=1)
    shop.store.documents.put(PLACEMENT, "footer", '{"name":"footer","k":2}', updated_at_us=1)
    with open_client(shop) as client:
        assert len(client.shown()) == 10, "the default holds"
        assert len(client.shown(placement="footer")) == 2
        found = client.get("/readyz").json()["unreadable"]
    assert list(found) == ["placement/home"]
    assert found["placement/home"].startswith("k: ")
