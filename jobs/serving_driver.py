"""Which loads a server is put under, one after the other, and what their clients saw."""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from features.errors import ConfigError
from jobs.serving_load import Plan, Stream
from jobs.serving_shop import Shop

MANY_CLIENTS = 16
BATCH = 100  # events
EVENT_CLIENTS = 4
K = 10
WARM_S = 0.3
PATIENCE_S = 60.0
MIXED_PAUSE_S = 0.04  # between batches of events beside the slates: at most 2,500 events a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the clients of one kind saw."""

    name: str
    clients: int
    per_s: float  # answers
    p50_ms: float
    p95_ms: float
    p99_ms: float
    answers: int
    failed: int  # answers that were no success


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long is measured."""

    seconds: float  # of each load, all rounds together
    rounds: int = 3  # of floor and server in turn


class Bodies:
    """Files of request bodies, a line each."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self._shop = shop
        self._folder = folder
        self._n_events = 0
        self.asks = self._written("asks", self._asks())
        self.floor = self._written(
            "floor", [{"user_id": "u", "k": K, "context_item_ids": ["a", "b"]}]
        )

    def _asks(self) -> list[dict[str, object]]:
        order = self._shop.rng.permutation(self._shop.size.shoppers)
        return [{"user_id": self._shop.user_id(shopper), "k": K} for shopper in order]

    def events(self, n_batches: int) -> str:
        """New events of everybody, about lively items."""
        shoppers = self._shop.rng.integers(self._shop.size.shoppers, size=n_batches * BATCH)
        items = self._shop.lively(n_batches * BATCH)
        first, self._n_events = self._n_events, self._n_events + n_batches * BATCH
        rows = [
            {
                "event_id": f"load-{first + n}",
                "user_id": self._shop.user_id(shopper),
                "item_id": self._shop.item_id(item),
                "event_type": "view",
            }
            for n, (shopper, item) in enumerate(zip(shoppers, items, strict=True))
        ]
        batches = ({"events": rows[n : n + BATCH]} for n in range(0, len(rows), BATCH))
        return self._written(f"events-{first}", batches)

    def _written(self, name: str, bodies: Iterable[object]) -> str:
        path = self._folder / f"{name}.jsonl"
        path.write_bytes(b"\n".join(orjson.dumps(body) for body in bodies))
        return str(path)


class Driver:
    """Runs load generators against a floor and a server."""

    def __init__(self, floor: int, server: int, key: str, bodies: Bodies, pace: Pace) -> None:
        self._bodies = bodies
        self._seconds = pace.seconds
        self._rounds = pace.rounds
        self._floor = Stream(
            name="floor", port=floor, path="/floor", bodies=bodies.floor, clients=1
        )
        self._asks = Stream(
            name="recommend",
            port=server,
            path="/v1/recommend",
            bodies=bodies.asks,
            clients=1,
            key=key,
        )
        self._events = replace(
            self._asks, name="events", path="/v1/events", clients=EVENT_CLIENTS, again=False
        )

    def slates(self) -> tuple[list[Load], float, list[str]]:
        """Loads, what the generator could ask a second, Server-Timing of a single client."""
        seen: dict[tuple[str, int], list[dict[str, Any]]] = {}
        timings: list[str] = []
        cpu_us = []
        seconds = self._seconds / self._rounds
        run(Plan(streams=(replace(self._asks, clients=4),), warm_s=0, seconds=seconds))
        for _ in range(self._rounds):
            for clients in (1, MANY_CLIENTS):
                for stream in (self._floor, self._asks):
                    plan = Plan(
                        streams=(replace(stream, clients=clients),), warm_s=WARM_S, seconds=seconds
                    )
                    found = run(plan)
                    one = found["streams"][stream.name]
                    seen.setdefault((stream.name, clients), []).append(one)
                    if stream is self._floor:
                        cpu_us.append(found["cpu_us"])
                    elif clients == 1:
                        timings += one["timings"]
        loads = [_load(name, clients, rounds, seconds) for (name, clients), rounds in seen.items()]
        return loads, 1e6 / float(np.median(cpu_us)), timings

    def events(self) -> tuple[Load, Load, Load]:
        """Batches alone; slates with batches beside them; those batches."""
        alone = replace(self._events, bodies=self._bodies.events(int(600 * self._seconds) + 50))
        found = run(Plan(streams=(alone,), warm_s=WARM_S, seconds=self._seconds))["streams"]
        beside = replace(
            self._events,
            name="events beside",
            bodies=self._bodies.events(int(30 * self._seconds) + 50),
            clients=1,
            pause_s=MIXED_PAUSE_S,
        )
        asks = replace(self._asks, name="recommend beside events", clients=MANY_CLIENTS)
        both = run(Plan(streams=(asks, beside), warm_s=WARM_S, seconds=self._seconds))["streams"]
        written, slates, batches = (
            _load(stream.name, stream.clients, [result[stream.name]], self._seconds)
            for stream, result in ((alone, found), (asks, both), (beside, both))
        )
        return written, slates, batches


def run(plan: Plan) -> dict[str, Any]:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.serving_load"],
        input=json.dumps(asdict(plan)).encode(),
        capture_output=True,
        check=False,
        timeout=plan.warm_s + plan.seconds + PATIENCE_S,
    )
    if done.returncode:
        raise ConfigError(f"the load generator failed: {done.stderr.decode()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _load(name: str, clients: int, rounds: list[dict[str, Any]], seconds: float) -> Load:
    """All rounds of `seconds` together; a second's answers are the median round's."""
    ms = np.concatenate([one["milliseconds"] for one in rounds])
    good = [sum(n for code, n in one["statuses"].items() if code[0] == "2") for one in rounds]
    p50, p95, p99 = np.percentile(ms, [50, 95, 99]) if len(ms) else (np.nan,) * 3
    return Load(
        name=name,
        clients=clients,
        per_s=float(np.median(good)) / seconds,
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        answers=len(ms),
        failed=len(ms) - sum(good),
    )
