"""What people get back about experiments."""

from typing import Any

from pydantic import Field

from api.answers import Shape
from recsys.experiments.experiment import Experiment, Share


class ExperimentAnswer(Experiment):
    """One experiment: its design and its life so far."""

    request_id: str


class ExperimentsAnswer(Shape):
    """Every experiment, by name."""

    request_id: str
    experiments: list[Experiment]
    unreadable: dict[str, str] = Field(description="stored, but of another version: what is wrong")


class WouldGetAnswer(Shape):
    """What one unit would get."""

    request_id: str
    experiment: str
    unit_id: str
    placement: str
    variant: str | None = Field(description="null: the unit takes no part, and gets the usual")
    how: str | None = Field(description="hash, override or holdout")


class ReportAnswer(Shape):
    """The last analysis of an experiment, as python -m jobs experiments analyse made it."""

    request_id: str
    report: dict[str, Any]


class HoldoutAnswer(Shape):
    """The holdout that is obeyed."""

    request_id: str
    share: Share
    salt: str
