"""The Python client against a server that listens."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from api.client import Client, RecommenderError
from tests.api.conftest import Shop, event, until
from tests.api.serving import free_port, listening


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    shop.publish("r1")
    with listening(shop.app()) as address, Client(address) as probe:
        until(lambda: _is_ready(probe))
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


def _is_ready(client: Client) -> bool:
    return bool(client.ready().items)  # 503 until then: the client tries again by itself


def ids(slate: Any) -> list[str]:
    return [entry.item_id for entry in slate.items]


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers these, one a request, the last one for ever; and what it was asked."""
    asked: list[str] = []
    left = list(answers)

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_DELETE = do_GET = do_POST  # noqa: N815  names of http.server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BUSY = b'{"error": {"code": "too_many_requests", "message": "wait"}, "request_id": "r1"}'
NOTED = (
    b'{"request_id": "r", "accepted": 1, "duplicate": 0, "rejected": 0, "missing_ids": [],'
    b' "new_field": 1, "verdicts": [{"index": 0, "event_id": "e1", "verdict": "accepted"}]}'
)


def test_it_loads_nothing_of_the_server() -> None:
    heavy = ["faiss", "polars", "numpy", "sqlalchemy", "fastapi", "onnxruntime", "recsys.catalog"]
    program = f"import sys, api.client; sys.exit(str([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"


def test_recommendations_and_their_next_pages(client: Client) -> None:
    slate = client.recommend(user_id="ann", k=3, filter="price < 20", return_properties=["title"])
    assert ids(slate) == ["i19", "i18", "i17"]
    assert slate.items[0].properties == {"title": "Title of i19"}
    assert ids(client.next_page(slate.request_id, k=2)) == ["i16", "i15"]
    many = client.recommend_many([{"k": 2}, {"k": 2, "placement": "trending"}], user_id="ann")
    assert [ids(slate) for slate in many.slates] == [["i19", "i18"], ["i17", "i16"]]
    assert client.validate(placement="home").valid
    assert ids(client.recommend(query="title", k=1))


def test_items(client: Client) -> None:
    for item_id in ("a/b", "ü ?#%", "..", "."):
        assert client.items.put(item_id, title="New", attributes={"price": 5.0}).retrievable
        assert client.items.patch(item_id, attributes={"price": None, "brand": "x"}).changed
        assert client.items.get(item_id).attributes == {"brand": "x"}
    listed = list(client.items.all(limit=7))
    assert len(listed) == 24
    assert [i.item_id for i in client.items.all(condition="brand = 'x'")] == [
        ".",
        "..",
        "a/b",
        "ü ?#%",
    ]
    assert list(client.items.download()) == listed
    told = client.items.upload({"item_id": f"b{n}", "title": "Bulk"} for n in range(1_500))
    assert (told.changed, told.rejected) == (1_500, 0)
    assert client.items.delete("b7").deleted
    with pytest.raises(RecommenderError) as missing:
        client.items.get("b7")
    assert (missing.value.code, missing.value.status) == ("not_found", 404)
    assert missing.value.request_id


def test_users(client: Client) -> None:
    assert client.users.put("ann", {"country": "NL", "old": True}).changed
    assert client.users.patch("ann", {"old": None}).changed
    assert client.users.get("ann").attributes == {"country": "NL"}
    assert client.users.upload([{"user_id": "bob"}]).changed == 1
    assert [u.user_id for u in client.users.all(limit=1)] == ["ann", "bob"]
    assert [u.user_id for u in client.users.download()] == ["ann", "bob"]
    assert client.users.link_session("s1", "ann").linked
    assert client.users.export("ann").session_ids == ["s1"]
    receipt = client.users.erase("ann")
    assert client.users.erasure(receipt.receipt_id).status == "pending"
    assert client.users.export("ann").attributes is None


def test_placements_and_rules(client: Client) -> None:
    assert client.placements.put("mail", {"k": 4}).changed
    assert client.placements.get("mail").k == 4
    assert "mail" in [p.name for p in client.placements.all().placements]
    assert len(ids(client.recommend(placement="mail"))) == 4
    rule = {"then": {"action": "pin", "item_id": "i01", "position": 0}}
    assert ids(client.rules.preview(rule, {"k": 1}).with_rule) == ["i01"]
    assert client.rules.put("first", rule).changed
    assert client.rules.get("first").in_force
    assert [r.rule_id for r in client.rules.all().rules] == ["first"]
    assert client.rules.delete("first").deleted
    assert client.placements.delete("mail").deleted


DESIGN = {
    "hypothesis": "More variety sells more",
    "variants": [{"key": "as-is"}, {"key": "varied", "policy": {"diversity": 0.4}}],
    "plan": {"goals": [{"name": "orders", "event_type": "purchase"}]},
}


def test_experiments(client: Client) -> None:
    experiments = client.experiments
    assert experiments.put("variety", DESIGN).status == "draft"
    assert experiments.assignment("variety", "ann").variant is None
    assert experiments.start("variety", reason="monday").status == "running"
    given = experiments.assignment("variety", "ann")
    assert (given.variant in ("as-is", "varied"), given.how) == (True, "hash")
    assert [e.name for e in experiments.all().experiments] == ["variety"]
    assert experiments.stop("variety").status == "stopped"
    decided = experiments.decide("variety", "varied", reason="+3 %")
    assert (decided.decision, experiments.get("variety").log[-1].reason) == (
        "varied",
        "varied: +3 %",
    )
    with pytest.raises(RecommenderError) as refused:
        experiments.delete("variety")
    assert (refused.value.status, "expected a draft" in refused.value.message) == (422, True)
    with pytest.raises(RecommenderError, match="was not analysed yet"):
        experiments.report("variety")
    assert experiments.hold_out(0.05).salt == "holdout"
    assert experiments.holdout().share == 0.05


def test_the_server_itself(client: Client) -> None:
    assert client.alive().status == "alive"
    assert client.ready().release_id == "r1"
    assert "recsys_requests_total" in client.metrics()


def test_an_error_says_what_was_wrong(client: Client) -> None:
    with pytest.raises(RecommenderError, match="price") as refused:
        client.recommend(filter="price <")
    assert (refused.value.code, refused.value.status) == ("invalid_request", 422)
    assert refused.value.details


def test_events_are_told_at_once_and_checked(client: Client) -> None:
    slate = client.recommend(user_id="ann", k=1)
    came = {"user_id": "ann", "item_id": "i19", "request_id": slate.request_id}
    told = client.events.send([event("e1", **came), event("e1", **came), event("e2", item_id="")])
    assert [v.verdict for v in told.verdicts] == ["accepted", "duplicate", "rejected"]
    assert told.verdicts[0].attribution == "ok"


def test_tracked_events_are_sent_by_number_by_time_and_on_closing(shop: Shop, url: str) -> None:
    def stored() -> int:
        return shop.store.counts()["events"]

    with Client(url) as client:
        for n in range(100):
            client.events.track("view", f"i{n % 20:02}", user_id="ann", event_id=f"a{n}")
        until(lambda: stored() == 100, within_s=5)
        client.events.track("view", "i01", user_id="ann")
        until(lambda: stored() == 101, within_s=5)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        client.events.track("share", "i02", session_id="s1", event_time=at, value=2.0)
    assert stored() == 102
    assert client.events.unsent == []
    with pytest.raises(RecommenderError, match="closed"):
        client.events.track("view", "i01", user_id="ann")


def test_what_is_rejected_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    rejected: list[tuple[object, str]] = []
    with Client(url, on_rejected=lambda e, why: rejected.append((e["event_id"], why))) as client:
        client.events.track("teleport", "i01", user_id="ann", event_id="e1")
    assert rejected[0][0] == "e1"
    assert "teleport" in rejected[0][1]
    with caplog.at_level(logging.ERROR), Client(url) as client:
        client.events.track("teleport", "i01", user_id="ann", event_id="e2")
    assert "e2" in caplog.text


def test_events_outlive_a_server_that_is_away(shop: Shop) -> None:
    shop.publish("r1")
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", max_retries=0) as client:
        client.events.track("view", "i01", user_id="ann")
        with pytest.raises(RecommenderError) as away:
            client.events.flush()
        assert away.value.code == "unreachable"
        assert len(client.events.unsent) == 1
        with listening(shop.app(), port):
            client.events.flush()
    assert shop.store.counts()["events"] == 1


def test_events_that_cannot_be_sent_are_left_with_the_caller() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", max_retries=0)
    client.events._max_waiting = 2
    for _ in range(2):
        client.events.track("view", "i01", user_id="ann")
    with pytest.raises(RecommenderError, match="queue_full"):
        client.events.track("view", "i01", user_id="ann")
    with pytest.raises(RecommenderError, match="unreachable"):
        client.close()
    assert [e["item_id"] for e in client.events.unsent] == ["i01", "i01"]


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    busy = (429, {"Retry-After": "1"}, BUSY)
    with answering(busy, busy, (200, {}, NOTED)) as (url, asked), Client(url) as client:
        started_s = time.monotonic()
        assert client.events.send([event("e1")]).accepted == 1
        assert time.monotonic() - started_s >= 2.0
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("status", "call", "n_tries"),
    [
        (429, lambda c: c.recommend(), 3),
        (503, lambda c: c.items.delete("x"), 3),
        (500, lambda c: c.recommend(), 1),
        (404, lambda c: c.items.get("x"), 1),
    ],
)
def test_tries_are_bounded_and_only_for_what_passes(
    status: int, call: Callable[[Client], object], n_tries: int
) -> None:
    answer = (status, {"Retry-After": "0"}, BUSY)
    with (
        answering(answer) as (url, asked),
        Client(url, max_retries=2) as client,
        pytest.raises(RecommenderError) as failed,
    ):
        call(client)
    error = failed.value
    assert (error.status, error.code, error.request_id) == (status, "too_many_requests", "r1")
    assert error.retry_after_s == 0
    assert len(asked) == n_tries


@pytest.mark.parametrize("body", [b"<html>502</html>", b"{}"])
def test_an_answer_of_something_else_is_an_error_too(body: bytes) -> None:
    for status in (200, 502):
        with answering((status, {}, body)) as (url, _), Client(url) as client:
            with pytest.raises(RecommenderError) as unreadable:
                client.recommend()
            assert unreadable.value.code == "unreadable_answer"
            assert unreadable.value.status == status


def test_several_threads_may_track_at_once(shop: Shop, url: str) -> None:
    with Client(url) as client:

        def track(writer: int) -> None:
            for n in range(200):
                client.events.track("view", "i01", user_id="ann", event_id=f"{writer}-{n}")

        threads: Sequence[threading.Thread] = [
            threading.Thread(target=track, args=(n,)) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert shop.store.counts()["events"] == 800
