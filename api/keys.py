"""The door in front of every endpoint: who asks, from which page, how often, and for what."""

import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.cors import VARY, check_page, let_read, sent_origin
from api.errors import ApiError
from api.exchange import Exchange, exchange_of
from api.keyring import KeyRing
from api.limits import headers_of, rate_limited
from api.scopes import ANYBODY, PUBLIC, Caller, Scope

SCOPE, MAX_BODY = "x-scope", "x-max-body-bytes"  # where a route's description says them

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class ScopedRoute(APIRoute):
    """Lets in whose key allows the scope that `documented` wrote down; without one, nobody."""

    @property
    def scope(self) -> Scope | None:
        return cast(Scope | None, (self.openapi_extra or {}).get(SCOPE))

    def get_route_handler(self) -> Endpoint:
        endpoint, scope = super().get_route_handler(), self.scope
        max_body_bytes = (self.openapi_extra or {}).get(MAX_BODY)
        if scope == PUBLIC:
            return endpoint

        async def guarded(request: Request) -> Response:
            exchange = exchange_of(request.scope)
            admit(exchange, request.app.state.day.keys, scope)
            allowed = caller(request).max_body_bytes if max_body_bytes is None else max_body_bytes
            exchange.limit_body(allowed)
            return await endpoint(request)

        return guarded


def admit(exchange: Exchange, keys: KeyRing, scope: Scope | None) -> None:
    """ApiError 401, 403, 429 or 503, else the exchange has a caller."""
    exchange.headers |= VARY
    origin = sent_origin(exchange)
    try:
        exchange.caller = keys.caller(exchange)
    except ApiError:
        if origin is not None and keys.lists(origin):  # its page may read why
            let_read(exchange, origin)
        raise
    check_page(exchange, origin, exchange.caller)
    if scope is None:
        raise ApiError(403, "This endpoint names no scope, so no key opens it.")
    _take(exchange, exchange.caller, 1)
    exchange.caller.needs(scope)


def caller(request: Request) -> Caller:
    """Only behind a ScopedRoute that is not public."""
    found = exchange_of(request.scope).caller
    assert isinstance(found, Caller)  # the door has let somebody in
    return found


def is_from_known_page(request: Request) -> bool:
    """Whether a page sent it that may: the door has checked its Origin against the key's list."""
    who, origins = caller(request), exchange_of(request.scope).head.origins
    return bool(origins) and (who.role == "browser" or who is ANYBODY)


def charge(request: Request, n: int) -> None:
    """Let the request count `n` times in all; ApiError 429. The door has counted it once."""
    if n > 1:
        _take(exchange_of(request.scope), caller(request), n - 1)


def _take(exchange: Exchange, who: Caller, n: int) -> None:
    if who.rate is None:
        return
    taken = who.meter.take(who.rate, n, time.monotonic())
    exchange.headers |= headers_of(who.rate, taken)
    if taken.wait_s:
        raise rate_limited(
            f"This key may ask {who.rate.per_s:g} times a second, {who.rate.burst} at once.", taken
        )
