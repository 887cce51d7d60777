"""Who is let in: by which key, for what, and until when."""

import asyncio
import hmac
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from api.__main__ import check_host
from api.answers import Alive, ErrorAnswer
from api.clock import now_us
from api.day import answered, every, request_id
from api.errors import ApiError, each_route
from api.exchange import Exchange, start_exchange
from api.keyring import KeyRing
from api.keys import ScopedRoute
from api.openapi import documented
from api.scopes import PUBLIC, SCOPES
from features.errors import ConfigError
from features.key_text import ROLES, Role, make_key, parse_key
from features.keys import KeyRecord
from features.store import Store
from recsys.settings import PREFIX
from tests.api.conftest import Client, Shop, event, until
from tests.api.keys import SHOP, bearer, give, look, record_of

PUBLIC_PATHS = {"/healthz", "/readyz", "/docs", "/openapi.json", "/snippet.js"}


def calls(client: Client) -> Iterator[tuple[str, str, ScopedRoute]]:
    """Method, path and route of everything but PUBLIC_PATHS that the application answers."""
    assert isinstance(client.app, FastAPI)
    for route in each_route(client.app.routes):
        if isinstance(route, ScopedRoute) and route.scope != PUBLIC:
            for method in route.methods or ():
                yield method, re.sub(r"\{[^}]*\}", "x", route.path), route


def test_what_is_public_is_exactly_the_list(early_client: Client) -> None:
    assert isinstance(early_client.app, FastAPI)
    guarded = [route for _, _, route in calls(early_client)]
    public = {r.path for r in each_route(early_client.app.routes) if r not in guarded}
    assert {path for path in public if not path.startswith("/docs/")} == PUBLIC_PATHS
    give(early_client, "metrics")
    for path in PUBLIC_PATHS - {"/readyz"}:
        assert early_client.get(path).status_code == 200, path


def test_every_other_endpoint_names_a_scope_that_some_role_has(early_client: Client) -> None:
    routes = [route for _, _, route in calls(early_client)]
    assert len(routes) > 10
    for route in routes:
        assert route.scope in SCOPES["admin"], (route.path, route.methods)


def test_no_key_opens_nothing(early_client: Client) -> None:
    give(early_client, "metrics")
    for method, path, _ in calls(early_client):
        answer = early_client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorised"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_without_the_scope_opens_nothing(early_client: Client) -> None:
    keys = {role: give(early_client, role) for role in ROLES}
    for method, path, route in calls(early_client):
        for role, key in keys.items():
            if route.scope in SCOPES[role]:
                continue
            answer = early_client.request(method, path, headers=bearer(key))
            found = answer.status_code, answer.json()["error"]["code"]
            assert found == (403, "forbidden"), (path, role)
            assert f"does not allow {route.scope}" in answer.json()["error"]["message"]


def test_a_key_with_the_scope_is_let_in(client: Client) -> None:
    keys = {role: give(client, role) for role in ROLES}
    for method, path, route in calls(client):
        for role, key in keys.items():
            if route.scope in SCOPES[role]:
                answer = client.request(method, path, headers=bearer(key))
                assert answer.status_code not in (401, 403, 500), (path, role)


def test_explanations_and_policies_need_a_scope_of_their_own(client: Client) -> None:
    browser, server = give(client, "browser"), give(client, "server")
    for body in ({"explain": True}, {"policy": {"diversity": 0.5}}):
        for key, status in ((browser, 403), (server, 200)):
            answer = client.post("/v1/recommend", json=body, headers=bearer(key))
            assert answer.status_code == status


def test_only_admin_keys_erase(client: Client) -> None:
    server, admin = give(client, "server"), give(client, "admin")
    assert client.delete("/v1/users/u1", headers=bearer(server)).status_code == 403
    assert client.delete("/v1/users/u1", headers=bearer(admin)).status_code < 400


def test_until_the_first_key_everybody_may_do_everything(client: Client) -> None:
    assert client.get("/v1/placements").status_code == 200
    give(client, "admin")
    assert client.get("/v1/placements").status_code == 401


def test_revoking_every_key_opens_nothing(client: Client) -> None:
    key = give(client, "admin")
    client.day.store.keys.revoke(key.key_id, at_us=now_us())
    look(client)
    assert client.get("/v1/placements").status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000", "api", "10.0.0.7"])
def test_without_keys_a_name_of_this_network_is_answered(client: Client, host: str) -> None:
    assert client.get("/v1/placements", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_without_keys_a_name_that_anybody_can_own_is_refused(client: Client, host: str) -> None:
    """DNS rebinding: a page reads this machine under its own site's name."""
    assert client.get("/v1/placements", headers={"host": host}).status_code == 403
    key = give(client, "admin")
    assert client.get("/v1/placements", headers={"host": host, **bearer(key)}).status_code == 200


# --- keys that are wrong


def test_a_revoked_key_is_refused_within_a_poll_interval(client: Client) -> None:
    key = give(client, "server")
    assert client.get("/v1/items/i00", headers=bearer(key)).status_code == 200
    client.day.store.keys.revoke(key.key_id, at_us=now_us())
    until(lambda: client.get("/v1/items/i00", headers=bearer(key)).status_code == 401)
    answer = client.get("/v1/items/i00", headers=bearer(key))
    assert "was revoked" in answer.json()["error"]["message"]


def test_a_request_that_was_let_in_ends_though_its_key_is_revoked_meanwhile(
    client: Client,
) -> None:
    key = give(client, "server")

    def body() -> Iterator[bytes]:
        yield b'{"events": ['
        client.day.store.keys.revoke(key.key_id, at_us=now_us())
        yield b"]}"

    headers = {**bearer(key), "content-type": "application/json"}
    assert client.post("/v1/events", content=body(), headers=headers).status_code == 422
    look(client)
    assert client.post("/v1/events", json={}, headers=headers).status_code == 401


def test_a_key_ends_when_it_expires(client: Client) -> None:
    live = give(client, "server", expires_at_us=now_us() + 60_000_000)
    over = give(client, "server", expires_at_us=now_us())
    assert client.get("/v1/items/i00", headers=bearer(live)).status_code == 200
    answer = client.get("/v1/items/i00", headers=bearer(over))
    assert (answer.status_code, "expired" in answer.text) == (401, True)


def test_a_role_that_this_code_does_not_know_allows_nothing(client: Client) -> None:
    key = make_key("admin")
    text = key.full_text.replace("rk_admin", "rk_root")
    client.day.store.keys.add(replace(record_of(key, "admin"), role="root"))
    look(client)
    headers = {"Authorization": f"Bearer {text}"}
    assert client.get("/v1/placements", headers=headers).status_code == 403


def test_whatever_is_not_a_key_is_401_and_repeated_nowhere(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    key = give(client, "server")
    text = key.full_text
    other = make_key("server")
    wrong = [
        text[:-1],
        text + "A",
        text[:20],
        "rk_server_",
        text.replace("rk_server", "rk_admin"),
        text.upper(),
        f"{text} {text}",
        f"rk_server_{key.key_id}_{other.secret}",
        other.full_text,
        "rk_server_" + "ä" * 8 + "_" + "x" * 43,
        text.replace("rk_", "rk\u200b_"),
        "x" * 20_000,
        "",
    ]
    caplog.set_level(logging.DEBUG)
    for sent in wrong:
        headers = {b"Authorization": b"Bearer " + sent.encode()}
        answer = client.get("/v1/items/i00", headers=headers)
        assert answer.status_code == 401, sent
        assert not sent or sent not in answer.text
    for value in (text, f"Basic {text}", f"Bearer  {other.full_text} x", "Bearer"):
        answer = client.get("/v1/items/i00", headers={"Authorization": value})
        assert answer.status_code == 401, value
    assert client.get("/v1/items/i00", headers=bearer(key)).status_code == 200
    assert key.secret not in caplog.text  # headers: the client does not log them either
    assert other.secret not in caplog.text


def test_two_keys_are_none(client: Client) -> None:
    key, page = give(client, "server"), give(client, "browser")
    twice = [("Authorization", f"Bearer {key.full_text}")] * 2
    in_address = {"key": page.full_text}
    assert client.get("/v1/items/i00", headers=twice).status_code == 401
    both = client.post("/v1/recommend", json={}, params=in_address, headers=bearer(page))
    assert both.status_code == 401
    address = f"/v1/recommend?key={page.full_text}&key={page.full_text}"
    assert client.post(address, json={}).status_code == 401
    assert client.post("/v1/recommend", json={}, params=in_address).status_code == 200


@pytest.mark.parametrize("role", ["server", "admin", "metrics"])
def test_a_secret_key_in_an_address_is_refused_and_named_for_revoking(
    client: Client, role: Role
) -> None:
    key = give(client, role)
    answer = client.post("/v1/recommend", json={}, params={"key": key.full_text})
    assert answer.status_code == 401
    message = answer.json()["error"]["message"]
    assert f"keys revoke {key.key_id}" in message
    assert key.secret not in message


@pytest.mark.parametrize("size", [7_000, 31_000])
def test_an_address_or_headers_of_any_size_get_an_envelope(client: Client, size: int) -> None:
    give(client, "admin")
    for answer in (
        client.get("/v1/placements", params={"key": "k" * size}),
        client.get("/v1/placements", headers={"Authorization": "Bearer " + "k" * size}),
    ):
        assert answer.status_code == 401
        ErrorAnswer.model_validate_json(answer.content)


def test_headers_larger_than_any_need_are_431(client: Client) -> None:
    answer = client.get("/v1/placements", headers={"X-Junk": "x" * 40_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")


# --- the ring, the route, the text


def an_exchange(text: str) -> Exchange:
    headers = [(b"authorization", b"Bearer " + text.encode())]
    return start_exchange({"type": "http", "headers": headers, "query_string": b""})


def test_a_store_that_fails_leaves_the_known_keys_as_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = make_key("server")
    answers: list[list[KeyRecord]] = [[record_of(key, "server")]]
    ring = KeyRing(lambda: answers.pop())  # an empty list raises, as a store does

    async def follow() -> None:
        watch = asyncio.create_task(every(0.01, ring.look))
        await asyncio.sleep(0.1)
        watch.cancel()

    with caplog.at_level(logging.ERROR):
        asyncio.run(follow())
    assert ring.caller(an_exchange(key.full_text)).key_id == key.key_id
    assert "watch_failed" in caplog.text
    assert key.secret_hash not in caplog.text


def test_before_the_keys_were_read_nobody_is_let_in() -> None:
    ring = KeyRing(lambda: [])
    with pytest.raises(ApiError) as refused:
        ring.caller(an_exchange(make_key("admin").full_text))
    assert (refused.value.status, refused.value.code) == (503, "store_unavailable")


def test_an_endpoint_without_a_scope_lets_nobody_in(client: Client) -> None:
    router = APIRouter(route_class=ScopedRoute)

    @router.get("/forgotten", **documented(Alive))
    async def forgotten(request: Request) -> Response:
        return answered({"status": "alive", "request_id": request_id(request)})

    assert isinstance(client.app, FastAPI)
    client.app.include_router(router)
    assert client.get("/forgotten").status_code == 403
    assert client.get("/forgotten", headers=bearer(give(client, "admin"))).status_code == 403


def test_secrets_are_compared_in_constant_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, real = [], hmac.compare_digest

    def noted(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    key = give(client, "server")
    client.get("/v1/items/i00", headers=bearer(key))
    client.get("/v1/items/i00", headers=bearer(make_key("server")))  # also where none is known
    assert [one == other for one, other in compared] == [True, False]
    assert all(len(one) == len(other) == 64 for one, other in compared)


@pytest.mark.parametrize("role", ROLES)
def test_a_key_is_its_parts_and_hides_its_secret(role: Role) -> None:
    key = make_key(role)
    assert parse_key(key.full_text) == key
    assert re.fullmatch(rf"rk_{role}_[0-9a-f]{{8}}_[\w-]{{43}}", key.full_text, re.ASCII)
    assert key.secret not in repr(key) + str(key) + key.secret_hash
    assert make_key(role).secret != key.secret


@given(text=st.text() | st.from_regex(r"rk_[a-z]+_[0-9a-f]{8}_[\w-]{40,46}", fullmatch=True))
def test_any_text_is_a_key_only_if_it_says_itself_again(text: str) -> None:
    key = parse_key(text)
    assert key is None or key.full_text == text


def test_a_request_is_logged_by_its_key_s_id_and_route_and_by_nothing_secret(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    page, server = give(client, "browser", origins=(SHOP,)), give(client, "server")
    caplog.set_level(logging.DEBUG)
    origin = {"Origin": SHOP}
    client.post("/v1/recommend", json={}, params={"key": page.full_text}, headers=origin)
    client.post("/v1/events", json={"events": [event("e1")]}, headers=bearer(server))
    client.get("/v1/users/ann%40mail.example", headers=bearer(server))
    client.get(f"/{server.full_text}", params={"key": server.full_text})
    lines = [r.getMessage() for r in caplog.records if r.name == "api.edge"]
    asked = f"method=POST route=/v1/recommend status=200 key_id={page.key_id} role=browser ms="
    assert asked in lines[0]
    assert "route=none status=404 key_id=- role=- ms=" in lines[3]
    for secret in (page.secret, server.secret, "ann"):
        assert secret not in "".join(lines)
    ours = "".join(r.getMessage() for r in caplog.records if r.name.startswith("api"))
    assert page.secret not in ours
    assert server.secret not in ours


# --- the entry point


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "shop.example"])
def test_without_keys_only_this_machine_is_served(shop: Shop, host: str) -> None:
    for own in ("127.0.0.1", "::1", "localhost"):
        check_host(shop.settings, own)
    with pytest.raises(ConfigError, match="python -m jobs keys create --role admin"):
        check_host(shop.settings, host)
    shop.store.keys.add(record_of(make_key("admin"), "admin"))
    check_host(shop.settings, host)


def test_the_server_does_not_start_where_everybody_could_do_everything(tmp_path: Path) -> None:
    environment = {**os.environ, f"{PREFIX}DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "api", "--host", "0.0.0.0", "--port", "1"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("ConfigError: found --host 0.0.0.0 and no keys")


def test_keys_are_those_of_the_store_when_the_server_starts(shop: Shop) -> None:
    shop.store.keys.add(record_of(make_key("admin"), "admin"))
    with Client(shop.app()) as client:
        assert client.get("/v1/placements").status_code == 401


def test_a_server_follows_keys_that_another_process_makes(shop: Shop) -> None:
    with Client(shop.app()) as client, Store.open(shop.settings.database_url) as elsewhere:
        assert client.get("/v1/placements").status_code == 200
        elsewhere.keys.add(record_of(make_key("admin"), "admin"))
        until(lambda: client.get("/v1/placements").status_code == 401)
