"""Experiments out of the store and what their units did out of the lake."""

from pydantic import ValidationError

from features.errors import DataError
from features.events import US_PER_DAY
from features.lake import Lake
from features.store import Store
from recsys.evaluation.experiment.analysis import Analysis, analyse
from recsys.experiments.experiment import EXPERIMENT, Experiment


def stored_experiments(store: Store) -> dict[str, Experiment]:
    """By name; DataError for a stored text that is none."""
    return {name: _read(name, body) for name, body in store.documents.all(EXPERIMENT).items()}


def stored_experiment(store: Store, name: str) -> Experiment:
    body = store.documents.get(EXPERIMENT, name)
    if body is None:
        known = ", ".join(sorted(store.documents.all(EXPERIMENT))) or "none"
        raise DataError(f"found no experiment {name!r}, expected one of those stored: {known}")
    return _read(name, body)


def analysed(experiment: Experiment, lake: Lake, *, as_of_us: int) -> Analysis:
    """Of the newest phase; only the days it needs are read."""
    phase = experiment.phase
    if phase is None:
        raise DataError(f"the experiment {experiment.name!r} never ran: start it first")
    started_us = int(phase.started_at.timestamp() * 1e6)
    past = max(metric.cuped_days for metric in experiment.design.plan.metrics)
    assignments = lake.scan_assignments(start_us=started_us, end_us=as_of_us).collect()
    events = lake.scan_events(start_us=started_us - past * US_PER_DAY, end_us=as_of_us).collect()
    return analyse(experiment, assignments, events, as_of_us=as_of_us)


def _read(name: str, body: str) -> Experiment:
    try:
        return Experiment.model_validate_json(body)
    except ValidationError as error:
        raise DataError(
            f"the stored experiment {name!r} cannot be read: {error}; delete it and draft it again"
        ) from error
