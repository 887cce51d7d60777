"""What replays foretold of variants, kept until experiments have measured it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from features.errors import DataError
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.experiment.verdict import MIN_UNITS, Row, Standing
from recsys.evaluation.offpolicy.calibration import Pair, pair, promise
from recsys.evaluation.offpolicy.replay import Per, Replay
from recsys.experiments.experiment import Experiment, Metric, Variant

FORETOLD = "foretold"  # the kind of documents, named <experiment>/<variant>
_LOGGED_PER = {"exposure": "exposures", "slate": "slates"}  # what a ratio of the same name is per


class Foretold(BaseModel):
    """The lift of one variant over what was logged before its experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    variant: Variant  # as it was: a changed one is another
    reward: str
    per: Per
    at: datetime
    lift: float
    lift_low: float
    lift_high: float

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.variant.key}"


class Measured(BaseModel):
    """What is read of an experiment's stored report."""

    experiment: Experiment
    verdict: "_Verdict"
    rows: tuple[Row, ...] = ()  # an interleaved experiment has none


class _Verdict(BaseModel):
    standing: Standing


def foretell(
    experiment: Experiment, key: str, reward: str, replayed: Replay, *, at: datetime
) -> Foretold:
    """DataError for a refused replay, and for what the experiment would not measure."""
    told = promise(key, replayed)
    found = Foretold(
        experiment=experiment.name,
        variant=variant_of(experiment, key),
        reward=reward,
        per=replayed.per,
        at=at,
        lift=told.mean,
        lift_low=told.low,
        lift_high=told.high,
    )
    if not _metrics(found, experiment):
        raise DataError(
            f"found no metric of {experiment.name!r} that counts {reward!r}, expected one: what is "
            "foretold would never be measured"
        )
    return found


def variant_of(experiment: Experiment, key: str) -> Variant:
    """DataError for the control too: it stands for what was logged."""
    others = {variant.key: variant for variant in experiment.design.variants[1:]}
    if key not in others:
        names = ", ".join(others)
        raise DataError(
            f"found no variant {key!r} of {experiment.name!r} beside its control, expected {names}"
        )
    return others[key]


def compared(
    foretold: Iterable[Foretold], reports: Mapping[str, Measured]
) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of what is known by now, and by name why the others are not."""
    pairs, waiting = [], {}
    for one in foretold:
        found = _measured(one, reports.get(one.experiment))
        if isinstance(found, str):
            waiting[one.name] = found
        else:
            metric, lift = found
            told = Interval(one.lift, one.lift_low, one.lift_high)
            pairs.append(pair(f"{one.name}: {metric}", told, lift))
    return pairs, waiting


def _measured(of: Foretold, report: Measured | None) -> tuple[str, Interval] | str:
    """The metric and its lift; or why there is none."""
    if report is None:
        return "no report of its experiment"
    if report.verdict.standing == "unhealthy":
        return "its experiment was unhealthy"
    design = report.experiment.design
    if of.variant.differs not in {v.differs for v in design.variants if v.key == of.variant.key}:
        return "its variant was changed since"
    for name in _metrics(of, report.experiment):
        for row in report.rows:
            e = row.estimate
            if (row.variant, row.metric.name) != (of.variant.key, name):
                continue
            if e.lift is None or e.lift_low is None or e.lift_high is None:
                continue
            if min(e.n_control, e.n_variant) >= MIN_UNITS:
                return name, Interval(e.lift, e.lift_low, e.lift_high)
    return f"not measured on {MIN_UNITS} units"


def _metrics(of: Foretold, experiment: Experiment) -> Sequence[str]:
    """Names of those that count the reward, the most alike first: a ratio per the same."""
    counting = [
        metric
        for metric in experiment.design.plan.metrics
        if metric.event_type == of.reward and metric.of == "count" and metric.kind != "quantile"
    ]
    return [metric.name for metric in sorted(counting, key=lambda m: not _is_alike(m, of.per))]


def _is_alike(metric: Metric, per: Per) -> bool:
    return metric.kind == "ratio" and metric.per == _LOGGED_PER[per]
