"""Which pages of which sites may talk to this server from a browser: those their key lists."""

import ipaddress
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Scope

from api.errors import ApiError, envelope
from api.exchange import Exchange
from api.scopes import Caller

EXPOSED = "X-Request-ID, Retry-After, Server-Timing, RateLimit-Limit, RateLimit-Remaining"
PREFLIGHT_MAX_AGE_S = 600  # Chrome keeps one for two hours at most; a new list is seen sooner

VARY = {b"vary": b"Origin"}  # what one page may read, another may not: caches keep them apart
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
}


def sent_origin(exchange: Exchange) -> str | None:
    """As a browser sends it; None where no page asks. ApiError 400 for two of them."""
    origins = exchange.head.origins
    if len(origins) > 1:
        raise ApiError(400, f"Found {len(origins)} Origin headers, expected one at most.")
    return origins[0].decode("latin-1") if origins else None


def let_read(exchange: Exchange, origin: str) -> None:
    """The page may read this answer, success or not; cookies play no part."""
    exchange.headers |= {
        b"access-control-allow-origin": origin.encode("latin-1"),
        b"access-control-expose-headers": EXPOSED.encode(),
    }


def check_page(exchange: Exchange, origin: str | None, caller: Caller) -> None:
    """ApiError 403 unless the request comes from no page, its key's pages or our own (/docs)."""
    if origin is None or origin.partition("://")[2].encode("latin-1") == exchange.head.host:
        return
    if origin in caller.origins:
        let_read(exchange, origin)
        return
    if caller.role == "browser":
        raise ApiError(403, "This page's origin is not on its key's list (--origin).")
    if caller.key_id == "none":
        raise ApiError(
            403,
            "A page of another site asked, and no key lists its origin. "
            "Make one: `python -m jobs keys create --role browser --origin …`.",
        )
    raise ApiError(
        403,
        f"A page of a site sent a {caller.role} key, which everybody who opens that page can "
        f"read. Revoke it (`python -m jobs keys revoke {caller.key_id}`) and give the page a "
        "browser key.",
    )


def is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def preflight(exchange: Exchange, is_listed: Callable[[str], bool]) -> Response:
    """What a browser asks before it sends a page's request; the request itself has the key."""
    exchange.headers |= VARY
    origin = sent_origin(exchange)
    if origin is None or not is_listed(origin):
        error = ApiError(403, "No key lists this page's origin (--origin).")
        return envelope(exchange.request_id, error)
    let_read(exchange, origin)
    return Response(status_code=204, headers=_PREFLIGHT)


def check_open_host(host: bytes) -> None:
    """ApiError 403 for a name that a page of another site could have pointed at this machine.

    While there are no keys a page could otherwise read everything under its own name (DNS
    rebinding). Addresses, localhost and names without a dot are nobody else's.
    """
    name = host.decode("latin-1")
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    if "." not in name.rstrip("."):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise ApiError(
            403,
            "There are no keys, and then only addresses, localhost and names without a dot are "
            "answered. Make a key: `python -m jobs keys create --role admin --name me`.",
        ) from None
