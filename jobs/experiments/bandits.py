"""Bandits whose truth is known: shares that move daily, shoppers who come back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array, Int64Array
from jobs.experiments.simulation import ALPHA, LOOKS, UNITS, Futures, Share
from recsys.evaluation.experiment.allocation import shares
from recsys.evaluation.experiment.samples import Sample
from recsys.evaluation.experiment.strata import combined, compare_strata
from recsys.experiments.experiment import Metric, Plan
from recsys.progress import Progress

METRIC = Metric(name="clicks", event_type="click", cuped_days=0)
PLAN = Plan(goals=(METRIC,), alpha=ALPHA, n_star=UNITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditRuns:
    """How often equal variants are called different, and what better ones get."""

    always_valid: Share  # A/A: any daily look's always-valid p below alpha
    found: Share  # a better variant: called by the last look
    mean_share: float  # of the better variant, over all days and experiments
    last_share: float  # on the last day


def bandit_runs(futures: Futures, *, experiments: int, seed: int, progress: Progress) -> BanditRuns:
    """Each twice: once with equal variants, once with a better one."""
    slates, *clicks = (np.diff(sums, prepend=0.0) for sums in (futures.slates, *futures.clicks))
    alarms, found, courses = [], [], []
    for number in progress.track(range(experiments), total=experiments, label="bandits"):
        rng = np.random.default_rng([seed, 9, number])
        rows = rng.choice(len(slates), size=UNITS, replace=False)
        places = rng.random(UNITS)
        alike = [clicks[0][rows], clicks[0][rows]]
        p_values, _ = _run(places, slates[rows], alike)
        alarms.append(min(p_values) < ALPHA)
        p_values, course = _run(places, slates[rows], [arm[rows] for arm in clicks])
        found.append(p_values[-1] < ALPHA)
        courses.append(course)
    return BanditRuns(
        always_valid=Share.of(alarms),
        found=Share.of(found),
        mean_share=float(np.mean(courses)),
        last_share=float(np.mean([course[-1] for course in courses])),
    )


def _run(
    places: Float64Array, slates: Float64Array, clicks: Sequence[Float64Array]
) -> tuple[list[float], list[float]]:
    """P of each day's look, and the second variant's share of each day."""
    share, p_values, course = 0.5, [], []
    strata: list[list[Sample]] = []
    for day in range(LOOKS):
        came = slates[:, day] > 0
        is_second = places >= 1 - share
        who = [np.flatnonzero(came & ~is_second), np.flatnonzero(came & is_second)]
        strata.append([_sample(arm[:, day], rows) for arm, rows in zip(clicks, who, strict=True)])
        course.append(share)
        found = compare_strata(strata, 1, METRIC, PLAN)
        p_values.append(1.0 if found.p_anytime is None else found.p_anytime)
        whole = combined(strata, METRIC)
        share = 0.5 if isinstance(whole, str) else shares(whole.arms)[1]
    return p_values, course


def _sample(clicks: Float64Array, rows: Int64Array) -> Sample:
    return Sample(totals=clicks[rows], persons=rows)
