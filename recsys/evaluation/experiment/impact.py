"""What a variant would bring a day if everybody got it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from features.events import US_PER_DAY
from recsys.evaluation.experiment.verdict import Row
from recsys.experiments.experiment import Design, microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What a variant would add a day if everybody got it, in the metric's units."""

    metric: str
    variant: str
    mean: float
    low: float  # always-valid, as high
    high: float


def covered_days(design: Design, started_us: int, until_us: int) -> float:
    """The days, each weighed by the share of the units that took part; 0 becomes infinite."""
    steps = [microseconds(step.at) for step in design.ramp]
    edges = [started_us, *(at for at in steps if started_us < at < until_us), until_us]
    low, high = design.layer_range
    days = sum((b - a) / US_PER_DAY * design.coverage_at(a) for a, b in pairwise(edges))
    return days * (high - low) or math.inf


def impacts(rows: Sequence[Row], units_a_day: float) -> Iterator[Impact]:
    """Of goals that add up over units: ratios and quantiles do not."""
    for row in rows:
        e = row.estimate
        adds_up = row.role == "goal" and row.metric.kind in ("mean", "proportion")
        ends = (e.difference, e.anytime_low, e.anytime_high)
        if adds_up and units_a_day > 0 and None not in ends:
            mean, low, high = (units_a_day * (value or 0.0) for value in ends)
            yield Impact(metric=row.metric.name, variant=row.variant, mean=mean, low=low, high=high)
