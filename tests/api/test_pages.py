"""Pages of one slate repeat nothing, whoever answers them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from api.next_pages import USUAL, PageMemory
from features.pages import KEPT_US, Pages
from tests.api.conftest import Client, Shop, event, open_client, until

EVERYTHING = [f"i{n:02}" for n in reversed(range(20))]


def turned(client: Client, request_id: str, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/recommend/next", json={"request_id": request_id, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [entry["item_id"] for entry in answer["items"]]


@pytest.fixture
def workers(shop: Shop) -> Iterator[tuple[Client, Client]]:
    """Two processes' worth of servers on one store."""
    with open_client(shop) as one, Client(shop.app()) as other:
        until(lambda: other.serves("r1"))
        yield one, other


def test_pages_go_through_the_catalogue_once(client: Client) -> None:
    page = client.recommend(k=6)
    shown = ids(page)
    while page["has_next"]:
        page = turned(client, page["request_id"])
        shown += ids(page)
    assert shown == EVERYTHING
    assert ids(turned(client, page["request_id"])) == []


def test_the_first_page_may_be_asked_again_and_again(client: Client) -> None:
    first = client.recommend(k=5)
    shown = ids(first) + [i for _ in range(3) for i in ids(turned(client, first["request_id"]))]
    assert shown == EVERYTHING


def test_a_page_is_asked_as_the_first_was(client: Client) -> None:
    few = "item_id in ('i03', 'i05', 'i07', 'i09')"
    first = client.recommend(
        k=2, filter=few, placement="product_page", context_item_ids=["i09"], return_properties=True
    )
    then = turned(client, first["request_id"])
    assert (ids(first), ids(then)) == (["i07", "i05"], ["i03"])
    assert then["placement"] == "product_page"
    assert then["items"][0]["properties"]["title"] == "Title of i03"
    assert then["has_next"] is False


def test_a_page_may_have_another_length(client: Client) -> None:
    first = client.recommend(k=2)
    assert len(turned(client, first["request_id"], k=7)["items"]) == 7
    assert len(turned(client, first["request_id"])["items"]) == 2


def test_a_page_is_an_exposure_that_begins_where_the_last_one_ended(client: Client) -> None:
    first = client.recommend(user_id="u1", k=3)
    second = turned(client, first["request_id"], k=4)
    third = turned(client, first["request_id"])
    assert len({p["request_id"] for p in (first, second, third)}) == 3
    until(lambda: client.day.slates.written == 3)
    slate = client.day.store.slate(third["request_id"])
    assert slate is not None
    assert (slate.user_id, slate.first_position) == ("u1", 7)
    assert list(slate.item_ids) == ids(third)


def test_what_happened_meanwhile_counts(client: Client) -> None:
    first = client.recommend(user_id="u1", k=2)
    client.tell(event("e1", item_id="i17"))
    assert ids(turned(client, first["request_id"])) == ["i16", "i15"]


def test_pins_are_counted_over_all_pages(client: Client) -> None:
    rule = {"then": {"action": "pin", "item_id": "i00", "position": 3}}
    assert client.put("/v1/rules/third", json=rule).status_code == 200
    first = client.recommend(k=2)
    assert ids(turned(client, first["request_id"]))[1] == "i00"


def test_two_requests_at_once_never_show_the_same(shop: Shop) -> None:
    """Both wait for the store at the same time."""
    with open_client(shop) as client:
        first = client.recommend(k=2)
        until(lambda: client.day.slates.written == 1)

        async def both() -> list[httpx.Response]:
            transport = httpx.ASGITransport(client.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
                body = {"request_id": first["request_id"], "k": 3}
                asked = [http.post("/v1/recommend/next", json=body) for _ in range(6)]
                return list(await asyncio.gather(*asked))

        answers = asyncio.run(both())
    shown = [i for answer in answers for i in ids(answer.json())]
    assert sorted([*ids(first), *shown]) == sorted(EVERYTHING)


def test_another_worker_continues_at_once(workers: tuple[Client, Client]) -> None:
    one, other = workers
    first = one.recommend(k=5)  # still on its way to the store
    second = turned(other, first["request_id"])
    third = turned(one, second["request_id"])
    fourth = turned(other, third["request_id"])
    assert [i for p in (first, second, third, fourth) for i in ids(p)] == EVERYTHING


def test_a_restart_keeps_the_pages(shop: Shop) -> None:
    with open_client(shop) as client:
        first = client.recommend(k=5)
    with Client(shop.app()) as client:
        until(lambda: client.serves("r1"))
        assert ids(turned(client, first["request_id"])) == EVERYTHING[5:10]


def test_what_does_not_fit_into_memory_is_in_the_store(shop: Shop) -> None:
    with open_client(shop) as client:
        client.day.pages._capacity = 3 * USUAL
        pages = [client.recommend(k=5) for _ in range(5)]
        until(lambda: client.day.slates.written == 5)
        assert len(client.day.pages) == 3
        for page in pages:
            assert ids(turned(client, page["request_id"])) == EVERYTHING[5:10]


def test_long_questions_push_out_others_sooner(client: Client) -> None:
    client.day.pages._capacity = 100 * USUAL
    for _ in range(5):
        client.recommend(exclude_ids=[f"x{n}" for n in range(1_000)])
    assert len(client.day.pages) == 1
    first = client.recommend()
    assert len(client.day.pages) == 2
    client.day.pages.forget("nobody")
    assert ids(turned(client, first["request_id"]))


def test_an_unknown_page_is_404(client: Client) -> None:
    answer = client.post("/v1/recommend/next", json={"request_id": "0" * 32})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "page_expired")


@pytest.mark.parametrize("capacity", [10, 0])
def test_after_thirty_minutes_a_page_is_forgotten(shop: Shop, capacity: int) -> None:
    with open_client(shop) as client:
        asked = client.recommend()
        until(lambda: client.day.slates.written == 1)
        memory = client.day.pages if capacity else PageMemory(client.day.store)
        born_us = int(asked["request_id"][:12], 16) * 1_000
        chain, degraded = asyncio.run(memory.find(asked["request_id"], born_us + KEPT_US))
        assert (chain.shown, degraded) == (ids(asked), ())
        with pytest.raises(Exception, match="30 minutes"):
            asyncio.run(memory.find(asked["request_id"], born_us + KEPT_US + 1_000_000))


def test_a_store_that_cannot_be_read_leaves_what_this_process_has_shown(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.recommend(k=2)

    def broken(*_: object, **__: object) -> None:
        raise OperationalError("select", {}, Exception("the disk is gone"))

    monkeypatch.setattr(Pages, "chain", broken)
    then = turned(client, first["request_id"])
    assert ids(then) == EVERYTHING[2:4]
    assert then["degraded"] == ["pages"]
    unknown = client.post("/v1/recommend/next", json={"request_id": "0" * 11 + "1" * 21})
    assert unknown.status_code == 404, "too old to be looked for"


def test_an_erased_user_is_forgotten(client: Client) -> None:
    client.recommend(user_id="u1")
    client.recommend(user_id="u2")
    client.day.pages.forget("u1")
    assert len(client.day.pages) == 1


def test_nothing_is_logged_for_an_empty_page(shop: Shop) -> None:
    with open_client(shop) as client:
        first = client.recommend(k=20)
        turned(client, first["request_id"])
    assert shop.store.counts()["slates"] == 1
