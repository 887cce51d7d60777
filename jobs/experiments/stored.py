"""Experiments in the store: read, taken a step further in their life, and written down."""

import json
import tomllib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from features.errors import ConfigError, DataError
from features.store import Store
from recsys.experiments.experiment import EXPERIMENT, Design, Experiment, microseconds
from recsys.experiments.lifecycle import drafted

TRIES = 10
Step = Callable[[Experiment, Sequence[Experiment]], Experiment]  # the experiment, and all of them


def stored_experiments(store: Store) -> dict[str, Experiment]:
    """By name; DataError for a stored text that is none."""
    return {name: _read(name, body) for name, body in store.documents.all(EXPERIMENT).items()}


def stored_experiment(store: Store, name: str) -> Experiment:
    body = store.documents.get(EXPERIMENT, name)
    if body is None:
        known = ", ".join(sorted(store.documents.all(EXPERIMENT))) or "none"
        raise DataError(f"found no experiment {name!r}, expected one of those stored: {known}")
    return _read(name, body)


def releases_named(store: Store) -> set[str]:
    """That running experiments answer from: they must not be pruned."""
    running = (e for e in stored_experiments(store).values() if e.status == "running")
    return {v.release_id for e in running for v in e.design.variants if v.release_id is not None}


def take(store: Store, name: str, step: Step, *, now_us: int) -> Experiment:
    """Its state after the step, which servers obey within RECSYS_POLL_INTERVAL_S.

    The step is taken again where somebody changed a document in between.
    """
    for _ in range(TRIES):
        since = store.documents.last_change()
        after = step(stored_experiment(store, name), [*stored_experiments(store).values()])
        text = after.model_dump_json(exclude_defaults=True)
        if store.documents.put_if_unchanged(
            EXPERIMENT, name, text, since=since, updated_at_us=now_us
        ):
            return after
    raise DataError(f"documents changed {TRIES} times while the experiment {name!r} was: try again")


def draft(store: Store, design: Design, now: datetime) -> Experiment:
    experiment = drafted(design, now)
    text = experiment.model_dump_json(exclude_defaults=True)
    store.documents.put(EXPERIMENT, design.name, text, updated_at_us=microseconds(now))
    return experiment


def read_design(path: Path) -> Design:
    """From JSON or, by its ending, TOML; ConfigError for a file that is none."""
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        return Design.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'design'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(
            f"{path}: {faults}. Expected the fields of PUT /v1/experiments/{{name}}, and `name`; "
            "correct them"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"found {path} unusable ({error}); expected the design of an experiment as TOML or JSON"
        ) from error


def _read(name: str, body: str) -> Experiment:
    try:
        return Experiment.model_validate_json(body)
    except ValidationError as error:
        raise DataError(
            f"the stored experiment {name!r} cannot be read: {error}; delete it and draft it again"
        ) from error
