"""GET /metrics: what Prometheus asks this process for.

A request adds to plain dictionaries, a microsecond or two in all; a scrape turns them into metrics
and reads what the server knows anyway (queues, release, catalogue) at that moment.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from api.clock import now_us
from api.day import Day
from api.keys import SCOPE, ScopedRoute
from features.events import US_PER_SECOND
from recsys.experiments.assignment import Assigned
from recsys.types import Answer

router = APIRouter(route_class=ScopedRoute)

# Half a millisecond is a no-op answer here, two seconds is when a shopper has left.
BOUNDS_S = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
)
STAGE_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
CLICK = "click"  # the event type that makes a click-through rate

Tally = Counter[tuple[str, ...]]


class Spread:
    """How often values fell between bounds; a tenth of the cost of the library's histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Metrics(Collector):
    """What one application has counted; added to on its event loop, read from any thread."""

    def __init__(self) -> None:
        self.day: Day | None = None  # while the application is up
        self.requests: Tally = Counter()
        self.latencies: dict[tuple[str, ...], Spread] = {}
        self.stages: dict[tuple[str, ...], Spread] = {}
        self.tallies: dict[str, Tally] = {name: Counter() for name in _TALLIES}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        self.requests[method, route, str(status)] += 1
        key = (method, route)
        spread = self.latencies.get(key)
        if spread is None:
            spread = self.latencies[key] = Spread(BOUNDS_S)
        spread.add(took_s)

    def recommended(self, placement: str, answer: Answer) -> None:
        """An answer that a shopper is about to see."""
        for stage, ms in answer.stage_ms.items():
            spread = self.stages.get((stage,))
            if spread is None:
                spread = self.stages[stage,] = Spread(STAGE_BOUNDS_S)
            spread.add(ms / 1e3)
        self.tallies["recsys_slates"][placement,] += 1
        self.tallies["recsys_exposures"][placement,] += len(answer.item_ids)
        if answer.degraded:
            self.failed(answer.degraded)
        for fallback in answer.fallbacks:
            self.tallies["recsys_fallbacks"][placement, fallback] += 1
        for rule_id in answer.fired:
            self.tallies["recsys_rules_fired"][rule_id,] += 1

    def assigned(self, assigned: Assigned) -> None:
        for given in assigned.assignments:
            self.tallies["recsys_assignments"][given.experiment, given.variant] += 1
        for experiment in assigned.failed:
            self.tallies["recsys_assignments_failed"][experiment,] += 1

    def failed(self, parts: Iterable[str]) -> None:
        """Parts of an answer that it had to do without."""
        for part in parts:
            self.tallies["recsys_degraded"][part,] += 1

    def told(self, verdicts: Mapping[str, int]) -> None:
        for verdict, n in verdicts.items():
            self.tallies["recsys_events"][verdict,] += n

    def attributed(self, attribution: str, n: int = 1) -> None:
        """`attribution` says what an accepted event's request_id was found to be."""
        self.tallies["recsys_event_attribution"][attribution,] += n

    def acted_on(self, placement: str, event_type: str) -> None:
        """An accepted event that a slate of `placement` led to."""
        self.tallies["recsys_attributed_events"][placement, event_type] += 1

    def collect(self) -> Iterator[Metric]:
        yield _counter(
            "recsys_requests", "Answers by status", ("method", "route", "status"), self.requests
        )
        yield _histogram(
            "recsys_request_seconds",
            "From the request's head to the answer's end",
            ("method", "route"),
            self.latencies,
        )
        yield _histogram(
            "recsys_stage_seconds", "Stages of a recommendation", ("stage",), self.stages
        )
        for name, (labels, meaning) in _TALLIES.items():
            yield _counter(name, meaning, labels, self.tallies[name])
        if self.day is not None:
            yield from _state(self.day)


_TALLIES: dict[str, tuple[tuple[str, ...], str]] = {
    "recsys_slates": (("placement",), "Slates answered"),
    "recsys_exposures": (("placement",), "Items in answered slates"),
    "recsys_attributed_events": (
        ("placement", "event_type"),
        f'Events that name the slate they come from; event_type="{CLICK}" over recsys_exposures '
        "is the click-through rate",
    ),
    "recsys_event_attribution": (("attribution",), "Accepted events by what their slate was"),
    "recsys_events": (("verdict",), "Events told"),
    "recsys_degraded": (("part",), "Answers that had to do without a source or a read"),
    "recsys_fallbacks": (("placement", "fallback"), "Slates filled up from a fallback"),
    "recsys_assignments": (("experiment", "variant"), "Slates by what experiments gave them"),
    "recsys_assignments_failed": (
        ("experiment",),
        "Slates that the control answered because an experiment could not be asked",
    ),
    "recsys_rules_fired": (("rule_id",), "Slates a rule changed"),
}


def _state(today: Day) -> Iterator[Metric]:
    """What is read at the moment of the scrape."""
    for name, n in today.slates.counts().items():
        if name == "waiting":
            yield _gauge("recsys_slate_queue_waiting", "Slates not yet in the store", n)
        else:
            yield _counter(f"recsys_slates_{name}", f"Slates {name}", (), {(): n})
    yield _gauge("recsys_event_queue_waiting", "Events not yet in the store", today.events.waiting)
    live = today.live
    yield _counter("recsys_releases_refused", "Releases found unfit", (), {(): live.n_refused})
    yield _counter("recsys_releases_served", "Releases that went live", (), {(): live.n_swaps})
    serving = live.serving
    yield _gauge("recsys_ready", "1 while a release is served", int(serving is not None))
    if serving is not None:
        release = GaugeMetricFamily("recsys_release_info", "What is served", labels=("release_id",))
        release.add_metric((serving.recommender.release_id,), 1)
        yield release
        age_s = (now_us() - serving.created_at_us) / US_PER_SECOND
        yield _gauge("recsys_release_age_seconds", "Since its night", age_s)
        n_available = serving.recommender.catalog.n_available
        yield _gauge("recsys_items_available", "Items that can be shown", n_available)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _counter(
    name: str, meaning: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]
) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, n in dict(counts).items():  # a copy: requests go on while this is written
        family.add_metric(values, n)
    return family


def _histogram(
    name: str, meaning: str, labels: tuple[str, ...], spreads: Mapping[tuple[str, ...], Spread]
) -> Metric:
    family = HistogramMetricFamily(name, meaning, labels=labels)
    for values, spread in dict(spreads).items():
        family.add_metric(values, spread.buckets(), spread.total)
    return family


def counted(request: Request) -> Metrics:
    """Where an endpoint adds what it did."""
    found = request.app.state.metrics
    assert isinstance(found, Metrics)
    return found


@router.get("/metrics", include_in_schema=False, openapi_extra={SCOPE: "metrics"})
async def scrape(request: Request) -> Response:
    registry = counted(request).registry
    text = await asyncio.to_thread(generate_latest, registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
