"""Whether text alone pushes a brand or a category down, and who gets all the attention.

Every shopper's next item is ranked by the taste in their history. A group of items is *pushed
down* where two things hold beyond chance, after Holm's correction over all groups:

- its items, when somebody did take them next, lie further back than other groups' items of the
  same popularity;
- it fills less of everybody's first ten than of what shoppers then took.

Either alone has an innocent reading: shoppers of a group may be hard to read, and a group may be
asked for by few shoppers who are shown little else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
import polars as pl

from features.arrays import BoolArray, Float64Array, Int64Array
from recsys.evaluation.bootstrap import Interval, holm, paired_bootstrap
from recsys.evaluation.metrics import catalogue_coverage, gini
from recsys.evaluation.next_item import NextItems, Ranking

MIN_TARGETS = 30  # next items of a group; the mean of fewer is no normal variable
MAX_GROUPS = 50  # of a kind, those most asked for: p-values survive Holm's factor
RESAMPLES = 10_000  # so that the smallest p-value, times 2 × MAX_GROUPS, is .01
POPULARITY_BINS = 10
SIGNIFICANT = 0.05
NOTICEABLE = 0.02  # of percentile: 240 places of 12,000; below that nobody sees a difference
WORST = 10

Groups = Mapping[str, Sequence[str | None]]  # kind → name of each item row


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBias:
    """One brand or category; differences with 95 % intervals over shoppers."""

    kind: str
    name: str
    items: int
    targets: int  # shoppers who took one next
    catalogue_share: float
    demand_share: float  # of next items taken
    exposure_share: float  # of everybody's first ten
    percentile: Interval  # of its targets, minus that of other groups' equally popular ones
    exposure: Interval  # exposure_share minus demand_share
    p_value: float  # that it is not pushed down, after Holm
    pushed_down: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasReport:
    """What taste in text does to groups of items, and how evenly it spreads attention."""

    shoppers: int
    mean_percentile: float  # of targets; .5 by chance
    groups: int  # with enough targets to judge
    pushed_down: int
    pushed_down_share: float  # of the groups judged
    worst: tuple[GroupBias, ...]
    never_shown: float  # share of the catalogue in nobody's first ten
    gini: float  # of exposure
    hubness: float  # skewness of the times an item is shown (Radovanović et al. 2010)


@dataclass(frozen=True, slots=True)
class GroupChange:
    """How a group's targets moved against a baseline.

    By gain, not percentile: whitening lifts Beauty's recall@10 by half and lowers the mean
    percentile, which hangs on targets that nobody would ever see.
    """

    kind: str
    name: str
    targets: int
    baseline_gain: float
    gain: Interval  # difference of mean gains
    p_value: float  # after Holm

    @property
    def is_loss(self) -> bool:
        return self.gain.high < 0 and self.p_value < SIGNIFICANT


def item_groups(items: pl.DataFrame) -> dict[str, list[str | None]]:
    """First tag and, where items carry one, the attribute `brand`."""
    groups: dict[str, list[str | None]] = {"category": items["tags"].list.first().to_list()}
    brands = [_brand(attributes) for attributes in items["attributes"]]
    return groups | ({"brand": brands} if any(brands) else {})


def _brand(attributes: str | None) -> str | None:
    if not attributes:
        return None
    brand = orjson.loads(attributes).get("brand")
    return brand if isinstance(brand, str) and brand.strip() else None


def text_bias(ranking: Ranking, asked: NextItems, groups: Groups, *, seed: int = 0) -> BiasReport:
    n_items = max(len(names) for names in groups.values())
    bins = _popularity_bins(asked, n_items)
    found = []
    for kind, name, members in _judged(groups, asked):
        below = _below_others(ranking.percentiles, bins, members[asked.targets])
        if len(below) >= MIN_TARGETS:
            found.append(_group_bias(kind, name, members, ranking, asked, below, seed))
    adjusted = holm([group.p_value for group in found])
    judged = [_verdict(group, float(p)) for group, p in zip(found, adjusted, strict=True)]
    pushed = sum(group.pushed_down for group in judged)
    shown = np.bincount(ranking.top[ranking.top >= 0], minlength=n_items)
    return BiasReport(
        shoppers=len(asked),
        mean_percentile=float(ranking.percentiles.mean()) if len(asked) else float("nan"),
        groups=len(judged),
        pushed_down=pushed,
        pushed_down_share=pushed / max(len(judged), 1),
        worst=tuple(sorted(judged, key=_worst_first)[:WORST]),
        never_shown=1 - catalogue_coverage(ranking.top, n_items),
        gini=gini(ranking.top, n_items),
        hubness=_skewness(shown),
    )


def group_changes(
    ranking: Ranking, baseline: Ranking, asked: NextItems, groups: Groups, *, seed: int = 0
) -> tuple[GroupChange, ...]:
    """Every judged group's targets here against the same targets there, worst first."""
    rows = []
    for kind, name, members in _judged(groups, asked):
        own = members[asked.targets]
        ours, theirs = ranking.gains[own], baseline.gains[own]
        change = paired_bootstrap(ours, theirs, seed=seed, n_resamples=RESAMPLES)
        rows.append((kind, name, theirs, change))
    adjusted = holm([change.p_value for *_, change in rows])
    changes = [
        GroupChange(kind, name, len(theirs), float(theirs.mean()), change.interval, float(p))
        for (kind, name, theirs, change), p in zip(rows, adjusted, strict=True)
    ]
    return tuple(sorted(changes, key=lambda change: change.gain.mean))


def _judged(groups: Groups, asked: NextItems) -> list[tuple[str, str, BoolArray]]:
    """Kind, name and members (n_items,) of the groups with enough targets."""
    kept: list[tuple[str, str, BoolArray]] = []
    for kind, names in groups.items():
        labels = np.array([name or "" for name in names])
        found, counts = np.unique(labels[asked.targets], return_counts=True)
        enough = (counts >= MIN_TARGETS) & (found != "")
        found, counts = found[enough], counts[enough]
        most_asked = found[np.argsort(-counts, kind="stable")[:MAX_GROUPS]]
        kept.extend((kind, str(name), labels == name) for name in most_asked)
    return kept


def _popularity_bins(asked: NextItems, n_items: int) -> Int64Array:
    """(n,) of each target; targets of a bin are about equally popular."""
    taken = np.bincount(asked.histories.rows, minlength=n_items)[asked.targets]
    if len(taken) == 0:
        return np.empty(0, np.int64)
    edges = np.quantile(taken, np.linspace(0, 1, POPULARITY_BINS + 1)[1:-1])
    return np.searchsorted(edges, taken, side="left")


def _below_others(percentiles: Float64Array, bins: Int64Array, own: BoolArray) -> Float64Array:
    """(m,) percentiles of `own` targets minus the mean of all others in the bin, if there are."""
    sums = np.bincount(bins[~own], percentiles[~own], minlength=POPULARITY_BINS)
    counts = np.bincount(bins[~own], minlength=POPULARITY_BINS)
    compared = own & (counts > 0)[bins]
    usual = sums / np.maximum(counts, 1)
    return np.asarray(percentiles[compared] - usual[bins[compared]], np.float64)


def _group_bias(
    kind: str,
    name: str,
    members: BoolArray,
    ranking: Ranking,
    asked: NextItems,
    below: Float64Array,
    seed: int,
) -> GroupBias:
    own = members[asked.targets]
    ranked = ranking.top >= 0
    shown = (members[ranking.top] & ranked).sum(axis=1) / np.maximum(ranked.sum(axis=1), 1)
    further = paired_bootstrap(below, np.zeros(len(below)), seed=seed, n_resamples=RESAMPLES)
    exposure, p_exposure = _normal_mean(shown - own)
    return GroupBias(
        kind=kind,
        name=name,
        items=int(members.sum()),
        targets=int(own.sum()),
        catalogue_share=float(members.mean()),
        demand_share=float(own.mean()),
        exposure_share=float(shown.mean()),
        percentile=further.interval,
        exposure=exposure,
        p_value=max(further.p_value, p_exposure),  # both must hold
        pushed_down=further.interval.mean < -NOTICEABLE and exposure.mean < 0,
    )


def _verdict(group: GroupBias, adjusted: float) -> GroupBias:
    """Down by a noticeable step, and beyond chance."""
    down = group.pushed_down and adjusted < SIGNIFICANT
    return replace(group, p_value=adjusted, pushed_down=down)


def _normal_mean(values: Float64Array) -> tuple[Interval, float]:
    """Mean of one bounded number a shopper, over thousands of shoppers: normal enough."""
    mean, error = float(values.mean()), float(values.std() / math.sqrt(len(values)))
    p_value = math.erfc(abs(mean) / error / math.sqrt(2)) if error else 1.0
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error), p_value


def _worst_first(group: GroupBias) -> tuple[bool, float]:
    return (not group.pushed_down, group.percentile.mean)


def _skewness(shown: Int64Array) -> float:
    spread = float(shown.std())
    return float(((shown - shown.mean()) ** 3).mean() / spread**3) if spread else 0.0
