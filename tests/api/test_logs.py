import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import orjson
import pytest

from api.logs import LogFormat, configure, current_request_id, line
from tests.api.conftest import Client


def test_a_line_stays_a_line_whatever_is_in_it() -> None:
    written = line(
        "answered", path="/v1/items/a b", cause='x"\ny=1', ms=1.234, none=None, bad="\ud800"
    )
    assert str(written) == (
        'event=answered path="/v1/items/a b" cause="x\\"\\ny=1" ms=1.23 none=None bad="?"'
    )


@contextmanager
def logged(log_format: LogFormat = "text") -> Iterator[io.StringIO]:
    """What is written to stderr meanwhile."""
    root, token = logging.getLogger(), current_request_id.set("r-1")
    before = root.handlers[:], root.level
    with redirect_stderr(io.StringIO()) as written:
        configure("info", log_format)
        yield written
    current_request_id.reset(token)
    root.handlers, root.level = before


def test_log_lines_carry_the_request_they_belong_to() -> None:
    with logged() as stderr:
        logging.getLogger("api.test").info(line("hello"))
    assert stderr.getvalue().endswith("level=INFO room=api.test request_id=r-1 event=hello\n")


def test_json_lines_have_the_same_fields_with_their_types() -> None:
    told = line("hello", n=3, big=2**70, ms=1.5, ok=True, none=None, bad="\ud800", counts={"a": 1})
    with logged("json") as stderr:
        logging.getLogger("api.test").info(told)
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("other").exception("plain %s", "text")
    first, second = map(orjson.loads, stderr.getvalue().splitlines())
    assert first.pop("time")
    assert first == {
        "level": "INFO",
        "room": "api.test",
        "request_id": "r-1",
        "event": "hello",
        "n": 3,
        "big": str(2**70),
        "ms": 1.5,
        "ok": True,
        "none": None,
        "bad": "?",
        "counts": {"a": 1},
    }
    assert second["message"] == "plain text"
    assert "two\nlines" in second["exception"]


def test_every_request_is_logged_without_its_query(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "api.edge"):
        client.get("/v1/items/i00?k=3")
    (record,) = caplog.records
    assert 'method=GET route="/v1/items/{item_id}" status=200 key_id=none' in record.message


def test_stage_timings_are_a_header(client: Client) -> None:
    answer = client.post("/v1/recommend", json={})
    assert answer.headers["Server-Timing"] == "sources;dur=0.10"
