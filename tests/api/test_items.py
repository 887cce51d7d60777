"""The catalogue through HTTP: patches, lists, and what of it serving sees at once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.conftest import Client, Shop, item, items

LAMP = {
    "title": "Lamp",
    "description": "Warm",
    "tags": ["light", "brass"],
    "attributes": {"price": 59.0, "brand": "Lumo", "sizes": ["s", "m"]},
    "published_at": "2026-01-31T12:00:00.5+01:00",
}


def got(client: Client, item_id: str) -> dict[str, Any]:
    answer = client.get(f"/v1/items/{item_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    del found["request_id"]
    return found


def listed(client: Client, **asked: object) -> tuple[list[str], str | None]:
    answer = client.get("/v1/items", params={k: str(v) for k, v in asked.items() if v is not None})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return [entry["item_id"] for entry in page["items"]], page["next"]


def all_listed(client: Client, **asked: object) -> list[str]:
    found, after = listed(client, **asked)
    asked.pop("after", None)
    while after is not None:
        more, after = listed(client, **asked, after=after)
        found += more
    return found


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({}, {}),
        ({"title": "Desk lamp"}, {"title": "Desk lamp"}),
        ({"description": None}, {"description": ""}),
        ({"tags": ["steel"]}, {"tags": ["steel"]}),
        ({"tags": None}, {"tags": []}),
        ({"available": False}, {"available": False}),
        ({"published_at": None}, {"published_at": None}),
        (
            {"attributes": {"price": 49, "brand": None, "sale": True}},
            {"attributes": {"price": 49, "sizes": ["s", "m"], "sale": True}},
        ),
        ({"attributes": {"sizes": ["l"]}}, {"attributes": LAMP["attributes"] | {"sizes": ["l"]}}),  # type: ignore[operator]
        ({"attributes": None}, {"attributes": {}}),
    ],
)
def test_a_patch_changes_what_it_names_and_nothing_else(
    client: Client, patch: dict[str, object], expected: dict[str, object]
) -> None:
    client.put("/v1/items/lamp", json=LAMP)
    before = got(client, "lamp")
    assert before["published_at"] == "2026-01-31T11:00:00.500000Z"
    answer = client.patch("/v1/items/lamp", json=patch)
    assert answer.status_code == 200, answer.text
    assert got(client, "lamp") == before | expected
    assert answer.json()["changed"] == bool(patch)
    assert answer.json()["retrievable"] == expected.get("available", True)


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"titel": "x"}, "titel"),
        ({"title": 7}, "title"),
        ({"attributes": {"price": -1}}, "price"),
        ({"title": None, "description": None, "tags": None}, "all empty"),
        ({"published_at": "yesterday"}, "published_at"),
        ([], "body"),
    ],
)
def test_a_patch_that_makes_no_item_is_refused_and_changes_nothing(
    client: Client, patch: object, words: str
) -> None:
    client.put("/v1/items/lamp", json=LAMP)
    before = got(client, "lamp")
    answer = client.patch("/v1/items/lamp", json=patch)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (422, True)
    assert got(client, "lamp") == before


def test_a_patch_of_no_item_is_404_and_of_a_deleted_one_too(client: Client) -> None:
    assert client.patch("/v1/items/none", json={"title": "x"}).status_code == 404
    client.delete("/v1/items/i00")
    assert client.patch("/v1/items/i00", json={"title": "x"}).status_code == 404


def test_a_patch_is_effective_in_the_next_answer(client: Client) -> None:
    client.patch("/v1/items/i07", json={"attributes": {"price": 999.0}})
    assert client.shown(filter="price > 900") == ["i07"]
    client.patch("/v1/items/i07", json={"available": False})
    assert client.shown(filter="price > 900") == []
    client.patch("/v1/items/i07", json={"available": None})
    assert client.shown(filter="price > 900") == ["i07"]


def test_concurrent_patches_of_one_item_lose_none_of_each_other(shop: Shop, client: Client) -> None:
    """Two servers on one store, and every patch sets an attribute of its own."""
    client.put("/v1/items/busy", json={"title": "Busy"})
    together = threading.Barrier(6)

    def patch(server: Client, writer: int) -> None:
        together.wait(10)
        for n in range(8):
            answer = server.patch("/v1/items/busy", json={"attributes": {f"{writer}-{n}": n}})
            assert answer.json().get("changed") is True, answer.text

    with Client(shop.app()) as other, ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(patch, (client, other)[n % 2], n) for n in range(6)]
        for writer in writers:
            writer.result()
    assert len(got(client, "busy")["attributes"]) == 48


def test_the_list_has_every_item_once_in_order(client: Client) -> None:
    everything = [f"i{n:02}" for n in range(20)]
    assert all_listed(client) == everything
    assert all_listed(client, limit=7) == everything
    assert all_listed(client, limit=20) == everything
    assert listed(client, after="i17") == (["i18", "i19"], None)
    assert listed(client, after="zzz") == ([], None)


def test_items_that_come_and_go_while_the_list_is_read_move_no_other(client: Client) -> None:
    first, after = listed(client, limit=8)
    client.put("/v1/items/i000", json={"title": "before the cursor"})
    client.put("/v1/items/i075", json={"title": "behind it"})
    client.delete("/v1/items/i03")
    client.delete("/v1/items/i12")
    rest = all_listed(client, limit=8, after=after)
    assert first + rest == [f"i{n:02}" for n in range(8)] + ["i075"] + [
        f"i{n:02}" for n in range(8, 20) if n != 12
    ]


def test_a_list_can_be_filtered_by_expression(client: Client) -> None:
    for n in (3, 11, 17):
        client.patch(f"/v1/items/i{n:02}", json={"attributes": {"brand": "Lumo"}})
    client.patch("/v1/items/i11", json={"available": False})
    expected = ["i03", "i11", "i17"]
    assert all_listed(client, filter="brand = 'Lumo'") == expected
    assert all_listed(client, filter="brand = 'Lumo'", limit=1) == expected
    assert all_listed(client, filter="brand = 'Lumo' and available = true") == ["i03", "i17"]
    assert all_listed(client, filter="brand = 'nobody'") == []


def test_a_filter_that_cannot_be_read_is_422_and_before_a_release_it_is_503(
    early_client: Client,
) -> None:
    broken = early_client.get("/v1/items", params={"filter": "price >"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (422, "invalid_request")
    early = early_client.get("/v1/items", params={"filter": "price > 1"})
    assert (early.status_code, early.json()["error"]["code"]) == (503, "not_ready")
    assert len(listed(early_client)[0]) == 20


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 1001}, {"after": "\x00"}, {"after": ""}])
def test_a_page_that_makes_no_sense_is_refused(client: Client, asked: dict[str, str]) -> None:
    assert client.get("/v1/items", params=asked).status_code == 422


def test_an_item_of_old_with_nested_attributes_can_be_patched(shop: Shop, client: Client) -> None:
    nested = json.dumps({"dimensions": {"w": 3}, "price": 5})
    shop.store.upsert_items(items(item("old", attributes=nested)), updated_at_us=5)
    client.patch("/v1/items/old", json={"attributes": {"price": 6}})
    assert got(client, "old")["attributes"] == {"dimensions": {"w": 3}, "price": 6}
