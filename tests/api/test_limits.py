"""How often, and how much at once, a key may send."""

import asyncio
import ipaddress
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from api.answers import Alive
from api.day import answered, request_id
from api.edge import counted
from api.errors import ApiError
from api.exchange import start_exchange
from api.keys import ScopedRoute, charge
from api.limits import FailureMeters, Meter, Rate
from api.openapi import documented
from features.key_text import make_key
from tests.api.conftest import Client
from tests.api.keys import SHOP, bearer, give

SLOW = 0.001  # a second: nothing comes back while a test runs


# --- one meter


def test_a_burst_is_taken_at_once_and_then_the_rate_counts() -> None:
    meter, rate = Meter(), Rate(per_s=2.0, burst=3)
    assert [meter.take(rate, 1, 100.0).remaining for _ in range(3)] == [2, 1, 0]
    refused = meter.take(rate, 1, 100.0)
    assert (refused.wait_s, refused.remaining, refused.full_in_s) == (0.5, 0, 1.5)
    assert meter.take(rate, 1, 100.5).wait_s == 0
    assert meter.take(rate, 1, 100.5).wait_s == 0.5
    assert [meter.take(rate, 1, 200.0).wait_s for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_costs_more_than_a_burst_waits_for_a_full_one_and_no_longer() -> None:
    meter, rate = Meter(), Rate(per_s=1.0, burst=5)
    assert meter.take(rate, 1, 0.0).wait_s == 0
    assert meter.take(rate, 10, 0.0).wait_s == 1.0
    assert meter.take(rate, 10, 1.0).remaining == 0


asked = st.lists(
    st.tuples(st.floats(0, 10), st.integers(1, 6)), min_size=1, max_size=60
)  # seconds since the one before, and how many


@given(asked=asked, per_s=st.floats(0.1, 100), burst=st.integers(1, 20))
def test_no_window_ever_holds_more_than_a_burst_and_what_the_rate_gives(
    asked: list[tuple[float, int]], per_s: float, burst: int
) -> None:
    meter, rate, now_s = Meter(), Rate(per_s, burst), 1_000.0
    taken: list[tuple[float, int]] = []
    for since_s, n in asked:
        now_s += since_s
        outcome = meter.take(rate, n, now_s)
        assert 0 <= outcome.remaining <= burst
        if not outcome.wait_s:
            taken.append((now_s, min(n, burst)))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            n_taken = sum(n for _, n in taken[first : last + 1])
            lasted_s = taken[last][0] - taken[first][0]
            assert n_taken <= burst + lasted_s * per_s + 1e-3


@given(asked=asked, per_s=st.floats(0.1, 100), burst=st.integers(1, 20))
def test_whoever_waits_as_long_as_told_is_let_in(
    asked: list[tuple[float, int]], per_s: float, burst: int
) -> None:
    meter, rate, now_s = Meter(), Rate(per_s, burst), 1_000.0
    for since_s, n in asked:
        now_s += since_s
        wait_s = meter.take(rate, n, now_s).wait_s
        if wait_s:
            now_s += wait_s
            assert meter.take(rate, n, now_s).wait_s == 0


# --- keys


def test_a_key_over_its_rate_is_429_and_told_when_to_come_back(client: Client) -> None:
    key = give(client, "server", rate_per_s=0.5, burst=2)
    others = give(client, "server")
    first, second, third = (
        client.post("/v1/recommend", json={}, headers=bearer(key)) for _ in "123"
    )
    assert [a.status_code for a in (first, second, third)] == [200, 200, 429]
    assert third.json()["error"]["code"] == "rate_limited"
    assert third.headers["Retry-After"] == "2"
    limits = [[a.headers[f"RateLimit-{n}"] for n in ("Limit", "Remaining", "Reset")]
              for a in (first, second, third)]  # fmt: skip
    assert limits == [["2", "1", "2"], ["2", "0", "4"], ["2", "0", "4"]]
    assert client.post("/v1/recommend", json={}, headers=bearer(others)).status_code == 200
    assert client.get("/healthz", headers=bearer(key)).status_code == 200


def test_a_refused_page_can_read_that_it_is_refused(client: Client) -> None:
    key = give(client, "browser", rate_per_s=SLOW, burst=1, origins=(SHOP,))
    headers = {**bearer(key), "Origin": SHOP}
    client.post("/v1/recommend", json={}, headers=headers)
    answer = client.post("/v1/recommend", json={}, headers=headers)
    assert answer.status_code == 429
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


def test_what_a_key_has_used_is_remembered_when_keys_are_read_again(client: Client) -> None:
    key = give(client, "server", rate_per_s=SLOW, burst=1)
    assert client.post("/v1/recommend", json={}, headers=bearer(key)).status_code == 200
    give(client, "browser")  # reads all keys
    assert client.post("/v1/recommend", json={}, headers=bearer(key)).status_code == 429


def test_many_slates_cost_as_many_requests(client: Client) -> None:
    key = give(client, "server", rate_per_s=SLOW, burst=5)
    body: dict[str, object] = {"slates": [{}, {}, {}]}
    first = client.post("/v1/recommend/many", json=body, headers=bearer(key))
    assert (first.status_code, first.headers["RateLimit-Remaining"]) == (200, "2")
    assert client.post("/v1/recommend/many", json=body, headers=bearer(key)).status_code == 429


def test_an_endpoint_may_cost_more_than_one(client: Client) -> None:
    router = APIRouter(route_class=ScopedRoute)

    @router.get("/dear", **documented(Alive, scope="recommend"))
    async def dear(request: Request) -> Response:
        charge(request, 3)
        return answered({"status": "alive", "request_id": request_id(request)})

    assert isinstance(client.app, FastAPI)
    client.app.include_router(router)
    assert client.get("/dear").status_code == 200  # without keys nothing is counted
    key = give(client, "server", rate_per_s=SLOW, burst=7)
    asked = [client.get("/dear", headers=bearer(key)) for _ in range(3)]
    assert [a.status_code for a in asked] == [200, 200, 429]


# --- keys that fail


def test_too_many_failing_keys_of_an_address_are_429_and_a_right_key_still_works(
    client: Client,
) -> None:
    right = give(client, "server")
    wrong = bearer(make_key("server"))
    statuses = [
        client.get("/v1/items/i00", headers=wrong).status_code
        for _ in range(FailureMeters.RATE.burst + 50)
    ]
    assert statuses[: FailureMeters.RATE.burst] == [401] * FailureMeters.RATE.burst
    assert statuses[-1] == 429
    assert client.get("/v1/items/i00", headers=bearer(right)).status_code == 200


def test_failing_addresses_are_forgotten_oldest_first() -> None:
    failures = FailureMeters(max_addresses=3)
    burst = failures.RATE.burst
    for _ in range(burst):
        failures.take("10.0.0.1", 0.0)
    assert failures.take("10.0.0.1", 0.0).wait_s > 0
    for address in ("10.0.0.2", "10.0.0.3"):
        failures.take(address, 0.0)
    assert failures.take("10.0.0.1", 0.0).wait_s > 0
    for address in ("10.0.0.4", "10.0.0.5", "10.0.0.6"):
        failures.take(address, 0.0)
    assert len(failures) == 3
    assert failures.take("10.0.0.1", 0.0).wait_s == 0


def test_a_subscriber_s_ipv6_network_is_one_address() -> None:
    failures = FailureMeters()
    network = ipaddress.ip_network("2001:db8:0:7::/64")
    for n in range(failures.RATE.burst):
        failures.take(str(network[n]), 0.0)
    assert failures.take("2001:db8:0:7::ffff%eth0", 0.0).wait_s > 0
    assert failures.take("2001:db8:0:8::1", 0.0).wait_s == 0
    assert failures.take("not an address: at all", 0.0).wait_s == 0


# --- bodies


def read_slowly(chunks: list[tuple[float, bytes]], patience_s: float) -> int:
    """Bytes read of a body whose chunks each take some seconds to come."""
    coming = iter(chunks)

    async def receive() -> Message:
        after_s, chunk = next(coming, (60.0, b""))
        await asyncio.sleep(after_s)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def read() -> int:
        exchange = start_exchange({"type": "http", "headers": [], "query_string": b""})
        body, n_bytes = counted(receive, exchange, patience_s=patience_s), 0
        while n_bytes < sum(len(chunk) for _, chunk in chunks) or not chunks:
            n_bytes += len((await body())["body"])
        return n_bytes

    return asyncio.run(read())


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    for chunks in ([], [(0.0, b"{"), (60.0, b"}")], [(0.02, b"x")] * 100):
        with pytest.raises(ApiError) as late:
            read_slowly(chunks, 0.1)
        assert (late.value.status, late.value.code) == (408, "request_timeout")
        assert late.value.headers["Connection"] == "close"


def test_a_long_body_has_the_time_it_needs() -> None:
    assert read_slowly([(0.02, b"x" * 1_000)] * 10, 0.1) == 10_000


@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_over_the_key_s_limit_is_413(client: Client, *, has_length: bool) -> None:
    small = give(client, "browser", max_body_bytes=1_000)
    usual = give(client, "browser")
    body = b'{"user_id": "u"' + b" " * 2_000 + b"}"

    def parts() -> Iterator[bytes]:
        yield body[:600]
        yield body[600:]

    for key, status in ((small, 413), (usual, 200)):
        headers = {**bearer(key), "content-type": "application/json"}
        content = body if has_length else parts()
        answer = client.post("/v1/recommend", content=content, headers=headers)
        assert answer.status_code == status
        if status == 413:
            assert answer.json()["error"]["code"] == "payload_too_large"
            assert "1,000" in answer.json()["error"]["message"]


def test_an_endpoint_s_own_limit_replaces_the_key_s(client: Client) -> None:
    router = APIRouter(route_class=ScopedRoute)

    @router.post("/upload", **documented(Alive, scope="catalogue", max_body_bytes=5_000))
    async def upload(request: Request) -> Response:
        await request.body()
        return answered({"status": "alive", "request_id": request_id(request)})

    assert isinstance(client.app, FastAPI)
    client.app.include_router(router)
    key = give(client, "server", max_body_bytes=1_000)
    for n_bytes, status in ((4_000, 200), (6_000, 413)):
        answer = client.post("/upload", content=b"x" * n_bytes, headers=bearer(key))
        assert answer.status_code == status
