"""Whatever is sent, the answer is an error envelope or a success, and never a 500."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.answers import ErrorAnswer
from api.bodies import ManyBody, NextBody, PreviewBody, RecommendBody, RuleBody
from api.bodies_told import EventsBody, ItemBody
from api.exchange import MAX_BODY_BYTES
from tests.api.conftest import Client, event, open_client, open_shop

ASKS = ("/v1/recommend", "/v1/recommend/next", "/v1/recommend/many", "/v1/rules/preview")
POSTS = (*ASKS, "/v1/events")
PUTS = ("/v1/items/x", "/v1/placements/x", "/v1/rules/x")
BODIES = (RecommendBody, NextBody, ManyBody, RuleBody, PreviewBody, EventsBody, ItemBody)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(sorted({name for body in BODIES for name in body.model_fields}))
LIKELY: st.SearchStrategy[object] = st.sampled_from(
    ["", "\x00", "u1", 0, -1, 10**30, 1e308, [], {}, [[]], [{}], None, True]
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for all of it: what a hostile caller sends must not spoil the next answer."""
    with open_shop(tmp_path_factory.mktemp("shop")) as shop, open_client(shop) as opened:
        yield opened


def assert_sound(client: Client, method: str, path: str, **request: Any) -> int:
    request.setdefault("headers", {"content-type": "application/json"})
    answer = client.request(method, path, **request)
    assert answer.status_code != 500, (method, path, answer.text)
    assert answer.headers["X-Request-ID"]
    if answer.status_code >= 400:
        error = ErrorAnswer.model_validate_json(answer.content)
        assert error.request_id == answer.headers["X-Request-ID"]
        assert error.error.message
    return answer.status_code


@pytest.mark.parametrize("path", POSTS)
def test_a_page_of_another_site_cannot_post_what_needs_no_preflight(
    client: Client, path: str
) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"content-type": kind}
        assert assert_sound(client, "POST", path, content=b"{}", headers=headers) == 415


@pytest.mark.parametrize("path", [*POSTS, *PUTS])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"user_id": "\xff"}',
        b'{"user_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"k": 1e999}',
        b'{"k": NaN}',
        b'{"k": 100000000000000000000000000000000}',
        b'{"k": 101, "query": "x"}',
        b'{"k": 0, "query": "x"}',
        b'{"k": "10", "query": "x"}',
        b'{"k": true, "query": "x"}',
        b'{"user_id": "", "query": "x"}',
        b'{"user_id": "a\\u0000b", "query": "x"}',
        b'{"user_id": "' + b"u" * 257 + b'", "query": "x"}',
        b'{"placement": "a b", "query": "x"}',
        b'{"nonsense": 1, "query": "x", "title": "x"}',
        b'{"policy": {"diversity": 2}, "query": "x"}',
        b'{"policy": {"filter_viewed": false}, "query": "x"}',
        b'{"filter": {"price_min": -1}, "query": "x"}',
        b'{"filter": "price <", "rule": 1}',
        b'{"filter": "' + b"(" * 1_000 + b'"}',
        b'{"filter": "' + b"not " * 500 + b'"}',
        b'{"return_properties": "title", "rule": 1}',
        b'{"request_id": "../../etc/passwd"}',
        b'{"slates": []}',
        b'{"slates": [' + b"{}," * 10 + b"{}]}",
        b'{"then": {"action": "pin", "item_id": "i01", "position": "0"}}',
        b'{"then": {"action": "boost", "where": "price < 5", "strength": 2}}',
        b'{"policy": {"sources": {"x": "many"}}, "rule": 1}',
        b'{"title": "x", "attributes": {"price": NaN}}',
        b'{"title": "x", "attributes": {"price": -1}}',
        b'{"title": "x", "attributes": {"deep": {"er": 1}}}',
        b'{"title": "", "tags": []}',
        b'{"title": "x", "published_at": "yesterday"}',
        b'{"title": "x", "published_at": "2026-01-01T00:00:00"}',
        b'{"title": "' + b"x" * 2_001 + b'"}',
    ],
)
def test_a_malformed_body_is_422(client: Client, path: str, body: bytes) -> None:
    method = "PUT" if path in PUTS else "POST"
    assert assert_sound(client, method, path, content=body) == 422


def test_a_body_over_the_limit_is_413_with_and_without_its_length(client: Client) -> None:
    body = json.dumps({"user_id": "x" * MAX_BODY_BYTES}).encode()
    chunks = iter([body[:1000], body[1000:]])
    for content in (body, chunks):
        assert assert_sound(client, "POST", "/v1/recommend", content=content) == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/recommend", 405),
        ("GET", "/v1/items/ghost", 404),
        ("DELETE", "/v1/items/ghost", 404),
        ("POST", "/v1/search", 404),
        ("GET", "/v1/rules/ghost", 404),
        ("DELETE", "/v1/rules/ghost", 404),
        ("PUT", "/v1/rules/a%20b", 422),
        ("GET", "/v1/placements/ghost", 404),
        ("DELETE", "/v1/placements/home", 404),
        ("GET", "/v1/items/a%00b", 422),
        ("GET", "/v1/items/" + "x" * 300, 422),
        ("GET", "/v1/items/%ff", 400),
        ("GET", "/v1/items/", 422),
        ("GET", "/v1/items/..%2f..%2fetc%2fpasswd", 404),
    ],
)
def test_paths_that_lead_nowhere_say_so(
    client: Client, method: str, path: str, status: int
) -> None:
    assert assert_sound(client, method, path) == status


def test_an_integer_beyond_64_bits_is_an_attribute_like_any_other(client: Client) -> None:
    attributes = {"price": 10**30, "serial": [10**40, "x"]}
    assert (
        assert_sound(client, "PUT", "/v1/items/big", json={"title": "x", "attributes": attributes})
        == 200
    )
    assert assert_sound(client, "GET", "/v1/items/big") == 200
    assert assert_sound(client, "POST", "/v1/recommend", json={"filter": "serial = 'x'"}) == 200


def test_errors_of_a_body_name_each_field(client: Client) -> None:
    answer = client.post("/v1/recommend", json={"k": 0, "usr": 1, "filter": "price"})
    fields = {problem["field"] for problem in answer.json()["error"]["details"]}
    assert fields == {"k", "usr", "filter"}


@settings(max_examples=60, deadline=None)
@given(body=JSON | st.dictionaries(FIELDS, LIKELY | JSON), path=st.sampled_from(POSTS))
def test_any_json_is_answered_soundly(client: Client, body: object, path: str) -> None:
    content = json.dumps(body).encode()
    assert_sound(client, "POST", path, content=content)
    for path in PUTS:
        assert_sound(client, "PUT", path, content=content)


@settings(max_examples=60, deadline=None)
@given(row=JSON | st.dictionaries(st.sampled_from(list(event("e"))), LIKELY | JSON))
def test_any_event_row_has_a_verdict(client: Client, row: object) -> None:
    content = json.dumps({"events": [row, event("sound")]}).encode()
    assert assert_sound(client, "POST", "/v1/events", content=content) in (200, 422)


@settings(max_examples=40, deadline=None)
@given(body=st.binary(max_size=200), path=st.sampled_from(POSTS))
def test_any_bytes_are_answered_soundly(client: Client, body: bytes, path: str) -> None:
    assert assert_sound(client, "POST", path, content=body) == 422
