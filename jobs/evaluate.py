"""Protocol "time" on the store: rolling folds, each trained on what lies before its window."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.arrays import Int32Array
from features.errors import DataError, ReleaseError
from features.events import EVENT_SCHEMA, EventType
from features.interactions import Interactions
from features.store import Store
from jobs.page_words import minute
from jobs.plan import Cuts, Plan, last_day_end
from recsys.bundle import Bundle
from recsys.evaluation.trial import TrialResult, Window, live_lists, run_trial
from recsys.progress import Progress
from recsys.releases import Manifest, Releases
from recsys.training.recipe import RecipeConfig, TrainingData, fit_bundle

THREADS = 2


@dataclass(frozen=True, slots=True)
class Training:
    """A model's name and its trainer's report, such as a RankerReport."""

    name: str
    report: object


@dataclass(frozen=True, slots=True)
class LiveStanding:
    """Whether the live release was asked about a window, and if not, why."""

    release_id: str | None
    compared: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One window [evaluation, as_of), and what was learned before it.

    The ranker's labels lie in [label, evaluation).
    """

    label_us: int
    evaluation_us: int
    as_of_us: int
    live: LiveStanding
    trainings: tuple[Training, ...]  # in their order
    trial: TrialResult


def stored_data(store: Store, event_types: Sequence[EventType]) -> TrainingData:
    """Every event and living item of the store."""
    return training_data(store.items(), stored_events(store), event_types)


def training_data(
    items: pl.DataFrame, events: pl.DataFrame, event_types: Sequence[EventType]
) -> TrainingData:
    types = tuple(event_types)
    log = Interactions.build(events, items["item_id"].to_list(), types)
    if len(log) == 0:
        raise DataError("the store holds no events on known items: import some first")
    return TrainingData(items, log, types)


def stored_events(store: Store) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *all_events(store)])


def all_events(store: Store) -> list[pl.DataFrame]:
    until = store.last_event_seq()
    batches = store.events_after(0, until_seq=until, batch_size=500_000)
    return [batch.select(*EVENT_SCHEMA) for batch in batches]


class LiveRival:
    """The live release as a rival: asked only about windows that it has not learned from."""

    def __init__(self, shelf: Releases, events: pl.DataFrame, progress: Progress) -> None:
        self._shelf = shelf
        self._events = events  # of the whole store; windows cut what is known
        self._progress = progress
        self._manifest: Manifest | None = None
        self._trouble = "there is no live release"
        try:
            current = shelf.current()
            self._manifest = shelf.verify(current) if current else None
        except ReleaseError as error:
            self._trouble = f"the live release cannot be read: {error}"

    def cuts(self) -> Cuts | None:
        """So that a window begins where the live release's knowledge ends, if enough came since."""
        return Cuts(end_us=self._manifest.data_end_us) if self._manifest else None

    def answers(
        self, data: TrainingData, window: Window, recipe: RecipeConfig
    ) -> tuple[LiveStanding, Int32Array | None]:
        """Its lists for every shopper of the log, None where it was not asked."""
        manifest = self._manifest
        if manifest is None:
            return LiveStanding(None, False, self._trouble), None
        release_id, until_us = manifest.release_id, manifest.data_end_us
        if until_us > window.start_us:
            reason = (
                f"it has learned from events until {minute(until_us)}, some of them from these "
                "days; a comparison would be in its favour"
            )
            return LiveStanding(release_id, False, reason), None
        try:
            bundle = Bundle.load(self._shelf.path(release_id), threads=THREADS)
        except ReleaseError as error:
            return LiveStanding(release_id, False, f"it cannot be loaded: {error}"), None
        lists = live_lists(
            bundle,
            self._events,
            window,
            user_ids=data.log.user_ids,
            item_ids=data.items["item_id"].to_list(),
            policy=recipe.policy,
            progress=self._progress,
        )
        return LiveStanding(release_id, True, f"it knows events until {minute(until_us)}"), lists


def evaluate_folds(
    data: TrainingData, folds: int, recipe: RecipeConfig, live: LiveRival, progress: Progress
) -> Iterator[Fold]:
    """The newest window first; each fold ends where the one before it began."""
    end_us = last_day_end(data.log)
    for number in range(1, folds + 1):
        plan = Plan.of(data.log.before(end_us), end_us, live.cuts())
        progress.say(f"fold {number} of {folds}")
        fold = _fold(data, plan, recipe, live, progress)
        if fold is None:
            raise DataError(
                f"fold {number} has no shopper to judge by: use fewer folds or import more events"
            )
        yield fold
        end_us = plan.evaluation_us


def _fold(
    data: TrainingData, plan: Plan, recipe: RecipeConfig, live: LiveRival, progress: Progress
) -> Fold | None:
    window = Window(plan.evaluation_us, plan.as_of_us)
    trainings: list[Training] = []
    with tempfile.TemporaryDirectory(prefix="evaluate-") as name:
        folder = Path(name)
        fit_bundle(
            data,
            (plan.label_us, plan.evaluation_us),
            recipe,
            folder,
            progress,
            reported=lambda name, report: trainings.append(Training(name, report)),
        )
        bundle = Bundle.load(folder, threads=THREADS)
        standing, lists = live.answers(data, window, recipe)
        trial = run_trial(
            bundle, data.log, window, recipe.policy, progress, live=lists, seed=recipe.seed
        )
    if trial is None:
        return None
    return Fold(
        label_us=plan.label_us,
        evaluation_us=plan.evaluation_us,
        as_of_us=plan.as_of_us,
        live=standing,
        trainings=tuple(trainings),
        trial=trial,
    )
