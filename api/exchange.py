"""One request and its answer: what everything between the edge and the endpoint knows of them."""

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.types import Scope

from api.errors import ApiError

if TYPE_CHECKING:
    from api.scopes import Caller

MAX_BODY_BYTES = 1_000_000  # 1,000 events of 1 kB; for whoever has no key that says otherwise
MAX_HEAD_BYTES = 32_768  # a browser's cookies fill 16 KB at most


def new_request_id() -> str:
    """Sorts by time, so that slates reach the store's index in order; 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


@dataclass(frozen=True, slots=True)
class Head:
    """The headers that decide whether a request is let in; as sent, unchecked."""

    authorizations: tuple[bytes, ...]
    origins: tuple[bytes, ...]
    host: bytes
    content_length: int
    n_bytes: int


def read_head(scope: Scope) -> Head:
    authorizations, origins, host, length, n_bytes = [], [], b"", 0, 0
    for name, value in scope["headers"]:
        n_bytes += len(name) + len(value)
        if name == b"authorization":
            authorizations.append(value)
        elif name == b"origin":
            origins.append(value)
        elif name == b"host":
            host = value
        elif name == b"content-length" and value.isdigit() and len(value) < 20:
            length = int(value)
    return Head(tuple(authorizations), tuple(origins), host, length, n_bytes)


@dataclass(slots=True)
class Exchange:
    """Filled in on the request's way through: by the edge, the door of its route, the endpoint."""

    head: Head
    query: bytes = field(repr=False)  # may hold a key
    client: str
    request_id: str = field(default_factory=new_request_id)
    started_s: float = field(default_factory=time.perf_counter)
    status: int | None = None
    caller: "Caller | None" = None  # None: nobody was let in
    headers: dict[bytes, bytes] = field(default_factory=dict)  # of the answer, whatever it is
    max_body_bytes: int = MAX_BODY_BYTES

    def limit_body(self, max_bytes: int) -> None:
        """ApiError 413 at once if the request says that it is longer."""
        self.max_body_bytes = max_bytes
        self.check_size(self.head.content_length)

    def check_size(self, n_bytes: int) -> None:
        if n_bytes > self.max_body_bytes:
            raise ApiError(
                413,
                f"The body has {n_bytes:,} bytes or more, expected at most "
                f"{self.max_body_bytes:,}. Send it in parts.",
            )


def start_exchange(scope: Scope) -> Exchange:
    """Also puts it where `exchange_of` finds it."""
    client = scope.get("client")
    exchange = Exchange(read_head(scope), scope["query_string"], client[0] if client else "")
    scope.setdefault("state", {}).update(exchange=exchange, request_id=exchange.request_id)
    return exchange


def exchange_of(scope: Scope) -> Exchange:
    found = scope["state"]["exchange"]
    assert isinstance(found, Exchange)  # the edge puts it there before anything else runs
    return found
