"""What a storefront may ask of one slate, and what it gets."""

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from features.events import RecentEvents
from features.store import Store
from tests.api.conftest import Client, Shop, event, item, items, open_client, until
from tests.api.keys import bearer, give


def refused(client: Client, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code == 422, answer.text
    found: dict[str, Any] = answer.json()["error"]
    return found


def test_the_placement_is_home_and_for_words_search(client: Client) -> None:
    assert client.recommend()["placement"] == "home"
    assert client.recommend(query="title of i03")["placement"] == "search"
    assert client.recommend(query="title", placement="mail")["placement"] == "mail"


def test_words_find_what_matches_them(client: Client) -> None:
    assert client.shown(query="i03", k=1) == ["i03"]


def test_an_unknown_placement_is_refused_with_the_known_ones(client: Client) -> None:
    error = refused(client, placement="hoem")
    assert error["code"] == "unknown_placement"
    assert "'hoem'" in error["message"]
    assert "home" in error["message"]


def test_a_placement_about_other_items_wants_to_know_which(client: Client) -> None:
    assert "context_item_ids" in refused(client, placement="similar")["message"]
    answer = client.recommend(placement="similar", context_item_ids=["i03"], k=3)
    assert "i03" not in {entry["item_id"] for entry in answer["items"]}


def test_a_filter_narrows_and_says_where_it_cannot_be_read(client: Client) -> None:
    assert client.shown(filter="item_id in ('i03', 'i05') and price <= 10") == ["i05", "i03"]
    assert "filter" in refused(client, filter="price <")["details"][0]["field"]


def test_when_nothing_may_be_shown_the_answer_says_why(client: Client) -> None:
    answer = client.recommend(filter="item_id = 'nobody'")
    assert answer["items"] == []
    assert answer["has_next"] is False
    assert "removed" in answer


def test_properties_come_with_the_items(shop: Shop) -> None:
    attributes = '{"brand":"Lumo","price":10.0,"serial":100000000000000000000000000000}'
    row = item("full", description="All about it", tags=["a", "b"], attributes=attributes)
    shop.store.upsert_items(items(row), updated_at_us=2)
    with open_client(shop) as client:
        wanted = {"filter": "item_id = 'full'"}
        assert "properties" not in client.recommend(**wanted)["items"][0]
        every = client.recommend(**wanted, return_properties=True)["items"][0]["properties"]
        some = client.recommend(
            **wanted, return_properties=["title", "brand", "description", "colour"]
        )["items"][0]["properties"]
    assert every == {
        "title": "Title of full",
        "tags": ["a", "b"],
        "available": True,
        "attributes": {"brand": "Lumo", "price": 10.0, "serial": 10**29},
    }
    assert some == {"title": "Title of full", "brand": "Lumo", "description": "All about it"}


def test_explain_gives_numbers_and_what_was_removed(client: Client) -> None:
    answer = client.recommend(explain=True, k=1)
    assert "explanation" in answer["items"][0]
    assert answer["rules"] == {}
    assert "removed" in answer


def test_numbers_and_policies_are_for_keys_that_allow_them(client: Client) -> None:
    browser = bearer(give(client, "browser"))
    server = bearer(give(client, "server"))
    for body in ({"explain": True}, {"policy": {"exploration": 0.5}}):
        for path, asked in (("", body), ("/many", {"slates": [{}, body]})):
            sent: dict[str, Any] = {"url": f"/v1/recommend{path}", "json": asked}
            assert client.post(**sent, headers=browser).status_code == 403
            assert client.post(**sent, headers=server).status_code == 200
    tried = client.post("/v1/recommend", json={"validate_only": True}, headers=browser)
    assert tried.json()["valid"] is True


def test_a_page_may_be_continued_with_a_lesser_key_but_numbers_stay_behind(client: Client) -> None:
    browser = bearer(give(client, "browser"))
    server = bearer(give(client, "server"))
    asked = {"explain": True, "policy": {"diversity": 0.5}, "k": 2}
    first = client.post("/v1/recommend", json=asked, headers=server).json()
    for headers, explained in ((browser, False), (server, True)):
        then = client.post(
            "/v1/recommend/next", json={"request_id": first["request_id"]}, headers=headers
        ).json()
        assert ("explanation" in then["items"][0], "removed" in then) == (explained, explained)


def test_validate_only_checks_everything_and_shows_nothing(client: Client) -> None:
    answer = client.recommend(
        validate_only=True,
        placement="product_page",
        context_item_ids=["ghost", "i01"],
        filter="price < 5 and colour = 'red'",
    )
    assert answer["valid"] is True
    assert (answer["placement"], answer["k"]) == ("product_page", 10)
    assert answer["missing_ids"] == ["ghost"]
    assert answer["warnings"] == ["no item has the attribute 'colour'"]
    assert refused(client, validate_only=True, placement="hoem")["code"] == "unknown_placement"
    assert len(client.day.pages) == 0


def test_what_is_only_validated_counts_as_shown_nowhere(shop: Shop) -> None:
    with open_client(shop) as client:
        client.recommend(validate_only=True)
        shown = client.recommend()["request_id"]
    slates = [record.request_id for part in shop.store.slates_after(0) for _, record in part]
    assert slates == [shown]


def test_a_store_that_cannot_be_read_leaves_a_strangers_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.tell(event("e1", item_id="i19"))
    assert "i19" not in client.shown(user_id="u1")

    def broken(*_: object, **__: object) -> RecentEvents:
        raise OperationalError("select", {}, Exception("the disk is gone"))

    monkeypatch.setattr(Store, "recent_events", broken)
    answer = client.recommend(user_id="u1")
    assert answer["degraded"] == ["recent_events"]
    assert answer["items"][0]["item_id"] == "i19"


def test_descriptions_that_cannot_be_read_are_missed_and_named(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OperationalError("select", {}, Exception("the disk is gone"))

    monkeypatch.setattr(Store, "item", broken)
    answer = client.recommend(k=1, return_properties=["title", "description"])
    assert answer["degraded"] == ["descriptions"]
    assert answer["items"][0]["properties"] == {"title": "Title of i19"}


def test_an_answer_has_a_next_page_until_the_last_item(client: Client) -> None:
    assert client.recommend(k=19)["has_next"] is True
    assert client.recommend(k=20)["has_next"] is False
    few = {"filter": "item_id in ('i00', 'i01')"}
    assert client.recommend(k=1, **few)["has_next"] is True
    assert client.recommend(k=2, **few)["has_next"] is False
    assert client.recommend(k=1, **few, exclude_ids=["i00"])["has_next"] is False


def test_before_the_first_release_nothing_is_recommended(early_client: Client) -> None:
    for path, body in (
        ("/v1/recommend", {}),
        ("/v1/recommend/next", {"request_id": "0" * 32}),
        ("/v1/recommend/many", {"slates": [{}]}),
    ):
        answer = early_client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


def test_an_event_in_one_process_changes_the_answer_of_another(shop: Shop) -> None:
    with open_client(shop) as one, Client(shop.app()) as other:
        until(lambda: other.serves("r1"))
        assert other.shown(user_id="u1", k=1) == ["i19"]
        one.tell(event("e1", item_id="i19"))
        assert other.shown(user_id="u1", k=1) == ["i18"]
