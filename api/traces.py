"""A span a request, with its stages, for OpenTelemetry; imported only where that is configured."""

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from opentelemetry.trace import set_span_in_context as inside
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.logs import current_trace_id

_STAGE = re.compile(r"([\w.-]+);dur=([\d.]+)")
_PARENT = (b"traceparent", b"tracestate")


def exporting(environment: Mapping[str, str]) -> Middleware:
    """Spans go where the OTEL_… variables say, in batches, from a thread of their own."""
    name = environment.get("OTEL_SERVICE_NAME", "storefront-recsys")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Middleware(Traces, provider=provider)


class Traces:
    """ASGI middleware, the outermost: whatever is logged about a request carries its trace_id."""

    def __init__(self, app: ASGIApp, *, provider: TracerProvider) -> None:
        self.app = app
        self._provider = provider
        self._tracer = provider.get_tracer("storefront-recsys")
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._traced(scope, receive, send)
        else:
            await self.app(scope, receive, self._flushing(send))

    def _flushing(self, send: Send) -> Send:
        async def passed_on(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await asyncio.to_thread(self._provider.shutdown)  # sends what waits
            await send(message)

        return passed_on

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        carrier = {n.decode(): v.decode("latin-1") for n, v in scope["headers"] if n in _PARENT}
        span = self._tracer.start_span(
            scope["method"],
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"]},
        )

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(span, message)
            await send(message)

        token = current_trace_id.set(format_trace_id(span.get_span_context().trace_id))
        try:
            await self.app(scope, receive, watched)
        finally:
            current_trace_id.reset(token)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            span.end()

    def _answered(self, span: Span, start: Message) -> None:
        headers: dict[bytes, Any] = dict(start.get("headers", ()))
        span.set_attribute("http.response.status_code", start["status"])
        if start["status"] >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if request_id := headers.get(b"x-request-id"):
            span.set_attribute("recsys.request_id", request_id.decode())
        self._stages(span, headers.get(b"server-timing", b"").decode("latin-1"))

    def _stages(self, span: Span, timing: str) -> None:
        """The stages follow each other and end as the answer leaves; only lengths are measured."""
        stages = [(name, int(float(ms) * 1e6)) for name, ms in _STAGE.findall(timing)]
        at_ns = time.time_ns() - sum(took_ns for _, took_ns in stages)
        for name, took_ns in stages:
            stage = self._tracer.start_span(name, context=inside(span), start_time=at_ns)
            at_ns += took_ns
            stage.end(at_ns)
