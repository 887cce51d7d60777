"""Which pages may talk to the server from a browser."""

import pytest

from features.key_text import Role
from tests.api.conftest import Client, event
from tests.api.keys import SHOP, bearer, give

OTHER = "https://other.example"
ALLOW = "Access-Control-Allow-Origin"
EVENTS = {"events": [event("e1")]}


def ask_first(client: Client, origin: str, path: str = "/v1/recommend") -> tuple[int, str | None]:
    """A browser's preflight: its status, and whom it allows."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = client.options(path, headers=headers)
    assert answer.headers["Vary"] == "Origin"
    if answer.status_code == 204:
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    return answer.status_code, answer.headers.get(ALLOW)


def test_a_page_that_its_key_lists_may_ask_and_read(client: Client) -> None:
    key = give(client, "browser", origins=(SHOP, OTHER))
    for origin in (SHOP, OTHER):
        assert ask_first(client, origin) == (204, origin)
        answer = client.post("/v1/recommend", json={}, headers={**bearer(key), "Origin": origin})
        assert answer.status_code == 200
        assert answer.headers[ALLOW] == origin
        assert answer.headers["Vary"] == "Origin"
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert {"X-Request-ID", "Retry-After", "Server-Timing"} <= set(exposed.split(", "))
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://shop.example", SHOP + ":8443", SHOP + ".evil.example", ""]
)
def test_a_page_that_is_not_listed_is_refused_and_reads_nothing(
    client: Client, origin: str
) -> None:
    key = give(client, "browser", origins=(SHOP,))
    assert ask_first(client, origin) == (403, None)
    answer = client.post("/v1/recommend", json={}, headers={**bearer(key), "Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert ALLOW not in answer.headers
    assert answer.headers["Vary"] == "Origin"


def test_a_page_of_one_key_is_refused_with_another_key(client: Client) -> None:
    """The preflight has no key, so it is answered; the request has, and is not."""
    give(client, "browser", origins=(OTHER,))
    key = give(client, "browser", origins=(SHOP,))
    assert ask_first(client, OTHER) == (204, OTHER)
    answer = client.post("/v1/recommend", json={}, headers={**bearer(key), "Origin": OTHER})
    assert answer.status_code == 403
    assert ALLOW not in answer.headers


def test_a_preflight_with_a_key_in_its_address_is_answered_for_that_key(client: Client) -> None:
    give(client, "browser", origins=(OTHER,))
    key = give(client, "browser", origins=(SHOP,))
    path = f"/v1/recommend?key={key.full_text}"
    assert ask_first(client, SHOP, path) == (204, SHOP)
    assert ask_first(client, OTHER, path) == (403, None)
    assert ask_first(client, SHOP, "/v1/recommend?key=rk_nonsense") == (403, None)
    assert ask_first(client, SHOP, "/v1/recommend?x=1") == (204, SHOP)


def test_pages_of_revoked_and_expired_keys_are_not_listed(client: Client) -> None:
    give(client, "browser", origins=(SHOP,), revoked_at_us=1)
    give(client, "browser", origins=(OTHER,), expires_at_us=1)
    assert ask_first(client, SHOP) == (403, None)
    assert ask_first(client, OTHER) == (403, None)


def test_an_options_request_that_is_no_preflight_is_405(client: Client) -> None:
    answer = client.options("/v1/recommend", headers={"Origin": SHOP})
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("role", ["server", "admin"])
def test_a_secret_key_in_a_page_is_a_leak_and_the_answer_says_so(
    client: Client, role: Role
) -> None:
    key = give(client, role)
    give(client, "browser", origins=(SHOP,))
    answer = client.post("/v1/recommend", json={}, headers={**bearer(key), "Origin": SHOP})
    assert answer.status_code == 403
    assert f"keys revoke {key.key_id}" in answer.json()["error"]["message"]
    assert ALLOW not in answer.headers
    listed = give(client, role, origins=(SHOP,))
    answer = client.post("/v1/recommend", json={}, headers={**bearer(listed), "Origin": SHOP})
    assert (answer.status_code, answer.headers[ALLOW]) == (200, SHOP)


def test_errors_can_be_read_by_pages_that_may_be_here(client: Client) -> None:
    key = give(client, "browser", origins=(SHOP,))
    at_shop = {**bearer(key), "Origin": SHOP}
    wrong = {"Authorization": "Bearer rk_nonsense", "Origin": SHOP}
    answers = [
        client.post("/v1/recommend", json={"k": 0}, headers=at_shop),
        client.get("/v1/items/i00", headers=at_shop),
        client.post("/v1/recommend", json={}, headers=wrong),
    ]
    assert [a.status_code for a in answers] == [422, 403, 401]
    assert [a.headers.get(ALLOW) for a in answers] == [SHOP] * 3
    stranger = client.post("/v1/recommend", json={}, headers={**wrong, "Origin": OTHER})
    assert (stranger.status_code, ALLOW in stranger.headers) == (401, False)


def test_two_origins_are_none(client: Client) -> None:
    key = give(client, "browser", origins=(SHOP,))
    headers = [("Origin", SHOP), ("Origin", OTHER), *bearer(key).items()]
    assert client.post("/v1/recommend", json={}, headers=headers).status_code == 400


def test_the_server_s_own_pages_need_no_list(client: Client) -> None:
    """/docs sends an Origin too; it may do what its key may."""
    own = {"Host": "api.shop.example", "Origin": "https://api.shop.example"}
    key = give(client, "admin")
    assert client.get("/v1/placements", headers={**own, **bearer(key)}).status_code == 200


def test_without_keys_pages_of_other_sites_are_refused(client: Client) -> None:
    own = {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}
    assert client.post("/v1/recommend", json={}, headers=own).status_code == 200
    other = {"Host": "127.0.0.1:8000", "Origin": OTHER}
    assert client.post("/v1/recommend", json={}, headers=other).status_code == 403
    assert ask_first(client, OTHER) == (403, None)


# --- text, which a page may send without asking first: navigator.sendBeacon


def send_text(client: Client, path: str, origin: str | None, key: str) -> int:
    headers = {"content-type": "text/plain;charset=UTF-8"} | ({"Origin": origin} if origin else {})
    content = b'{"events": [{"event_id": "e", "user_id": "u", "item_id": "i", '
    content += b'"event_type": "view"}]}'
    return client.post(path, params={"key": key}, content=content, headers=headers).status_code


def test_events_come_as_text_from_listed_pages(client: Client) -> None:
    key = give(client, "browser", origins=(SHOP,)).full_text
    assert send_text(client, "/v1/events", SHOP, key) == 200
    assert send_text(client, "/v1/events", OTHER, key) == 403
    assert send_text(client, "/v1/events", None, key) == 415


def test_nothing_else_comes_as_text(client: Client) -> None:
    key = give(client, "browser", origins=(SHOP,)).full_text
    for path in ("/v1/recommend", "/v1/recommend/next", "/v1/recommend/many", "/v1/sessions"):
        assert send_text(client, path, SHOP, key) == 415, path
    server = give(client, "server", origins=(SHOP,))
    headers = {**bearer(server), "Origin": SHOP, "content-type": "text/plain"}
    assert client.post("/v1/events", content=b"{}", headers=headers).status_code == 415


def test_without_keys_only_the_server_s_own_pages_send_text(client: Client) -> None:
    headers = {"content-type": "text/plain", "Host": "localhost", "Origin": "http://localhost"}
    content = b'{"events": []}'
    assert client.post("/v1/events", content=content, headers=headers).status_code == 422
    headers["Origin"] = OTHER
    assert client.post("/v1/events", content=content, headers=headers).status_code == 403
    del headers["Origin"]
    assert client.post("/v1/events", content=content, headers=headers).status_code == 415
