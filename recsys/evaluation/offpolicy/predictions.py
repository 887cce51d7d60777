"""What replays predicted of variants, kept until experiments have measured it."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from scipy import stats

from features.errors import DataError
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.experiment.verdict import MIN_UNITS, Row, Standing
from recsys.evaluation.offpolicy.calibration import Pair, Z, lift_of, pair, predicted_lift
from recsys.evaluation.offpolicy.replay import Per, Replay
from recsys.experiments.experiment import Experiment, Metric, Variant

_LOGGED_PER = {"exposure": "exposures", "slate": "slates"}  # what a ratio of the same is per


class Prediction(BaseModel):
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

    @classmethod
    def of(
        cls, experiment: Experiment, key: str, reward: str, replayed: Replay, *, at: datetime
    ) -> "Prediction":
        """DataError for a refused replay, and as `predictable`."""
        variant, lift = predictable(experiment, key, reward), predicted_lift(key, replayed)
        return cls(
            experiment=experiment.name,
            variant=variant,
            reward=reward,
            per=replayed.per,
            at=at,
            lift=lift.mean,
            lift_low=lift.low,
            lift_high=lift.high,
        )

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.variant.key}/{self.reward}/{self.per}"


class Measured(BaseModel):
    """What is read of an experiment's stored report."""

    experiment: Experiment
    verdict: "_Verdict"
    rows: tuple[Row, ...]


class _Verdict(BaseModel):
    standing: Standing


def predictable(experiment: Experiment, key: str, reward: str) -> Variant:
    """The variant; DataError where a replay and its experiment would speak of different things."""
    design, name = experiment.design, experiment.name
    control, *others = design.variants
    variant = design.variant(key)
    if variant not in others:
        keys = ", ".join(v.key for v in others)
        raise DataError(f"found no variant {key!r} of {name!r} beside its control, expected {keys}")
    if design.kind == "interleave":
        raise DataError(
            f"found {name!r} interleaved, expected variants of which lifts are measured"
        )
    if control.policy:
        raise DataError(
            f"found that the control of {name!r} differs by {control.differs}, expected one that "
            "answers as the log's slates were answered: a replay's lift is over those"
        )
    if design.targeting is not None:
        raise DataError(
            f"found {name!r} targeted, expected an experiment of all shoppers: the log does not "
            "say who would have been meant"
        )
    if not _counting(design.plan.metrics, reward):
        raise DataError(
            f"found no metric of {name!r} that counts {reward!r}, expected one: what is predicted "
            "would never be measured"
        )
    return variant


def compared(
    predictions: Iterable[Prediction], reports: Mapping[str, Measured]
) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of what is known by now, and by name why the others are not."""
    pairs, waiting = [], {}
    for one in predictions:
        try:
            pairs.append(_pair(one, reports.get(one.experiment)))
        except DataError as error:
            waiting[one.name] = str(error)
    return pairs, waiting


def _pair(of: Prediction, report: Measured | None) -> Pair:
    """DataError says why there is none."""
    if report is None:
        raise DataError("its experiment has no report")
    if report.verdict.standing == "unhealthy":
        raise DataError("its experiment was unhealthy")
    experiment, (first, *_) = report.experiment, report.experiment.phases
    now = experiment.design.variant(of.variant.key)
    if now is None or (now.policy, now.release_id) != (of.variant.policy, of.variant.release_id):
        raise DataError("its variant was changed since")
    rows = {row.metric.name: row for row in report.rows if row.variant == now.key}
    metrics = _counting([row.metric for row in rows.values()], of.reward)
    if not metrics:
        raise DataError(f"its experiment does not count {of.reward!r} any more")
    metric = min(metrics, key=lambda metric: _unlike(metric, of.per))
    estimate = rows[metric.name].estimate
    if estimate.problem is not None:
        raise DataError(f"{metric.name}: {estimate.problem}")
    if min(estimate.n_control, estimate.n_variant) < MIN_UNITS:
        raise DataError(f"{metric.name}: fewer than {MIN_UNITS} units in a variant")
    said = " (said afterwards)" if of.at >= first.started_at else ""
    return pair(
        f"{of.experiment}/{of.variant.key}: {metric.name}{said}",
        Interval(of.lift, of.lift_low, of.lift_high),
        _at_95(lift_of(metric.name, estimate), experiment.design.plan.alpha),
        experiment=of.experiment,
    )


def _at_95(lift: Interval, alpha: float) -> Interval:
    """As wide as it would be had the plan asked for 95 %."""
    wider = Z / float(stats.norm.isf(alpha / 2))
    return Interval(
        lift.mean,
        lift.mean - wider * (lift.mean - lift.low),
        lift.mean + wider * (lift.high - lift.mean),
    )


def _counting(metrics: Iterable[Metric], reward: str) -> list[Metric]:
    return [
        metric
        for metric in metrics
        if metric.event_type == reward and metric.of == "count" and metric.kind != "quantile"
    ]


def _unlike(metric: Metric, per: Per) -> tuple[bool, bool]:
    """Least for a ratio per the same that counts only what names a slate, as replays do."""
    is_same_ratio = metric.kind == "ratio" and metric.per == _LOGGED_PER[per]
    return not is_same_ratio, not metric.attributed
