"""What every request meets first and last: its id, the limit on its body, its log line."""

import logging
import secrets
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, as_api_error, envelope
from api.logs import current_request_id, line

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000  # 1,000 events of 1 kB
REQUEST_ID_HEADER = "X-Request-ID"


def new_request_id() -> str:
    """Sorts by time, so that slates reach the store's index in order; 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Edge:
    """ASGI middleware around the whole application.

    The id is always the server's own: a slate is stored under it once, so no caller may choose it.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self.max_body_bytes)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        token = current_request_id.set(exchange.request_id)
        try:
            await self._answer(scope, exchange)
        except ClientDisconnect:
            log.info(line("client_left", method=scope["method"], path=_path(scope)))
        finally:
            _count(scope, exchange)
            _log_request(scope, exchange)
            current_request_id.reset(token)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            exchange.check_head(scope)
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            raise
        except Exception as error:  # the last edge: a caller gets an answer, always
            if not isinstance(error, ApiError):
                log.exception(line("request_crashed", method=scope["method"], path=_path(scope)))
            if exchange.status is None:
                response = envelope(exchange.request_id, as_api_error(error))
                await response(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer, watched on the way in and out."""

    def __init__(self, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.request_id = new_request_id()
        self.started_s = time.perf_counter()
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._body_bytes = 0

    def check_head(self, scope: Scope) -> None:
        if "\ufffd" in scope["path"]:
            raise ApiError(400, "The path is not UTF-8. Percent-encode ids as UTF-8.")
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and len(value) < 20:
                self._check_size(int(value))

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_body_bytes:
            raise ApiError(
                413,
                f"The body has {n_bytes:,} bytes or more, expected at most "
                f"{self._max_body_bytes:,}. Send it in parts.",
            )

    async def receive(self) -> Message:
        message = await self._receive()
        self._body_bytes += len(message.get("body", b""))
        self._check_size(self._body_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            header = (REQUEST_ID_HEADER.lower().encode(), self.request_id.encode())
            message["headers"] = [*message.get("headers", ()), header]
        await self._send(message)


def _path(scope: Scope) -> str:
    return str(scope.get("raw_path", b"").decode("ascii", "backslashreplace"))[:500]


def _count(scope: Scope, exchange: _Exchange) -> None:
    route = scope.get("route")
    template = getattr(route, "path", "none")  # never the path itself: anybody makes those up
    method = scope["method"] if route is not None else "any"
    took_s = time.perf_counter() - exchange.started_s
    scope["app"].state.metrics.answered(method, template, exchange.status or 499, took_s)


def _log_request(scope: Scope, exchange: _Exchange) -> None:
    if log.isEnabledFor(logging.INFO):
        ms = (time.perf_counter() - exchange.started_s) * 1e3
        fields = {"method": scope["method"], "path": _path(scope), "status": exchange.status}
        log.info(line("answered", **fields, ms=ms))
