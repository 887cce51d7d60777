"""From an event, or an item, to the answer that knows it: in this server and in its neighbour."""

from collections.abc import Iterator

import httpx
import pytest

from recsys.retrieval.text import item_text
from recsys.settings import Settings
from tests.api.conftest import Client, Shop, event, open_client, until
from tests.api.test_process import Server, started
from tests.tiny import TINY_COLORS

COLOR = TINY_COLORS[1]


@pytest.fixture
def workers(shop: Shop) -> Iterator[tuple[Client, Client]]:
    """Two servers on one store."""
    with open_client(shop) as one, Client(shop.app()) as other:
        until(lambda: other.serves("r1"))
        yield one, other


@pytest.fixture
def processes(real_settings: Settings) -> Iterator[tuple[Server, Server]]:
    """Two processes on one store, with a release that a night trained, looking once a second."""
    with started(real_settings) as one, started(real_settings) as other:
        yield one, other


def shown(client: httpx.Client, **body: object) -> list[str]:
    answer = client.post("/v1/recommend", json={**body, "policy": {"exploration": 0}})
    assert answer.status_code == 200, answer.text
    return [entry["item_id"] for entry in answer.json()["items"]]


def test_an_event_changes_the_very_next_answer_of_every_worker(
    workers: tuple[Client, Client],
) -> None:
    for n, teller in enumerate(workers):
        best = [client.shown(user_id="ann", k=1) for client in workers]
        assert best[0] == best[1]
        teller.tell(event(f"e{n}", user_id="ann", item_id=best[0][0]))
        for client in workers:
            assert client.shown(user_id="ann", k=1) != best[0]


def test_an_item_is_retrievable_in_the_next_answer_here_and_soon_elsewhere(
    workers: tuple[Client, Client],
) -> None:
    one, other = workers
    assert one.put("/v1/items/fresh", json={"title": "Fresh"}).json()["retrievable"]
    assert one.shown(k=1) == ["fresh"]
    until(lambda: other.shown(k=1) == ["fresh"])
    one.patch("/v1/items/fresh", json={"tags": ["blue"]})
    until(lambda: other.shown(filter="tags = 'blue'") == ["fresh"])
    other.delete("/v1/items/fresh")
    assert "fresh" not in other.shown(k=100)
    until(lambda: "fresh" not in one.shown(k=100))


def test_two_processes_with_a_real_release_know_an_event_at_once_and_an_item_soon(
    processes: tuple[Server, Server],
) -> None:
    one, other = (server.client for server in processes)
    before = shown(other, user_id="new", k=20)
    liked = [i for i in before if i.startswith(COLOR)][:1] or [f"{COLOR}-hat"]
    told = one.post(
        "/v1/events",
        json={"events": [event("e1", user_id="new", item_id=liked[0], event_type="purchase")]},
    )
    assert told.json()["accepted"] == 1
    after = [shown(client, user_id="new", k=20) for client in (one, other)]
    assert after[0] == after[1] != before
    assert liked[0] not in after[0]

    title, tags = f"{COLOR} glove", [COLOR, "glove"]
    put = one.put("/v1/items/fresh", json={"title": title, "tags": tags})
    assert put.json()["retrievable"] is True
    only = {"k": 5, "filter": "item_id = 'fresh'"}
    assert shown(one, **only) == ["fresh"]
    until(lambda: shown(other, **only) == ["fresh"])
    words = item_text(title, "", tags, {})  # the tiny encoder matches little else
    assert "fresh" in shown(other, query=words, k=3)
    other.delete("/v1/items/fresh")
    assert shown(other, **only) == []
    until(lambda: shown(one, **only) == [])
