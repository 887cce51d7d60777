"""What people send about experiments, and what they get back."""

from typing import Any

from pydantic import ConfigDict, Field

from api.answers import Shape
from api.bodies import Body
from recsys.experiments.experiment import Design, Experiment, Holdout, Key, Share, Words

DESIGN: dict[str, Any] = {
    "hypothesis": "More variety on the home page makes shoppers open more items",
    "owner": "home team",
    "placements": ["home"],
    "variants": [
        {"key": "as-is"},
        {"key": "varied", "policy": {"diversity": 0.4}},
    ],
    "plan": {
        "goals": [
            {
                "name": "click-rate",
                "kind": "ratio",
                "event_type": "click",
                "per": "slates",
                "attributed": True,
            }
        ],
        "guardrails": [{"name": "orders", "event_type": "purchase", "margin": 0.05}],
    },
}


class DesignBody(Design):
    """What is varied, for whom, and how it will be judged; its name is the path's."""

    model_config = ConfigDict(json_schema_extra={"examples": [DESIGN]})

    name: Key = Field(default="-", description="the path's; may be left out")


class StepBody(Body):
    """Why it begins or ends."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the season is over"}]})

    reason: Words = ""


class DecideBody(Body):
    """Which variant stays, and why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"variant": "varied", "reason": "+3 % clicks, no harm"}]}
    )

    variant: Key
    reason: Words = ""


class HoldoutBody(Holdout):
    """The share of units that no experiment touches."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"share": 0.05}]})


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
