"""All slates of a page in one call."""

from typing import Any

import pytest

from features.events import RecentEvents
from features.store import Store
from tests.api.conftest import Client, event, until
from tests.api.keys import bearer, give


def asked(client: Client, *slates: dict[str, object], **body: object) -> dict[str, Any]:
    answer = client.post("/v1/recommend/many", json={"slates": slates, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def shown(answer: dict[str, Any]) -> list[list[str]]:
    return [[entry["item_id"] for entry in slate["items"]] for slate in answer["slates"]]


def test_no_item_comes_twice_and_the_first_slate_chooses_first(client: Client) -> None:
    answer = asked(client, {"k": 2}, {"placement": "trending", "k": 3}, {"query": "i01", "k": 1})
    assert shown(answer) == [["i19", "i18"], ["i17", "i16", "i15"], ["i01"]]
    assert [slate["placement"] for slate in answer["slates"]] == ["home", "trending", "search"]


def test_each_slate_is_logged_under_its_own_request_id(client: Client) -> None:
    answer = asked(client, {"k": 2}, {"k": 2}, user_id="u1", session_id="s1")
    until(lambda: client.day.slates.written == 2)
    names = [slate["request_id"] for slate in answer["slates"]]
    assert names == [f"{answer['request_id']}-{n}" for n in range(2)]
    for name, item_ids in zip(names, shown(answer), strict=True):
        slate = client.day.store.slate(name)
        assert slate is not None
        assert (slate.user_id, slate.session_id) == ("u1", "s1")
        assert list(slate.item_ids) == item_ids


def test_a_slates_next_page_shows_nothing_of_the_others_before_it(client: Client) -> None:
    answer = asked(client, {"k": 3}, {"k": 2})
    name = answer["slates"][1]["request_id"]
    for memory in ("process", "store"):
        if memory == "store":
            until(lambda: client.day.slates.written == 3)
            client.day.pages._chains.clear()
        then = client.post("/v1/recommend/next", json={"request_id": name}).json()
        assert not {i["item_id"] for i in then["items"]} & {"i19", "i18", "i17", "i16", "i15"}


def test_the_shoppers_history_is_read_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.tell(event("e1", item_id="i19"))
    reads = []
    read = Store.recent_events

    def counted(store: Store, **asked_for: Any) -> RecentEvents:
        reads.append(asked_for)
        return read(store, **asked_for)

    monkeypatch.setattr(Store, "recent_events", counted)
    assert shown(asked(client, {"k": 1}, {"k": 1}, user_id="u1")) == [["i18"], ["i17"]]
    assert len(reads) == 1


def test_a_slate_that_cannot_be_answered_names_itself(client: Client) -> None:
    answer = client.post("/v1/recommend/many", json={"slates": [{}, {"placement": "hoem"}]})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "unknown_placement"
    bad = client.post("/v1/recommend/many", json={"slates": [{}, {"k": 0}]})
    assert bad.json()["error"]["details"][0]["field"] == "slates.1.k"


def test_each_slate_counts_for_the_keys_rate(client: Client) -> None:
    key = bearer(give(client, "browser", rate_per_s=0.001, burst=5))
    sent: dict[str, Any] = {
        "url": "/v1/recommend/many",
        "json": {"slates": [{}] * 3},
        "headers": key,
    }
    assert client.post(**sent).status_code == 200
    assert client.post(**sent).status_code == 429


def test_an_empty_slate_leaves_the_others_as_they_are(client: Client) -> None:
    nothing = {"filter": "item_id = 'nobody'", "k": 2}
    assert shown(asked(client, nothing, {"k": 1})) == [[], ["i19"]]


def test_a_slate_has_what_a_single_answer_has(client: Client) -> None:
    wanted: dict[str, object] = {"k": 1, "return_properties": ["title", "description"]}
    both = asked(client, wanted)["slates"][0]
    alone = client.recommend(**wanted)
    assert both.keys() == alone.keys()
    assert both["items"] == alone["items"]
