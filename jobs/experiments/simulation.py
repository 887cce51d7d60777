"""Whether experiments keep their promises: thousands of them, of shoppers whose truth is known.

One population of the sample storefront is drawn, with what each shopper would do under either of
two rankings. Every simulated experiment draws its units from it with replacement, deals them by a
coin, and asks the code that analyses real ones, once a day.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.arrays import BoolArray, Float64Array, Int64Array
from jobs.sample.experiment import Population, draw_population
from jobs.sample.storefront import Storefront
from jobs.sample.world import Size
from recsys.evaluation.experiment.estimates import Estimate, compare
from recsys.evaluation.experiment.power import power_of
from recsys.evaluation.experiment.samples import Sample
from recsys.experiments.experiment import Metric
from recsys.progress import Progress

ALPHA = 0.05
LOOKS = 30  # one a day
UNITS = 2_000  # of an experiment
VISITS = 3_000  # a day, of the storefront
SIZE = Size(n_events=1, n_users=10_000, n_items=300, n_days=60)
POWER_UNITS = (500, 1_000, 2_000, 4_000, 8_000)
PLAIN = Metric(name="clicks", event_type="click", cuped_days=0, margin=0.02)
METRICS = (
    PLAIN,
    PLAIN.model_copy(update={"name": "clicks-cuped", "cuped_days": 14}),
    Metric(name="clicked", event_type="click", kind="proportion", cuped_days=0),
    Metric(name="clicks-per-slate", event_type="click", kind="ratio", per="slates", cuped_days=0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """k of n simulated experiments, with Wilson's 95 % interval."""

    k: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Sequence[bool] | BoolArray) -> "Share":
        k, n = int(np.count_nonzero(found)), len(found)
        ends = stats.binomtest(k, n).proportion_ci(method="wilson")
        return cls(k=k, n=n, value=k / n, low=float(ends.low), high=float(ends.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """Of A/A experiments: how often a rule calls a difference that is none."""

    arriving: str
    units: int
    looks: int
    always_valid: Share  # any look's always-valid p below alpha
    naive: Share  # any look's fixed p below alpha: peeking
    once: Share  # the last look's fixed p below alpha
    stopped: Share  # the same metric as a guardrail: any look says that it is harmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often the intervals of an experiment with an effect hold the population's truth."""

    metric: str
    truth: float  # at the last look
    bias: float  # of the mean estimate, in standard errors of one experiment
    fixed: Share  # at the last look
    always_valid: Share  # at every look


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPoint:
    """Whether an effect is found with that many units as often as was computed."""

    units: int
    lift: float
    computed: float
    found: Share  # by the fixed test at the end
    always_valid: Share  # by the always-valid one at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceCut:
    """What the days before explain: as one experiment says, and as many of them scatter."""

    told: float
    seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Futures:
    """The population as an experiment sees it: sums up to each day under either ranking."""

    first_day: Int64Array  # (n,)
    before: Float64Array  # (n,)
    slates: Float64Array  # (n, days)
    clicks: tuple[Float64Array, Float64Array]  # (n, days)

    @classmethod
    def of(cls, population: Population) -> "Futures":
        first, second = (np.cumsum(clicks, axis=1) for clicks in population.clicks)
        return cls(
            first_day=population.first_day,
            before=population.before,
            slates=np.cumsum(population.slates, axis=1),
            clicks=(first, second),
        )

    def evenly(self, seed: int) -> "Futures":
        """As if every day brought as many new shoppers, each done at once with all it does."""
        rng = np.random.default_rng([seed, 8])

        def at_once(sums: Float64Array) -> Float64Array:
            return np.repeat(sums[:, -1:], LOOKS, axis=1)

        return Futures(
            first_day=rng.integers(LOOKS, size=len(self.first_day)),
            before=self.before,
            slates=at_once(self.slates),
            clicks=(at_once(self.clicks[0]), at_once(self.clicks[1])),
        )

    def sample(self, rows: Int64Array, arm: int, day: int, metric: Metric) -> Sample:
        """Of those of `rows` who came by then, as they stood at the day's end."""
        seen = rows[self.first_day[rows] <= day]
        totals = self.clicks[arm][seen, day]
        return Sample(
            totals=(totals > 0).astype(np.float64) if metric.kind == "proportion" else totals,
            denominators=self.slates[seen, day] if metric.kind == "ratio" else None,
            before=self.before[seen] if metric.cuped_days else None,
        )

    def truth(self, day: int, metric: Metric) -> float:
        everyone = np.arange(len(self.first_day))
        control, treated = (self.sample(everyone, arm, day, metric) for arm in (0, 1))
        return _value(treated) - _value(control)

    def experiment(
        self,
        metric: Metric,
        rng: np.random.Generator,
        *,
        arms: tuple[int, int] = (0, 1),
        units: int = UNITS,
        days: Sequence[int] = range(LOOKS),
    ) -> list[Estimate]:
        """One look a day at units drawn anew; `arms` (0, 0) is an A/A experiment."""
        rows = rng.integers(len(self.first_day), size=units)
        treated = rng.random(units) < 0.5
        return [
            compare(
                self.sample(rows[~treated], arms[0], day, metric),
                self.sample(rows[treated], arms[1], day, metric),
                metric,
                alpha=ALPHA,
                n_star=UNITS,
            )
            for day in days
        ]


def draw_futures(seed: int, progress: Progress) -> Futures:
    storefront = Storefront(seed, SIZE)
    return Futures.of(draw_population(storefront, VISITS, n_days=LOOKS, progress=progress))


def false_alarms(
    futures: Futures, arriving: str, *, experiments: int, seed: int, progress: Progress
) -> FalseAlarms:
    """`arriving` says in words when the units come, which decides what peeking costs."""
    always, naive, once, harmed = [], [], [], []
    for number in progress.track(range(experiments), total=experiments, label=f"A/A: {arriving}"):
        looks = futures.experiment(PLAIN, np.random.default_rng([seed, 1, number]), arms=(0, 0))
        always.append(any(e.p_anytime is not None and e.p_anytime < ALPHA for e in looks))
        fixed = [e.p_value is not None and e.p_value < ALPHA for e in looks]
        naive.append(any(fixed))
        once.append(fixed[-1])
        harmed.append(any(e.slack_high is not None and e.slack_high < 0 for e in looks))
    return FalseAlarms(
        arriving=arriving,
        units=UNITS,
        looks=LOOKS,
        always_valid=Share.of(always),
        naive=Share.of(naive),
        once=Share.of(once),
        stopped=Share.of(harmed),
    )


def coverages(
    futures: Futures, *, experiments: int, seed: int, progress: Progress
) -> Iterator[Coverage]:
    """The truth is asked at each look: what units did until then."""
    for place, metric in enumerate(METRICS):
        truths = [futures.truth(day, metric) for day in range(LOOKS)]
        fixed, always, errors = [], [], []
        label = f"coverage: {metric.name}"
        for number in progress.track(range(experiments), total=experiments, label=label):
            rng = np.random.default_rng([seed, 2, place, number])
            looks = futures.experiment(metric, rng)
            last = looks[-1]
            fixed.append(_holds(last.low, truths[-1], last.high))
            always.append(
                all(
                    _holds(e.anytime_low, truth, e.anytime_high)
                    for e, truth in zip(looks, truths, strict=True)
                    if e.problem is None
                )
            )
            errors.append(((last.difference or 0.0) - truths[-1]) / (last.se or 1.0))
        yield Coverage(
            metric=metric.name,
            truth=truths[-1],
            bias=float(np.mean(errors)),
            fixed=Share.of(fixed),
            always_valid=Share.of(always),
        )


def power_curve(
    futures: Futures, *, experiments: int, seed: int, progress: Progress
) -> Iterator[PowerPoint]:
    """Computed from the population's variances."""
    day = LOOKS - 1
    everyone = np.arange(len(futures.first_day))
    arms = [futures.sample(everyone, arm, day, PLAIN).totals for arm in (0, 1)]
    truth = float(arms[1].mean() - arms[0].mean())
    for units in POWER_UNITS:
        se = float(np.sqrt(sum(totals.var() / (units / 2) for totals in arms)))
        found, always = [], []
        label = f"power: {units:,} units"
        for number in progress.track(range(experiments), total=experiments, label=label):
            rng = np.random.default_rng([seed, 3, units, number])
            (last,) = futures.experiment(PLAIN, rng, units=units, days=(day,))
            found.append(last.p_value is not None and last.p_value < ALPHA)
            always.append(last.p_anytime is not None and last.p_anytime < ALPHA)
        yield PowerPoint(
            units=units,
            lift=truth / float(arms[0].mean()),
            computed=power_of(truth, se, alpha=ALPHA),
            found=Share.of(found),
            always_valid=Share.of(always),
        )


def variance_cut(futures: Futures, *, experiments: int, seed: int) -> VarianceCut:
    """Both metrics of the same experiments."""
    plain: list[float] = []
    cuped: list[float] = []
    told: list[float] = []
    for number in range(experiments):
        for metric, kept in ((METRICS[0], plain), (METRICS[1], cuped)):
            rng = np.random.default_rng([seed, 4, number])
            (last,) = futures.experiment(metric, rng, days=(LOOKS - 1,))
            kept.append(last.difference or 0.0)
            if last.variance_cut is not None:
                told.append(last.variance_cut)
    return VarianceCut(told=float(np.mean(told)), seen=float(1 - np.var(cuped) / np.var(plain)))


def _value(sample: Sample) -> float:
    below = len(sample) if sample.denominators is None else sample.denominators.sum()
    return float(sample.totals.sum() / below)


def _holds(low: float | None, truth: float, high: float | None) -> bool:
    return low is not None and high is not None and low <= truth <= high
