"""The keys in memory: whom a request's key belongs to, and what is wrong with it if anything.

Until the first key is made every caller is an admin, so that a demo works with plain curl. Revoked
keys count as made: taking the last one back opens nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from api.clock import now_us
from api.cors import check_open_host
from api.errors import ApiError
from api.exchange import Exchange
from api.limits import FailureMeters, Meter, Rate, rate_limited
from api.scopes import ANYBODY, SCOPES, Caller
from features.key_text import KeyText, hash_of, is_secret, parse_key
from features.keys import KeyRecord

MAX_QUERY_BYTES = 8_192
HOW = "Send `Authorization: Bearer rk_…`; `python -m jobs keys create` makes a key."

_FOREVER_US = 2**63
_NO_HASH = hash_of("")  # compared with where no key is known: both take the same time


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as it was last read."""

    caller: Caller
    secret_hash: str
    is_revoked: bool
    until_us: int

    def fault(self, now: int) -> str | None:
        if self.is_revoked:
            return "This key was revoked"
        return "This key has expired" if now >= self.until_us else None


class KeyRing:
    """`look` follows the store; one that fails leaves everything as it was."""

    def __init__(self, read: Callable[[], Sequence[KeyRecord]]) -> None:
        self._read = read
        self._known: Mapping[str, _Known] | None = None  # None: never read, nobody is let in
        self._origins: dict[str, int] = {}  # origin → until when some key lists it
        self._failures = FailureMeters()

    async def look(self) -> None:
        """Raises what the store raises."""
        records = await asyncio.to_thread(self._read)
        before = self._known or {}
        self._known = {r.key_id: _known(r, before.get(r.key_id)) for r in records}
        self._origins = {}
        for known in self._known.values():
            for origin in () if known.is_revoked else known.caller.origins:
                self._origins[origin] = max(self._origins.get(origin, 0), known.until_us)

    def lists(self, origin: str) -> bool:
        """Whether a page of this origin may use some key."""
        return self._origins.get(origin, 0) > now_us()

    def listing(self, exchange: Exchange) -> Callable[[str], bool]:
        """Which origins a preflight is answered for: those of the key in its address, or of all."""
        try:
            text = _in_query(exchange.query)
            return self.lists if text is None else self._owner(text).origins.__contains__
        except ApiError:
            return lambda _: False

    def caller(self, exchange: Exchange) -> Caller:
        """ApiError 401; 429 when too many keys of one address fail; 503 before the first look."""
        if self._known is None:
            raise ApiError(503, "The keys have not been read yet.", code="store_unavailable")
        if not self._known:
            check_open_host(exchange.head.host)
            return ANYBODY
        try:
            in_query, in_header = _in_query(exchange.query), _in_header(exchange)
            if in_header is not None and in_query is not None:
                raise _unauthorised("Found a key in the address and one in the header")
            if in_query is not None:
                return _for_pages(self._owner(in_query))
            if in_header is None:
                raise _unauthorised("Found no key")
            return self._owner(in_header)
        except ApiError:
            taken = self._failures.take(exchange.client, time.monotonic())
            if taken.wait_s:
                raise rate_limited("Too many keys from this address failed.", taken) from None
            raise

    def _owner(self, text: str) -> Caller:
        """Raises 401; messages repeat nothing of what was sent."""
        key = parse_key(text)
        if key is None:
            raise _unauthorised("Found something that is not a key")
        known = self._matching(key)
        if known is None:
            raise _unauthorised("Found a key that is not known here")
        fault = known.fault(now_us())
        if fault is not None:
            raise _unauthorised(fault)
        return known.caller

    def _matching(self, key: KeyText) -> _Known | None:
        known = (self._known or {}).get(key.key_id)
        is_right = is_secret(key.secret, _NO_HASH if known is None else known.secret_hash)
        return known if known and is_right and known.caller.role == key.role else None


def _known(record: KeyRecord, before: _Known | None) -> _Known:
    """What the key has used up since it was first read goes on counting."""
    scopes = next((s for role, s in SCOPES.items() if role == record.role), frozenset())
    caller = Caller(
        key_id=record.key_id,
        role=record.role,
        scopes=scopes,
        origins=frozenset(record.origins),
        max_body_bytes=record.max_body_bytes,
        rate=Rate(record.rate_per_s, record.burst),
        meter=before.caller.meter if before else Meter(),
    )
    until_us = _FOREVER_US if record.expires_at_us is None else record.expires_at_us
    return _Known(caller, record.secret_hash, record.revoked_at_us is not None, until_us)


def _in_header(exchange: Exchange) -> str | None:
    found = exchange.head.authorizations
    if not found:
        return None
    if len(found) > 1:
        raise _unauthorised("Found more than one Authorization header")
    scheme, _, text = found[0].partition(b" ")
    if scheme.lower() != b"bearer":
        raise _unauthorised("Found an Authorization header that does not start with Bearer")
    return text.strip().decode("latin-1")


def _in_query(query: bytes) -> str | None:
    if b"key" not in query and b"%" not in query:
        return None
    if len(query) > MAX_QUERY_BYTES:
        raise _unauthorised("Found an address that is too long to hold a key")
    found = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("key")
    if found is None:
        return None
    if len(found) > 1:
        raise _unauthorised("Found more than one key in the address")
    return found[0]


def _for_pages(caller: Caller) -> Caller:
    if caller.role != "browser":
        raise _unauthorised(
            f"Found a {caller.role} key in the address, where logs keep it: revoke it "
            f"(`python -m jobs keys revoke {caller.key_id}`)"
        )
    return caller


def _unauthorised(what: str) -> ApiError:
    return ApiError(401, f"{what}. {HOW}")
