"""What people send about experiments."""

from typing import Any

from pydantic import ConfigDict, Field

from api.bodies import Body
from recsys.experiments.experiment import Design, Holdout, Key, Words

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
