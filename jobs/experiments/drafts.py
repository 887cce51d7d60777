"""Interleaved experiments whose truth is known: shoppers of the sample storefront see drafts."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array, Int64Array
from jobs.experiments.simulation import ALPHA, LOOKS, UNITS, Share
from jobs.sample.responses import respond
from jobs.sample.sessions import draw_visits
from jobs.sample.storefront import Storefront
from jobs.sample.world import SLATE_LENGTH, Size
from recsys.evaluation.experiment.preferences import Preference, preference
from recsys.experiments.interleaving import COMMON, team_draft
from recsys.progress import Progress

VISITS = 1_000  # a day
SIZE = Size(n_events=1, n_users=4_000, n_items=300, n_days=LOOKS)
CANDIDATES = 40  # the most popular items; either ranking orders these
NOISE = 0.3  # of both rankings' scores, drawn for each visit: they differ and are equally good
KNOWLEDGE = 0.1  # how much of the true taste the better ranking adds
_CLICK = 1  # of jobs.sample.storefront.ACTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleavings:
    """How often an interval misses the truth, and how often a better ranking is found."""

    units: int
    competitive: float  # share of the positions that one ranking filled alone
    alike: Preference  # of the whole population: fair drafts leave d near 0
    better: Preference
    always_valid: Share  # equally good rankings: any look's interval misses the population's d
    naive: Share  # the same of any look's fixed interval
    once: Share  # of the last look's
    found: Share  # a better ranking: preferred at any look, always-valid
    mistaken: Share  # a better ranking: the worse one preferred


@dataclass(frozen=True, slots=True)
class _Margins:
    """(n, days) of each shopper up to each day: clicks, and those for the second minus first."""

    clicks: Float64Array
    margin: Float64Array
    competitive: float

    def d(self, rows: Int64Array | slice, day: int) -> Preference:
        """Of these shoppers, as they stood at the day's end."""
        took = self.clicks[rows, day] > 0
        wins = np.sign(self.margin[rows, day][took])
        return preference(wins, alpha=ALPHA, n_star=UNITS)


def interleavings(*, experiments: int, seed: int, progress: Progress) -> Interleavings:
    storefront = Storefront(seed, SIZE)
    alike = _margins(storefront, 0.0, seed, progress)
    better = _margins(storefront, KNOWLEDGE, seed, progress)
    truths = [alike.d(slice(None), day) for day in range(LOOKS)]
    always, naive, once, found, mistaken = [], [], [], [], []
    label = "interleaved experiments"
    for number in progress.track(range(experiments), total=experiments, label=label):
        rng = np.random.default_rng([seed, 6, number])
        rows = rng.integers(len(alike.clicks), size=UNITS)
        looks = [alike.d(rows, day) for day in range(LOOKS)]
        missed = [_misses(p.low, t.d, p.high) for p, t in zip(looks, truths, strict=True)]
        naive.append(any(missed))
        once.append(missed[-1])
        always.append(
            any(
                _misses(p.anytime_low, t.d, p.anytime_high)
                for p, t in zip(looks, truths, strict=True)
            )
        )
        rows = rng.integers(len(better.clicks), size=UNITS)
        told = [better.d(rows, day) for day in range(LOOKS)]
        found.append(any((p.anytime_low or 0.0) > 0 for p in told))
        mistaken.append(any((p.anytime_high or 0.0) < 0 for p in told))
    return Interleavings(
        units=UNITS,
        competitive=better.competitive,
        alike=truths[-1],
        better=better.d(slice(None), LOOKS - 1),
        always_valid=Share.of(always),
        naive=Share.of(naive),
        once=Share.of(once),
        found=Share.of(found),
        mistaken=Share.of(mistaken),
    )


def _misses(low: float | None, truth: float | None, high: float | None) -> bool:
    return low is not None and high is not None and truth is not None and not low <= truth <= high


def _margins(storefront: Storefront, knowledge: float, seed: int, progress: Progress) -> _Margins:
    n = len(storefront.shoppers)
    clicks, margin = np.zeros((n, LOOKS)), np.zeros((n, LOOKS))
    n_alone = n_positions = 0
    label = "drafts, alike" if not knowledge else "drafts, one better"
    for day in progress.track(range(LOOKS), total=LOOKS, label=label):
        rng = np.random.default_rng([seed, 7, day])
        visits = draw_visits(storefront, day, 0, VISITS, VISITS)
        on_shelf = storefront.catalogue.n_arrived(storefront.day_start_us(day))
        quality = storefront.catalogue.quality[:on_shelf]
        popular = np.argsort(-quality, kind="stable")[:CANDIDATES]
        items = np.broadcast_to(popular, (len(visits), len(popular)))
        taste = storefront.utilities(visits.tastes, visits.user_rows, items)
        rows = np.empty((len(visits), SLATE_LENGTH), np.int64)
        sides = np.zeros(rows.shape, np.int64)
        ranked = []
        for known in (0.0, knowledge):
            noise = NOISE * rng.standard_normal(items.shape)
            order = np.argsort(-(quality[popular] + noise + known * taste), axis=1, kind="stable")
            ranked.append(popular[order].astype(str))
        for visit, (a, b) in enumerate(zip(*ranked, strict=True)):
            draft = team_draft(a.tolist(), b.tolist(), SLATE_LENGTH, seed=int(rng.integers(2**62)))
            chosen = [(a, b)[s][p] for s, p in zip(draft.sides, draft.places, strict=True)]
            rows[visit] = np.array(chosen, np.int64)
            sides[visit] = [{COMMON: 0, "A": -1, "B": 1}[team] for team in draft.teams]
        everyone = np.arange(len(visits))
        for part in respond(
            storefront, visits.user_rows, visits.tastes, everyone, visits.at_us, rows, rng
        ):
            clicked = part.action == _CLICK
            visit, item = part.visit[clicked], part.item_rows[clicked]
            side = sides[visit, (rows[visit] == item[:, None]).argmax(axis=1)]
            who = visits.user_rows[visit[side != 0]]
            clicks[:, day] += np.bincount(who, minlength=n)
            margin[:, day] += np.bincount(who, side[side != 0], minlength=n)
        n_alone += int(np.count_nonzero(sides))
        n_positions += sides.size
    return _Margins(np.cumsum(clicks, axis=1), np.cumsum(margin, axis=1), n_alone / n_positions)
