"""Whole tables up and down, a line at a time."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message

from api.ndjson import MAX_LINE_BYTES, ROWS_AT_ONCE, Line, LineSplitter, chunks
from tests.api.conftest import Client, Shop, until

NDJSON = {"content-type": "application/x-ndjson"}


def ndjson(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row(n: int, **values: object) -> dict[str, object]:
    return {"item_id": f"b{n:05}", "title": f"Bulk {n}", **values}


def uploaded(client: Client, content: bytes | Iterator[bytes], kind: str = "items") -> Any:
    answer = client.post(f"/v1/bulk/{kind}", content=content, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_lines_are_the_same_however_the_body_is_cut() -> None:
    body = b"one\n\n  \r\ntwo\r\nthr\xc3\xa9e\nlast"
    expected = [(1, b"one"), (4, b"two\r"), (5, b"thr\xc3\xa9e"), (6, b"last")]
    for size in range(1, len(body) + 1):
        splitter = LineSplitter()
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        found = [line for piece in pieces for line in splitter.lines(piece)]
        assert found + splitter.last() == expected


def test_of_a_line_that_is_too_long_nothing_is_kept() -> None:
    splitter = LineSplitter()
    found: list[Line] = []
    for _ in range(3):
        found += splitter.lines(b"x" * (MAX_LINE_BYTES // 2))
    assert splitter._begun == []
    found += splitter.lines(b"\nnext\n")
    assert found == [(1, None), (2, b"next")]
    assert splitter.lines(b"y" * MAX_LINE_BYTES + b"\n") == [(3, b"y" * MAX_LINE_BYTES)]


def test_chunks_have_the_size_asked_for_and_the_rest() -> None:
    async def sizes() -> list[int]:
        async def pieces() -> Any:
            yield b"a\n" * 5
            yield b"b\n" * 3 + b"c"

        return [len(chunk) async for chunk in chunks(pieces(), 4)]

    assert asyncio.run(sizes()) == [4, 4, 1]


def test_items_go_up_and_become_retrievable(client: Client) -> None:
    n = 2 * ROWS_AT_ONCE + 50
    told = uploaded(client, ndjson(*(row(i) for i in range(n))))
    assert (told["lines"], told["changed"], told["unchanged"], told["rejected"]) == (n, n, 0, 0)
    assert "background" in told["note"]
    assert client.day.store.counts()["items"] == 20 + n
    until(lambda: f"b{n - 1:05}" in client.shown(k=1))
    again = uploaded(client, ndjson(*(row(i) for i in range(n))))
    assert (again["changed"], again["unchanged"]) == (0, n), "and their dates are kept"


def test_a_wrong_line_is_named_and_stops_no_other(client: Client) -> None:
    lines = [
        ndjson(row(1)),
        b"{broken\n",
        b"\n",
        ndjson({"title": "no id"}),
        ndjson(row(2, attributes={"price": -4})),
        ndjson(row(3, colour="red")),
        b"\xff\xfe\n",
        b'{"item_id": "' + b"x" * MAX_LINE_BYTES + b'"}\n',
        ndjson(row(4, published_at="2026-01-01T00:00:00Z")),
        ndjson(row(5, published_at="soon")),
        ndjson([]),
        json.dumps(row(6)).encode(),
    ]
    told = uploaded(client, b"".join(lines))
    assert (told["lines"], told["changed"], told["rejected"]) == (11, 3, 8)
    reasons = {entry["line"]: entry["reason"] for entry in told["rejected_lines"]}
    expected = {
        2: "JSON",
        4: "item_id",
        5: "price",
        6: "colour",
        7: "JSON",
        8: "longer than",
        10: "published_at",
        11: "row",
    }
    assert reasons.keys() == expected.keys()
    for number, words in expected.items():
        assert words in reasons[number], reasons[number]
    assert told["more_rejected"] == 0
    assert client.get("/v1/items/b00004").json()["published_at"] == "2026-01-01T00:00:00.000000Z"


def test_of_many_wrong_lines_the_first_are_named_and_the_rest_counted(client: Client) -> None:
    told = uploaded(client, b"?\n" * 2_500 + ndjson(row(1)))
    assert (told["changed"], told["rejected"], told["more_rejected"]) == (1, 2_500, 2_400)
    assert [entry["line"] for entry in told["rejected_lines"]] == list(range(1, 101))


def test_a_later_line_of_an_id_counts(client: Client) -> None:
    told = uploaded(client, ndjson(row(1), row(1, title="Second")))
    assert (told["changed"], told["unchanged"]) == (1, 1)
    assert client.get("/v1/items/b00001").json()["title"] == "Second"


def test_what_comes_down_can_go_up_again(client: Client) -> None:
    client.put("/v1/items/ü/1", json={"title": "“ü”", "attributes": {"big": 2**70, "l": ["a"]}})
    down = client.get("/v1/bulk/items")
    assert down.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in down.content.splitlines()]
    assert [r["item_id"] for r in rows] == [*(f"i{n:02}" for n in range(20)), "ü/1"]
    told = uploaded(client, down.content)
    assert (told["lines"], told["unchanged"]) == (21, 21)
    client.delete("/v1/items/ü/1")
    assert uploaded(client, down.content)["changed"] == 1
    assert client.get("/v1/bulk/items").content == down.content


def test_a_download_holds_more_than_one_page(client: Client) -> None:
    uploaded(client, ndjson(*(row(i) for i in range(ROWS_AT_ONCE + 10))))
    ids = [
        json.loads(line)["item_id"] for line in client.get("/v1/bulk/items").content.splitlines()
    ]
    assert len(ids) == len({*ids}) == 20 + ROWS_AT_ONCE + 10
    assert ids == sorted(ids)


def test_a_client_that_leaves_half_way_loses_nothing_that_was_stored(
    shop: Shop, client: Client
) -> None:
    """The body breaks off after two chunks and a half."""
    body = ndjson(*(row(i) for i in range(2 * ROWS_AT_ONCE + 500)))
    answered: list[Message] = []

    async def leave() -> None:
        messages: Iterator[Message] = iter(
            [
                {"type": "http.request", "body": body, "more_body": True},
                {"type": "http.disconnect"},
            ]
        )

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            answered.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/bulk/items",
            "raw_path": b"/v1/bulk/items",
            "query_string": b"",
            "headers": [(b"content-type", b"application/x-ndjson"), (b"host", b"testserver")],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "server": ("testserver", 80),
            "http_version": "1.1",
            "app": client.app,
        }
        await client.app(scope, receive, send)

    assert client.portal is not None
    client.portal.call(leave)
    assert answered == []
    assert shop.store.counts()["items"] == 20 + 2 * ROWS_AT_ONCE


@pytest.mark.parametrize("kind", ["items", "users"])
def test_another_type_of_body_is_415_and_an_empty_one_is_no_line(client: Client, kind: str) -> None:
    other = client.post(f"/v1/bulk/{kind}", content=b"{}", headers={"content-type": "text/csv"})
    assert other.status_code == 415
    assert uploaded(client, b"", kind)["lines"] == 0


def test_a_body_beyond_the_limit_is_413_and_one_beyond_that_of_others_is_not(
    client: Client,
) -> None:
    large = ndjson(*(row(i, description="x" * 2_000) for i in range(1_000)))
    assert len(large) > 2_000_000
    assert uploaded(client, large)["changed"] == 1_000
    headers = NDJSON | {"content-length": "1000000001"}
    refused = client.post("/v1/bulk/items", content=b"", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")


def test_users_go_up_and_down(client: Client) -> None:
    rows = [{"user_id": f"u{n}", "attributes": {"n": n, "price": "any"}} for n in range(3)]
    told = uploaded(client, ndjson(*rows, {"user_id": ""}, {"attributes": {}}), "users")
    assert (told["changed"], told["rejected"]) == (3, 2)
    down = client.get("/v1/bulk/users").content
    assert [json.loads(line) for line in down.splitlines()] == rows
    assert uploaded(client, down, "users")["unchanged"] == 3
