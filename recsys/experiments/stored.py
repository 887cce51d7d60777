"""Experiments in the store: whatever is written, is written only if nobody wrote meanwhile.

Servers and commands take the same steps of an experiment's life through this module.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from features.documents import Documents
from features.errors import Contended, DataError
from recsys.documents import readable
from recsys.experiments import lifecycle
from recsys.experiments.experiment import (
    EXPERIMENT,
    GLOBAL,
    HOLDOUT,
    PREDICTION,
    Design,
    Experiment,
    Holdout,
    microseconds,
)
from recsys.placements import PLACEMENT, placements_of

T = TypeVar("T")

TRIES = 10  # people change a shop's documents some times a day, each in a millisecond
Step = Callable[[Experiment, Sequence[Experiment]], Experiment]  # the experiment, and all of them


@dataclass(frozen=True, slots=True)
class StoredExperiments:
    """By name; `unreadable` are those that other code wrote, with what is wrong."""

    readable: Mapping[str, Experiment]
    unreadable: Mapping[str, ValidationError]

    @classmethod
    def read(cls, documents: Documents) -> "StoredExperiments":
        return cls(*readable(documents.all(EXPERIMENT), Experiment))

    @property
    def all(self) -> list[Experiment]:
        return list(self.readable.values())

    @property
    def running(self) -> list[Experiment]:
        return [e for e in self.readable.values() if e.status == "running"]

    def find(self, name: str) -> Experiment | None:
        """None where there is none; DataError for one that cannot be read."""
        if name in self.unreadable:
            raise DataError(
                f"the stored experiment {name!r} cannot be read ({self.unreadable[name]}): serve "
                "it with the version that wrote it, or delete it and draft it again"
            )
        return self.readable.get(name)

    def get(self, name: str) -> Experiment:
        """DataError where there is none."""
        found = self.find(name)
        if found is None:
            names = ", ".join(self.readable) or "none"
            raise DataError(f"found no experiment {name!r}, expected one of those stored: {names}")
        return found


def put(
    documents: Documents, design: Design, *, release_ids: Iterable[str], now: datetime
) -> Experiment:
    """Drafted, or the stored one of its name changed as far as it may be."""

    def step(known: StoredExperiments) -> Experiment:
        _check_names(documents, design, release_ids)
        before = known.find(design.name)
        if before is None:
            return lifecycle.drafted(design, now)
        return lifecycle.changed(before, design, now, known.all)

    return _step(documents, design.name, step, now)


def start(
    documents: Documents, name: str, *, reason: str, release_ids: Iterable[str], now: datetime
) -> Experiment:
    """In a new phase, if there is still all that its design names."""

    def step(before: Experiment, others: Sequence[Experiment]) -> Experiment:
        _check_names(documents, before.design, release_ids)
        return lifecycle.started(before, now, reason, others)

    return take(documents, name, step, now=now)


def take(documents: Documents, name: str, step: Step, *, now: datetime) -> Experiment:
    """The experiment after the step, which servers obey within RECSYS_POLL_INTERVAL_S.

    The step is taken again where somebody changed a document in between. DataError where there is
    no such experiment.
    """
    return _step(documents, name, lambda known: step(known.get(name), known.all), now)


def remove(documents: Documents, name: str, *, now: datetime) -> None:
    """A draft, or what cannot be read, with what was predicted of it.

    DataError for what has run: its results would be lost.
    """
    now_us = microseconds(now)

    def write(since: int) -> bool:
        stored = StoredExperiments.read(documents)
        if name not in stored.unreadable and (found := stored.get(name)).status != "draft":
            raise DataError(f"the experiment {name!r} is {found.status}, expected a draft: keep it")
        return documents.delete_if_unchanged(EXPERIMENT, name, since=since, updated_at_us=now_us)

    _until_kept(documents, write)
    for prediction in documents.all(PREDICTION):
        if prediction.startswith(f"{name}/"):
            documents.delete(PREDICTION, prediction, updated_at_us=now_us)


def holdout_of(documents: Documents) -> Holdout:
    """None is held out where none is stored, or one that cannot be read: as servers see it."""
    found, _ = readable(documents.all(HOLDOUT), Holdout)
    return found.get(GLOBAL, Holdout(share=0.0))


def hold_out(documents: Documents, holdout: Holdout, *, now: datetime) -> None:
    """DataError while an experiment runs: its units would move in or out of it."""
    now_us = microseconds(now)

    def write(since: int) -> bool:
        running = [e.name for e in StoredExperiments.read(documents).running]
        if running and holdout != holdout_of(documents):
            raise DataError(
                f"found {', '.join(running)} running, expected nothing to run while the holdout "
                "changes, or units would move: stop them first"
            )
        text = holdout.model_dump_json()
        return documents.put_if_unchanged(HOLDOUT, GLOBAL, text, since=since, updated_at_us=now_us)

    _until_kept(documents, write)


def forget(documents: Documents, unit_ids: Collection[str], *, now: datetime) -> None:
    """No override names them afterwards, nor one of an experiment that cannot be read."""
    now_us = microseconds(now)
    for name in documents.all(EXPERIMENT):

        def write(since: int, name: str = name) -> bool:
            body = documents.get(EXPERIMENT, name)
            after = None if body is None else _without(body, unit_ids)
            if after is None or after == body:
                return True
            return documents.put_if_unchanged(
                EXPERIMENT, name, after, since=since, updated_at_us=now_us
            )

        _until_kept(documents, write)


def _without(body: str, unit_ids: Collection[str]) -> str:
    found = json.loads(body)
    design = found.get("design") if isinstance(found, dict) else None
    overrides = design.get("overrides") if isinstance(design, dict) else None
    if not isinstance(overrides, dict) or not overrides.keys() & {*unit_ids}:
        return body
    assert isinstance(design, dict)
    design["overrides"] = {u: key for u, key in overrides.items() if u not in unit_ids}
    return json.dumps(found)


def releases_needed(documents: Documents, release_ids: Iterable[str]) -> set[str]:
    """Of the releases those that an undecided experiment names, also one that cannot be read."""
    bodies = documents.all(EXPERIMENT)
    known, _ = readable(bodies, Experiment)
    decided = {name for name, experiment in known.items() if experiment.status == "decided"}
    texts = [body for name, body in bodies.items() if name not in decided]
    return {release_id for release_id in release_ids for text in texts if f'"{release_id}"' in text}


def _check_names(documents: Documents, design: Design, release_ids: Iterable[str]) -> None:
    lifecycle.check_releases(design, release_ids)
    lifecycle.check_placements(design, placements_of(documents.all(PLACEMENT)))


def _step(
    documents: Documents,
    name: str,
    step: Callable[[StoredExperiments], Experiment],
    now: datetime,
) -> Experiment:
    def write(since: int) -> Experiment | None:
        after = step(StoredExperiments.read(documents))
        text, now_us = after.model_dump_json(exclude_defaults=True), microseconds(now)
        kept = documents.put_if_unchanged(EXPERIMENT, name, text, since=since, updated_at_us=now_us)
        return after if kept else None

    return _until_kept(documents, write)


def _until_kept(documents: Documents, write: Callable[[int], T | None]) -> T:
    """`write` is told the change it must follow, and answers nothing if another came first."""
    for _ in range(TRIES):
        found = write(documents.last_change())
        if found:
            return found
    raise Contended(
        f"others keep writing experiments, rules or placements, {TRIES} times in between: try again"
    )
