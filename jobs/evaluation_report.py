"""What `evaluate` leaves: a page for people, and the same figures as JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from features.events import EventType
from jobs.evaluate import Fold
from jobs.evaluation_verdict import Finding, finding
from recsys.evaluation.samples import SampleShopper
from recsys.training.recipe import RecipeConfig, TrainingData

VERSIONED = ("lightfm-next", "numpy", "onnxruntime", "polars", "torch")


@dataclass(frozen=True, slots=True)
class Shop:
    """What the store holds; times in µs."""

    items: int
    shoppers: int
    events: int
    first_us: int
    last_us: int
    event_types: tuple[EventType, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several folds."""

    mean: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(fmean(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Summary:
    """Over folds; of the arms, metrics and rivals that every fold has."""

    metrics: dict[str, dict[str, Spread]]  # who ranked → metric
    against: dict[str, Spread]  # rival → the ranker's nDCG@10 minus the rival's


@dataclass(frozen=True, slots=True)
class Named:
    """What an item row stands for."""

    item_id: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """The JSON's keys, in this order; those below `folds` are the fields of Fold and TrialResult.

    Figures that have no meaning are null. Times end in `_us`: microseconds since 1970, UTC.
    """

    made_at_us: int
    command: str  # makes it again
    finding: Finding  # the newest fold's
    shop: Shop
    seed: int
    recipe: Mapping[str, object]  # configuration of every trainer
    versions: Mapping[str, str]  # library → version
    summary: Summary | None  # None for a single fold
    folds: tuple[Fold, ...]  # newest first
    items: Mapping[str, Named]  # item row, as text, → item, for those that samples name


def make_report(
    data: TrainingData, folds: Sequence[Fold], recipe: RecipeConfig, *, command: str, now_us: int
) -> EvaluationReport:
    log = data.log
    return EvaluationReport(
        made_at_us=now_us,
        command=command,
        finding=finding(folds),
        shop=Shop(
            items=len(data.items),
            shoppers=len(log.user_ids),
            events=len(log),
            first_us=int(log.time_us.min()),
            last_us=int(log.time_us.max()),
            event_types=data.event_types,
        ),
        seed=recipe.seed,
        recipe=recipe.as_json(),
        versions={name: version(name) for name in VERSIONED},
        summary=_summary(folds) if len(folds) > 1 else None,
        folds=tuple(folds),
        items=_named(data, [one for fold in folds for one in fold.trial.samples]),
    )


def place(folder: Path, now_us: int) -> Path:
    """Where the page goes; the JSON lies beside it under the same name."""
    return folder / f"evaluation-{datetime.fromtimestamp(now_us / 1e6, tz=UTC):%Y-%m-%dT%H%M}.html"


def _summary(folds: Sequence[Fold]) -> Summary:
    trials = [fold.trial for fold in folds]
    arms = [name for name in trials[0].metrics if all(name in one.metrics for one in trials)]
    rivals = [name for name in trials[0].against if all(name in one.against for one in trials)]
    return Summary(
        {
            arm: {
                metric: Spread.of([one.metrics[arm][metric] for one in trials])
                for metric in trials[0].metrics[arm]
            }
            for arm in arms
        },
        {rival: Spread.of([one.against[rival].mean for one in trials]) for rival in rivals},
    )


def _named(data: TrainingData, samples: Sequence[SampleShopper]) -> dict[str, Named]:
    rows = {
        row
        for sample in samples
        for listed in (sample.history, sample.taken, *sample.lists.values())
        for row in listed
    }
    ids, titles = data.items["item_id"], data.items["title"].fill_null("")
    return {str(row): Named(ids[row], titles[row]) for row in sorted(rows)}
