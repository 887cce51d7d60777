"""Replays that foretell a running or coming experiment, and how well the past ones did."""

from dataclasses import dataclass
from datetime import datetime

from features.documents import Documents
from features.errors import ConfigError
from jobs.console import Terminal
from jobs.offpolicy.tables import show_calibration
from recsys.documents import readable
from recsys.evaluation.offpolicy.calibration import calibrate
from recsys.evaluation.offpolicy.foretelling import (
    FORETOLD,
    Foretold,
    Measured,
    compared,
    foretell,
    variant_of,
)
from recsys.evaluation.offpolicy.replay import Replay
from recsys.experiments.experiment import REPORT, Experiment, microseconds
from recsys.experiments.stored import StoredExperiments


@dataclass(frozen=True, slots=True)
class Claim:
    """A variant that a replay is of."""

    experiment: Experiment
    key: str

    @classmethod
    def of(cls, documents: Documents, name: str) -> "Claim":
        """From `<experiment>/<variant>`."""
        experiment, slash, key = name.partition("/")
        if not slash:
            raise ConfigError(f"--foretells: found {name!r}, expected <experiment>/<variant>")
        claim = cls(StoredExperiments.read(documents).get(experiment), key)
        variant_of(claim.experiment, key)
        return claim

    @property
    def until_us(self) -> int | None:
        """Of what a replay may see: nothing that the experiment has measured."""
        phases = self.experiment.phases
        return microseconds(phases[0].started_at) if phases else None

    def keep(self, documents: Documents, reward: str, found: Replay, now: datetime) -> Foretold:
        """In place of what was foretold of the variant before."""
        told = foretell(self.experiment, self.key, reward, found, at=now)
        text, now_us = told.model_dump_json(), microseconds(now)
        documents.put(FORETOLD, told.name, text, updated_at_us=now_us)
        return told


def show_foretold(terminal: Terminal, documents: Documents) -> None:
    """What was foretold beside what was measured, by each experiment's last report."""
    foretold, unreadable = readable(documents.all(FORETOLD), Foretold)
    if not foretold and not unreadable:
        terminal.say("Nothing is foretold: `replay --foretells EXPERIMENT/VARIANT` keeps a replay.")
        return
    reports, _ = readable(documents.all(REPORT), Measured)
    pairs, waiting = compared(foretold.values(), reports)
    waiting |= dict.fromkeys(unreadable, "stored by another version, unreadable")
    if pairs:
        show_calibration(terminal, calibrate(pairs))
    if waiting:
        rows = [(name, why) for name, why in sorted(waiting.items())]
        terminal.table("Not compared yet", ("variant", "why"), rows)
