"""How soon the shop sees what just happened: an event, a new item."""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.errors import ConfigError
from jobs.serving_driver import K
from jobs.serving_server import ask
from jobs.serving_shop import Shop

PATIENCE_S = 30.0


def changed_answer(port: int, key: str, shop: Shop, number: int) -> tuple[bool, float]:
    """Whether the slate no longer has the item that the shopper just bought; milliseconds.

    From sending the event to having read the next slate.
    """
    who = {"user_id": shop.user_id(number), "k": K}
    first = _asked(port, key, "/v1/recommend", who)["items"][0]["item_id"]
    event = {
        "event_id": f"bought-{number}",
        "user_id": who["user_id"],
        "item_id": first,
        "event_type": "purchase",
    }
    began = time.perf_counter()
    _asked(port, key, "/v1/events", {"events": [event]})
    items = _asked(port, key, "/v1/recommend", who)["items"]
    took_ms = (time.perf_counter() - began) * 1e3
    return first not in [item["item_id"] for item in items], took_ms


def found_item(port: int, key: str, number: int) -> float:
    """Seconds from sending a new item to an answer to its name that has it; inf after 30 s."""
    item_id, name = f"new-{number}", f"zebra lamp number {number}"
    item = {"title": name, "tags": ["lamp"], "attributes": {"price": 10.0}}
    began = time.perf_counter()
    _succeeded(*ask(port, "PUT", f"/v1/items/{item_id}", json.dumps(item).encode(), key))
    while time.perf_counter() - began < PATIENCE_S:
        items = _asked(port, key, "/v1/recommend", {"query": name, "k": 50})["items"]
        if item_id in [item["item_id"] for item in items]:
            return time.perf_counter() - began
    return float("inf")


def _asked(port: int, key: str, path: str, body: dict[str, object]) -> Any:  # noqa: ANN401  JSON
    return json.loads(_succeeded(*ask(port, "POST", path, json.dumps(body).encode(), key)))


def _succeeded(status: int, answer: bytes) -> bytes:
    if not 200 <= status < 300:  # any success
        raise ConfigError(f"the server answered {status}: {answer[:300].decode()}; see its log")
    return answer


def stages_of(timings: Sequence[str]) -> dict[str, float]:
    """Server-Timing headers, `sources;dur=1.25, …`: the median milliseconds of each stage."""
    found: dict[str, list[float]] = {}
    for timing in timings:
        for part in timing.split(", "):
            stage, _, ms = part.partition(";dur=")
            found.setdefault(stage, []).append(float(ms))
    return {stage: float(np.median(ms)) for stage, ms in found.items()}
