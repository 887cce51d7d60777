"""A small experiment by hand: its slates, its events, and one look at it."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from features.events import EVENT_SCHEMA, US_PER_DAY
from features.slates import ASSIGNMENT_SCHEMA
from recsys.evaluation.experiment.analysis import Analysis, analyse
from recsys.experiments.experiment import Design, Experiment, Metric, Plan, Variant
from recsys.experiments.lifecycle import drafted, started

START = datetime(2026, 3, 2, tzinfo=UTC)
START_US = int(START.timestamp() * 1e6)
CLICKS = Metric(name="clicks", event_type="click")
SPENT = Metric(name="spent", event_type="purchase", of="value")
RATE = Metric(name="click-rate", event_type="click", kind="ratio", per="slates", margin=0.02)


def running(start: datetime = START, **changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "try",
        "hypothesis": "it helps",
        "unit": "user",
        "variants": (Variant(key="control"), Variant(key="new", policy={"exploration": 0.05})),
        "plan": Plan(goals=(CLICKS,)),
    }
    return started(drafted(Design(**fields | changes), start), start, "", ())


def slate(user_id: str | None, variant: str, day: float, **changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "request_id": f"r-{user_id}-{day}",
        "experiment": "try",
        "phase": 1,
        "variant": variant,
        "how": "hash",
        "unit_id": user_id,
        "user_id": user_id,
        "session_id": f"s-{user_id}",
        "placement": "home",
        "shown_at_us": START_US + int(day * US_PER_DAY),
        "n_items": 10,
        "teams": None,
    }
    return given | changes


def event(user_id: str, day: float, kind: str = "click", **changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "event_id": f"e-{user_id}-{day}-{kind}",
        "user_id": user_id,
        "session_id": None,
        "item_id": "i",
        "event_type": kind,
        "event_time_us": START_US + int(day * US_PER_DAY),
        "request_id": None,
        "value": None,
    }
    return given | changes


def tables(
    slates: list[dict[str, object]], events: list[dict[str, object]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.DataFrame(slates, ASSIGNMENT_SCHEMA), pl.DataFrame(events, EVENT_SCHEMA)


def looked(
    slates: list[dict[str, object]],
    events: list[dict[str, object]],
    experiment: Experiment | None = None,
    *,
    days: float = 10,
) -> Analysis:
    as_of_us = START_US + int(days * US_PER_DAY)
    return analyse(experiment or running(), *tables(slates, events), as_of_us=as_of_us)


def crowd(n: int = 400, *, days: float = 9.5) -> list[dict[str, object]]:
    return [slate(f"u{u}", ("control", "new")[u % 2], days * (u + 1) / n) for u in range(n)]


def clicking(n: int = 400, day: float = 9.6) -> list[dict[str, object]]:
    rng = np.random.default_rng(3)
    return [
        event(f"u{u}", day + 0.001 * c)
        for u in range(n)
        for c in range(int(rng.poisson(2 + u % 2)))
    ]
