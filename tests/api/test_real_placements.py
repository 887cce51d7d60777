"""Placements, rules and pages on a release that a night trained."""

from collections.abc import Iterator

import pytest

from api.app import create_app
from recsys.placements import DEFAULT_PLACEMENTS
from recsys.settings import Settings
from tests.api.conftest import Client, event, until

COLOR = "blue"
CONTEXT = [f"{COLOR}-hat"]


@pytest.fixture
def client(real_settings: Settings) -> Iterator[Client]:
    with Client(create_app(real_settings)) as opened:
        until(lambda: opened.day.live.serving is not None)
        yield opened


@pytest.mark.parametrize("placement", [p.name for p in DEFAULT_PLACEMENTS])
def test_every_placement_pages_without_repeats(client: Client, placement: str) -> None:
    client.tell(event("e1", user_id="fan", item_id=f"{COLOR}-sock"))
    answer = client.recommend(
        user_id="fan", placement=placement, context_item_ids=CONTEXT, k=7, explain=True
    )
    assert answer["degraded"] == []
    shown = [entry["item_id"] for entry in answer["items"]]
    for _ in range(4):
        assert answer["has_next"] is True
        body = {"request_id": answer["request_id"]}
        answer = client.post("/v1/recommend/next", json=body).json()
        shown += [entry["item_id"] for entry in answer["items"]]
    assert len({*shown}) == len(shown) == 35
    assert CONTEXT[0] not in shown


def test_what_a_slate_is_about_is_no_next_page_of_it(client: Client) -> None:
    client.tell(event("e1", user_id="fan", item_id="blue-sock"))
    answer = client.recommend(
        user_id="fan",
        placement="because_you_viewed",
        filter="item_id in ('blue-sock', 'blue-hat')",
        k=1,
    )
    assert answer["about_item_ids"] == ["blue-sock"]
    assert [entry["item_id"] for entry in answer["items"]] == ["blue-hat"]
    assert answer["has_next"] is False


def test_pages_end_when_the_catalogue_does(client: Client) -> None:
    n_items = client.get("/readyz").json()["items"]
    answer = client.recommend(k=50)
    shown = [entry["item_id"] for entry in answer["items"]]
    while answer["has_next"]:
        body = {"request_id": answer["request_id"]}
        answer = client.post("/v1/recommend/next", json=body).json()
        shown += [entry["item_id"] for entry in answer["items"]]
    assert len({*shown}) == len(shown) == n_items


def test_rules_do_what_they_say_over_pages(client: Client) -> None:
    for rule_id, then in (
        ("a", {"action": "hide", "where": f"color = '{COLOR}'"}),
        ("b", {"action": "pin", "item_id": "red-hat", "position": 7}),
        ("c", {"action": "quota", "attribute": "color", "at_most": 1}),
    ):
        put = client.put(f"/v1/rules/{rule_id}", json={"then": then})
        assert (put.status_code, put.json()["warnings"]) == (200, [])
    first = client.recommend(k=5, explain=True)
    body = {"request_id": first["request_id"]}
    pages = [first, client.post("/v1/recommend/next", json=body).json()]
    for page in pages:
        colors = [entry["item_id"].split("-")[0] for entry in page["items"]]
        assert COLOR not in colors
        assert len({*colors}) == len(colors)
    assert pages[1]["items"][2]["item_id"] == "red-hat"
    assert first["rules"]["a"] > 0
    fired = {r["rule_id"]: r["fired"] for r in client.get("/v1/rules").json()["rules"]}
    assert fired["a"] == 2
    assert fired["b"] == 1


def test_a_preview_moves_nothing_but_what_the_rule_moves(client: Client) -> None:
    rule = {"then": {"action": "bury", "where": f"color = '{COLOR}'", "strength": 1}}
    body = {"rule": rule, "ask": {"user_id": "fan", "k": 20}}
    first, again = (client.post("/v1/rules/preview", json=body).json() for _ in range(2))
    before, after = (
        [entry["item_id"] for entry in first[name]["items"]]
        for name in ("without_rule", "with_rule")
    )
    assert any(item_id.startswith(COLOR) for item_id in before)
    assert not any(item_id.startswith(COLOR) for item_id in after)
    assert before == [entry["item_id"] for entry in again["without_rule"]["items"]]


def test_slates_of_one_call_share_no_item(client: Client) -> None:
    slates = [
        {"placement": name, "context_item_ids": CONTEXT, "k": 8}
        for name in ("similar", "viewed_together", "home", "trending", "new")
    ]
    answer = client.post("/v1/recommend/many", json={"slates": slates}).json()
    shown = [entry["item_id"] for slate in answer["slates"] for entry in slate["items"]]
    assert len({*shown}) == len(shown) == 40
