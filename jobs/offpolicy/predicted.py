"""Replays that predict an experiment, and how well those of the shop did."""

from dataclasses import dataclass
from datetime import UTC, datetime

from features.errors import ConfigError
from features.store import Store
from jobs.console import Terminal
from jobs.offpolicy.tables import show_calibration
from recsys.documents import readable
from recsys.evaluation.offpolicy.calibration import calibrate
from recsys.evaluation.offpolicy.predictions import Measured, Prediction, compared, predictable
from recsys.evaluation.offpolicy.replay import Replay
from recsys.experiments.experiment import PREDICTION, REPORT, Experiment, microseconds
from recsys.experiments.stored import StoredExperiments


@dataclass(frozen=True, slots=True)
class Predicted:
    """A variant that a replay is of, and the slates that it may be of."""

    experiment: Experiment
    key: str
    reward: str

    @classmethod
    def read(cls, database_url: str, name: str, reward: str, placement: str | None) -> "Predicted":
        """From `<experiment>/<variant>`; what could not be compared afterwards is refused."""
        experiment, slash, key = name.partition("/")
        if not slash:
            raise ConfigError(f"--predicts: found {name!r}, expected <experiment>/<variant>")
        with Store.open(database_url) as store:
            found = cls(StoredExperiments.read(store.documents).get(experiment), key, reward)
        predictable(found.experiment, key, reward)
        at = found.experiment.design.placements
        if placement is not None and at and {placement} != {*at}:
            raise ConfigError(
                f"--placement: found {placement!r}, expected none: {experiment!r} is at "
                f"{', '.join(sorted(at))}"
            )
        return found

    @property
    def until_us(self) -> int | None:
        """Its experiment has measured nothing before."""
        phases = self.experiment.phases
        return microseconds(phases[0].started_at) if phases else None

    def keep(self, database_url: str, replayed: Replay) -> None:
        """In place of what was predicted of the same before."""
        now = datetime.now(UTC)
        found = Prediction.of(self.experiment, self.key, self.reward, replayed, at=now)
        text, now_us = found.model_dump_json(), microseconds(now)
        with Store.open(database_url) as store:
            store.documents.put(PREDICTION, found.name, text, updated_at_us=now_us)


def show_predictions(terminal: Terminal, database_url: str) -> None:
    """What was predicted beside what was measured, by each experiment's last report."""
    with Store.open(database_url) as store:
        predictions, unreadable = readable(store.documents.all(PREDICTION), Prediction)
        reports, no_reports = readable(store.documents.all(REPORT), Measured)
    pairs, waiting = compared(predictions.values(), reports)
    for one in predictions.values():
        if one.experiment in no_reports:
            waiting[one.name] = "the report of its experiment cannot be read: analyse it again"
    waiting |= dict.fromkeys(unreadable, "stored by another version: replay it again")
    if pairs:
        show_calibration(terminal, calibrate(pairs))
    if waiting:
        terminal.table("Not compared", ("prediction", "why"), sorted(waiting.items()))
    if not pairs and not waiting:
        terminal.say("Nothing is predicted: `replay --predicts EXPERIMENT/VARIANT` keeps a replay.")
