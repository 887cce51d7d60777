"""What every request meets first and last: its id, limits on its size, its log line."""

import asyncio
import logging
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.cors import is_preflight, preflight
from api.errors import ApiError, as_api_error, envelope
from api.exchange import MAX_HEAD_BYTES, Exchange, start_exchange
from api.logs import current_request_id, line

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
PATIENCE_S = 20.0  # for a body to come, plus its size at a bad phone connection's speed
SLOWEST_BYTES_PER_S = 5_000


class Edge:
    """ASGI middleware around the whole application.

    The id is always the server's own: a slate is stored under it once, so no caller may choose it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = start_exchange(scope)
        token = current_request_id.set(exchange.request_id)
        try:
            await self._answer(scope, exchange, counted(receive, exchange), _told(send, exchange))
        except ClientDisconnect:
            log.info(line("client_left", method=scope["method"], route=_route(scope)))
        finally:
            took_s = time.perf_counter() - exchange.started_s
            _count(scope, exchange, took_s)
            _log_request(scope, exchange, took_s)
            current_request_id.reset(token)

    async def _answer(self, scope: Scope, exchange: Exchange, receive: Receive, send: Send) -> None:
        try:
            _check_head(scope, exchange)
            if is_preflight(scope):
                is_listed = scope["app"].state.day.keys.listing(exchange)
                await preflight(exchange, is_listed)(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        except ClientDisconnect:
            raise
        except Exception as error:  # the last edge: a caller gets an answer, always
            if not isinstance(error, ApiError):
                log.exception(line("request_crashed", method=scope["method"], route=_route(scope)))
            if exchange.status is None:
                response = envelope(exchange.request_id, as_api_error(error))
                await response(scope, receive, send)


def _check_head(scope: Scope, exchange: Exchange) -> None:
    if "\ufffd" in scope["path"]:
        raise ApiError(400, "The path is not UTF-8. Percent-encode ids as UTF-8.")
    if "\n" in scope["path"]:  # the one character that no route's pattern matches
        raise ApiError(400, "The path holds a line break, which no id may.")
    n_bytes = exchange.head.n_bytes + len(exchange.query)
    if n_bytes > MAX_HEAD_BYTES:
        raise ApiError(
            431, f"Headers and query have {n_bytes:,} bytes, expected at most {MAX_HEAD_BYTES:,}."
        )


def counted(receive: Receive, exchange: Exchange, *, patience_s: float = PATIENCE_S) -> Receive:
    """The body, as long as it is neither too long nor too slow: ApiError 413 or 408."""
    n_bytes, is_whole = 0, False

    async def counted_and_timed() -> Message:
        nonlocal n_bytes, is_whole
        if is_whole:  # what comes now is that the caller leaves, and that may take its time
            return await receive()
        late_s = exchange.started_s + patience_s + n_bytes / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(late_s - time.perf_counter()):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, f"After {n_bytes:,} bytes the rest of the body is late.") from None
        n_bytes += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        exchange.check_size(n_bytes)
        return message

    return counted_and_timed


def _told(send: Send, exchange: Exchange) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            request_id = (REQUEST_ID_HEADER.lower().encode(), exchange.request_id.encode())
            headers = message.get("headers", ())
            message["headers"] = [*headers, request_id, *exchange.headers.items()]
        await send(message)

    return told


def _route(scope: Scope) -> str:
    """Its template, never the path itself: that names shoppers, and anybody makes those up."""
    return getattr(scope.get("route"), "path_format", "none")


def _count(scope: Scope, exchange: Exchange, took_s: float) -> None:
    route = _route(scope)
    method = scope["method"] if route != "none" else "any"
    scope["app"].state.metrics.answered(method, route, exchange.status or 499, took_s)


def _log_request(scope: Scope, exchange: Exchange, took_s: float) -> None:
    """Who asked by the key's id: a key is never written down, and neither is a query string."""
    if log.isEnabledFor(logging.INFO):
        caller = exchange.caller
        fields = {
            "method": scope["method"],
            "route": _route(scope),
            "status": exchange.status,
            "key_id": caller.key_id if caller else "-",
            "role": caller.role if caller else "-",
        }
        log.info(line("answered", **fields, ms=took_s * 1e3))
