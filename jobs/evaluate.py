"""Protocol "time" on the store: rolling folds, each trained on what lies before its window."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from features.errors import DataError
from features.events import EVENT_SCHEMA, US_PER_DAY, EventType
from features.interactions import Interactions
from features.store import Store
from jobs.plan import Plan
from recsys.bundle import Bundle
from recsys.evaluation.trial import TrialResult, Window, run_trial
from recsys.progress import Progress
from recsys.training.recipe import RecipeConfig, TrainingData, fit_bundle


def stored_data(store: Store, event_types: Sequence[EventType]) -> TrainingData:
    """Every event and living item of the store."""
    items = store.items()
    events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *all_events(store)])
    types = tuple(event_types)
    log = Interactions.build(events, items["item_id"].to_list(), types)
    if len(log) == 0:
        raise DataError("the store holds no events on known items: import some first")
    return TrainingData(items, log, types)


def all_events(store: Store) -> list[pl.DataFrame]:
    until = store.last_event_seq()
    batches = store.events_after(0, until_seq=until, batch_size=500_000)
    return [batch.select(*EVENT_SCHEMA) for batch in batches]


def evaluate_folds(
    data: TrainingData, folds: int, recipe: RecipeConfig, progress: Progress
) -> list[TrialResult]:
    """The newest window first; each fold ends where the one before it began."""
    end_us = -(-(int(data.log.time_us.max()) + 1) // US_PER_DAY) * US_PER_DAY
    trials = []
    for fold in range(folds):
        plan = Plan.of(data.log.before(end_us), end_us, None)
        progress.say(f"fold {fold + 1} of {folds}")
        trial = _trial(data, plan, recipe, progress)
        if trial is None:
            raise DataError(
                f"fold {fold + 1} has no shopper to judge by: use fewer folds or import more events"
            )
        trials.append(trial)
        end_us = plan.evaluation_us
    return trials


def _trial(
    data: TrainingData, plan: Plan, recipe: RecipeConfig, progress: Progress
) -> TrialResult | None:
    with tempfile.TemporaryDirectory(prefix="evaluate-") as name:
        folder = Path(name)
        fit_bundle(data, (plan.label_us, plan.evaluation_us), recipe, folder, progress)
        bundle = Bundle.load(folder, threads=2)
        window = Window(plan.evaluation_us, plan.as_of_us)
        return run_trial(bundle, data.log, window, recipe.policy, progress, seed=recipe.seed)
