"""Asks a server as fast as it answers, from a process of its own: `python -m jobs.serving_load`.

A plan comes in as JSON, what happened goes out as JSON. Each client waits for its answer before it
asks again. Nothing but the answer's head is read, so one core asks far more than a server answers.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import cast

import httptools
import uvloop

KEPT_TIMINGS = 5_000  # Server-Timing headers, for the stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One kind of request, its bodies in a file, a line each."""

    name: str
    port: int
    path: str
    bodies: str  # the file's name
    clients: int
    again: bool = True  # begin again after the last body; False: stop
    pause_s: float = 0.0  # of a client, after each answer
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Streams that run at the same time; what begins in the first `warm_s` is not counted."""

    streams: tuple[Stream, ...]
    warm_s: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "Plan":
        found = json.loads(text)
        return cls(**found | {"streams": tuple(Stream(**stream) for stream in found["streams"])})


@dataclass(slots=True)
class Found:
    """What one stream's clients saw after the warm-up."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    timings: list[str] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """One connection that stays open."""

    def __init__(self, requests: Iterator[bytes], found: Found, stream: Stream, plan: Plan) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._found = found
        self._pause_s = stream.pause_s
        self._counted_from = time.perf_counter() + plan.warm_s
        self._until = self._counted_from + plan.seconds
        self._asked = 0.0
        self._timing = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        request = next(self._requests, None) if self._asked < self._until else None
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"server-timing":
            self._timing = value

    def on_message_complete(self) -> None:
        if self._asked >= self._counted_from:
            found = self._found
            found.milliseconds.append((time.perf_counter() - self._asked) * 1e3)
            status = self._parser.get_status_code()
            found.statuses[status] = found.statuses.get(status, 0) + 1
            if self._timing and len(found.timings) < KEPT_TIMINGS:
                found.timings.append(self._timing.decode())
        if self._pause_s:
            asyncio.get_running_loop().call_later(self._pause_s, self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if exc is None and not self._transport.is_closing():
            exc = ConnectionError("the server closed a connection")
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


def requests_of(stream: Stream) -> Iterator[bytes]:
    """Whole HTTP requests."""
    key = f"Authorization: Bearer {stream.key}\r\n" if stream.key else ""
    head = (
        f"POST {stream.path} HTTP/1.1\r\nHost: 127.0.0.1:{stream.port}\r\n{key}"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    bodies = Path(stream.bodies).read_bytes().splitlines()
    whole = [head + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies]
    return cycle(whole) if stream.again else iter(whole)


async def drive(plan: Plan) -> dict[str, object]:
    """By stream what was found; `cpu_us` of this process a request."""
    loop, clients = asyncio.get_running_loop(), []
    found = {stream.name: Found() for stream in plan.streams}
    asked = {stream.name: requests_of(stream) for stream in plan.streams}
    cpu_before = time.process_time()
    for stream in plan.streams:
        for _ in range(stream.clients):
            _, client = await loop.create_connection(
                lambda s=stream: _Client(asked[s.name], found[s.name], s, plan),  # type: ignore[misc]
                "127.0.0.1",
                stream.port,
            )
            clients.append(client.done)
    await asyncio.gather(*clients)
    n = sum(len(one.milliseconds) for one in found.values())
    share = plan.seconds / (plan.seconds + plan.warm_s)  # of the CPU time, what was counted
    return {
        "streams": {name: asdict(one) for name, one in found.items()},
        "cpu_us": (time.process_time() - cpu_before) * share * 1e6 / max(n, 1),
    }


def main() -> None:
    plan = Plan.parse(sys.stdin.read())
    json.dump(uvloop.run(drive(plan)), sys.stdout)


if __name__ == "__main__":
    main()
