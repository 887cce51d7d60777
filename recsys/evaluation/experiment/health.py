"""Whether an experiment may be read at all; asked before any result is looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.events import US_PER_DAY
from recsys.evaluation.experiment import srm
from recsys.evaluation.experiment.estimates import Estimate, compare
from recsys.evaluation.experiment.samples import Sample
from recsys.evaluation.experiment.units import Units, samples, valueless
from recsys.experiments.experiment import Metric

MAX_MULTIPLE = 0.01  # of the units; above it who is left out may depend on the variant
MIN_MULTIPLE = 10  # units: fewer are chance
MIN_ACTED = 10  # units: fewer may all lose their values by chance
MAX_SILENT_US = US_PER_DAY  # since the last slate of a running experiment


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer in words; `is_alarm` forbids every verdict."""

    name: str
    is_alarm: bool
    words: str


def checks(
    units: Units,
    variants: Sequence[str],
    weights: Sequence[Sequence[float]],
    metrics: Sequence[Metric],
    *,
    as_of_us: int,
    is_running: bool,
    unknown_chances: float | None = None,
) -> tuple[Check, ...]:
    """Traffic, shares, units in several variants, the time before, values, whether slates arrive.

    `weights` are the planned shares by period: one, unless they moved, as a bandit's do.
    `unknown_chances` is the share of the items shown whose propensity is null.
    """
    counts = units.counts(variants)
    empty = [v for v, n in zip(variants, counts, strict=True) if n == 0]
    if empty:
        words = f"No unit has been given {', '.join(empty)} yet."
        return (Check("traffic", is_alarm=True, words=words),)
    found = [
        _shares(counts, variants, _planned(units, weights)),
        _multiple(units),
        _before(units.persons, variants, metrics),
        *_values(units, variants, metrics),
    ]
    if is_running:
        found.append(silence(units.slates["shown_at_us"], as_of_us))
    if unknown_chances is not None:
        words = f"{unknown_chances:.1%} of the items shown have no propensity: no replay uses them."
        found.append(Check("propensities", is_alarm=False, words=words))
    return tuple(found)


def _planned(units: Units, weights: Sequence[Sequence[float]]) -> list[float]:
    """The shares in which those who came in each period were to be dealt."""
    n_by_period = dict(units.persons.table.group_by("period").len().iter_rows())
    n = np.array([n_by_period.get(period, 0) for period in range(len(weights))], np.float64)
    mixed: list[float] = (n @ np.array(weights, np.float64) / n.sum()).tolist()
    return mixed


def _values(units: Units, variants: Sequence[str], metrics: Sequence[Metric]) -> Iterator[Check]:
    """Whether a variant loses the values that the control logs: a share of events, by unit."""
    for metric in metrics:
        if metric.of != "value" and metric.kind != "quantile":
            continue
        of = Metric(name=metric.name, kind="ratio", event_type=metric.event_type, per="events")
        control, *others = (valueless(units, metric, variant) for variant in variants)
        for variant, (acted, lost) in zip(variants[1:], others, strict=True):
            found = compare(
                Sample(totals=control[1], denominators=control[0]),
                Sample(totals=lost, denominators=acted),
                of,
            )
            fewest = min(np.count_nonzero(events) for events in (control[0], acted))
            if _is_apart(found, int(fewest)):
                words = (
                    f"{metric.event_type} has no value in {found.control_value:.1%} of the "
                    f"control's and {found.variant_value:.1%} of {variant}'s: {metric.name} "
                    "compares what is logged, not what happened."
                )
                yield Check("values", is_alarm=True, words=words)


def _is_apart(found: Estimate, n_acted: int) -> bool:
    if found.p_value is not None:
        return found.p_value < srm.ALARM
    # one has all values and the other none: nothing varies, and no test can tell
    return n_acted >= MIN_ACTED and found.control_value != found.variant_value


def _shares(counts: Sequence[int], variants: Sequence[str], weights: Sequence[float]) -> Check:
    n, shares = np.array(counts, np.int64), np.array(weights, np.float64)
    p = min(srm.chi_square_p(n, shares), 1.0)
    always = srm.sequential_p(n, shares)
    named = ", ".join(
        f"{variant} {count:,} of {share * n.sum():,.0f} planned"
        for variant, count, share in zip(variants, counts, shares / shares.sum(), strict=True)
    )
    is_alarm = p < srm.ALARM or always < srm.ALARM
    if is_alarm:
        words = (
            f"Units did not arrive in the planned shares ({named}): so uneven by chance once in "
            f"{1 / max(min(p, always), 1e-12):,.0f}. Something treats the variants differently "
            "before they are counted; find it before reading on."
        )
    else:
        words = f"Units arrived in the planned shares ({named})."
    return Check("shares", is_alarm, words)


def _multiple(units: Units) -> Check:
    total = len(units.table) + units.n_multiple
    share = units.n_multiple / max(total, 1)
    is_alarm = units.n_multiple >= MIN_MULTIPLE and share >= MAX_MULTIPLE
    words = (
        f"{units.n_multiple:,} units ({share:.1%}) were seen in several variants and are left out"
    )
    more = "; at most 1 % may be: choose a unit that stays the same when somebody logs in"
    return Check("several variants", is_alarm, words + (more if is_alarm else "") + ".")


def _before(units: Units, variants: Sequence[str], metrics: Sequence[Metric]) -> Check:
    """The same comparison of a time when nothing differed."""
    asked = 0
    worst: tuple[float, str] = (1.0, "")
    for metric in metrics:
        if metric.kind not in ("mean", "proportion"):
            continue
        past = [sample.before for sample in samples(units, metric, variants)]
        if any(numbers is None for numbers in past):
            continue
        control, *others = (Sample(totals=numbers) for numbers in past if numbers is not None)
        for variant, other in zip(variants[1:], others, strict=False):
            p = compare(control, other, metric).p_value
            if p is not None:
                asked += 1
                worst = min(worst, (p, f"{metric.name} of {variant}"))
    is_alarm = worst[0] * asked < srm.ALARM and asked > 0
    if is_alarm:
        words = (
            f"Before the experiment {worst[1]} already differed from the control's, more than "
            "chance explains: restart it with a new salt."
        )
    elif asked:
        words = "Before the experiment the variants did not differ."
    else:
        words = "Nothing is known of the units from before the experiment."
    return Check("time before", is_alarm, words)


def silence(shown_at_us: pl.Series, as_of_us: int) -> Check:
    """Whether a running experiment's slates still arrive; there is at least one."""
    newest = shown_at_us.max()
    assert isinstance(newest, int)
    silent_us = as_of_us - newest
    is_alarm = silent_us > MAX_SILENT_US
    hours = silent_us / US_PER_DAY * 24
    words = f"The last slate was shown {hours:,.1f} hours before this analysis"
    more = ": slates are no longer logged, or nobody comes" if is_alarm else ""
    return Check("slates arrive", is_alarm, words + more + ".")
