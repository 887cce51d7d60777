import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.middleware import Middleware

from api.__main__ import tracing
from api.app import create_app
from api.logs import configure
from api.traces import Traces
from features.errors import ConfigError
from tests.api.conftest import Client, Shop, until
from tests.api.fake_recommender import load_fake

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(shop: Shop, exporter: InMemorySpanExporter) -> Iterator[Client]:
    shop.publish("r1")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    around = [Middleware(Traces, provider=provider)]
    with Client(create_app(shop.settings, load=load_fake, around=around)) as opened:
        until(lambda: opened.serves("r1"))
        yield opened


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_a_span_of_the_callers_trace_and_its_stages_are_children(
    client: Client, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
    answer = client.post("/v1/recommend", json={}, headers=headers)
    found = spans(exporter)
    request, stage = found["POST /v1/recommend"], found["sources"]
    assert request.context is not None
    assert f"{request.context.trace_id:032x}" == TRACE_ID
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT_ID
    assert request.kind is SpanKind.SERVER
    assert request.attributes is not None
    assert request.attributes["http.route"] == "/v1/recommend"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["recsys.request_id"] == answer.headers["X-Request-ID"]
    assert stage.parent is not None
    assert stage.parent.span_id == request.context.span_id
    assert stage.start_time is not None
    assert stage.end_time is not None
    assert stage.end_time - stage.start_time == 100_000  # the fake's 0.1 ms
    assert request.end_time is not None
    assert stage.end_time <= request.end_time


def test_a_broken_traceparent_begins_a_trace_of_its_own(
    client: Client, exporter: InMemorySpanExporter
) -> None:
    client.get("/healthz", headers={"traceparent": "00-nonsense-01"})
    assert spans(exporter)["GET /healthz"].parent is None


def test_a_path_that_is_none_names_no_span(client: Client, exporter: InMemorySpanExporter) -> None:
    client.get("/shopper/42")
    assert {*spans(exporter)} == {"GET"}


def test_a_failure_of_the_server_is_an_error_and_a_callers_is_not(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(shop.settings, around=[Middleware(Traces, provider=provider)])
    with Client(app) as client:
        client.get("/readyz")
        client.get("/v1/items/none")
    status = {span.name: span.status.status_code for span in exporter.get_finished_spans()}
    assert status["GET /readyz"] is StatusCode.ERROR
    assert status["GET /v1/items/{item_id:path}"] is StatusCode.UNSET


def test_log_lines_carry_the_trace(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure("info")
        client.get("/healthz", headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"})
    finally:
        root.handlers, root.level = before
    (answered,) = [row for row in stderr.getvalue().splitlines() if "event=answered" in row]
    assert f" trace_id={TRACE_ID} event=answered" in answered


def test_nothing_is_imported_where_nothing_is_configured() -> None:
    code = (
        "import sys, api.__main__ as m; assert m.tracing({}) == [];"
        "assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configured_but_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "api.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT.*not installed.*otel"):
        tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
