import io
import logging

import pytest

from api.logs import configure, current_request_id, line
from tests.api.conftest import Client


def test_a_line_stays_a_line_whatever_is_in_it() -> None:
    written = line(
        "answered", path="/v1/items/a b", cause='x"\ny=1', ms=1.234, none=None, bad="\ud800"
    )
    assert written == (
        'event=answered path="/v1/items/a b" cause="x\\"\\ny=1" ms=1.23 none=None bad="?"'
    )


def test_log_lines_carry_the_request_they_belong_to(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        root.handlers = []
        configure("info")
        token = current_request_id.set("r-1")
        logging.getLogger("api.test").info(line("hello"))
        current_request_id.reset(token)
    finally:
        root.handlers, root.level = before
    assert stderr.getvalue().endswith("level=INFO room=api.test request_id=r-1 event=hello\n")


def test_every_request_is_logged_without_its_query(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "api.edge"):
        client.get("/v1/items/i00/similar?k=3")
    (record,) = caplog.records
    assert "method=GET path=/v1/items/i00/similar status=200 ms=" in record.message


def test_stage_timings_are_a_header(client: Client) -> None:
    answer = client.post("/v1/recommend", json={})
    assert answer.headers["Server-Timing"] == "sources;dur=0.10"
