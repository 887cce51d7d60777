"""What it costs a request to be dealt its variants."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from recsys.experiments.assignment import Running, fnv1a32
from recsys.experiments.experiment import Design, Experiment, Metric, Plan, Variant, microseconds
from recsys.experiments.lifecycle import drafted, started

UNITS = 2_000
REPEATS = 5  # the quickest counts: whatever else the machine does only adds
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentCost:
    """Microseconds a request, ids of 36 letters, beside hashing such an id once."""

    hash_us: float
    one_us: float  # an experiment on the placement
    ten_us: float  # ten of them


def assignment_cost(seed: int) -> AssignmentCost:
    rng = Random(seed)
    ids = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(UNITS)]
    one, ten = (Running.of([_running(n) for n in range(k)], None) for k in (1, 10))
    return AssignmentCost(
        hash_us=_us(fnv1a32, ids),
        one_us=_us(_asked(one), ids),
        ten_us=_us(_asked(ten), ids),
    )


def _running(number: int) -> Experiment:
    design = Design(
        name=f"experiment-{number}",
        hypothesis="",
        variants=(Variant(key="a"), Variant(key="b", policy={"diversity": 0.01 * number})),
        plan=Plan(goals=(Metric(name="clicks", event_type="click"),)),
    )
    return started(drafted(design, _NOW), _NOW, "", ())


def _asked(running: Running) -> Callable[[str], object]:
    now_us = microseconds(_NOW)

    def ask(unit_id: str) -> object:
        return running.assign(
            placement="home", user_id=unit_id, session_id=None, now_us=now_us, attributes=dict
        )

    return ask


def _us(ask: Callable[[str], object], ids: list[str]) -> float:
    took = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for unit_id in ids:
            ask(unit_id)
        took.append(time.perf_counter() - begun)
    return min(took) / len(ids) * 1e6
