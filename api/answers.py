"""What a storefront gets back. These models document the answers; orjson writes them.

A test reads real answers back through these models, so that the documentation stays true.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from recsys.placements import Placement
from recsys.rules import Rule


class Shape(BaseModel):
    """An answer: exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class RecommendedItem(Shape):
    """One position of a slate."""

    item_id: str
    score: float = Field(description="utility; comparable within one answer only")
    reasons: list[str] = Field(description="words a shopper may read")
    properties: dict[str, Any] | None = Field(
        default=None, description="what return_properties asked for"
    )
    explanation: dict[str, Any] | None = Field(
        default=None, description="numbers, when explain is true"
    )


class ExperimentArm(Shape):
    """Which variant of which experiment answered."""

    experiment: str
    variant: str


class SlateAnswer(Shape):
    """What to show, position 0 first."""

    request_id: str = Field(description="send it with the events this slate leads to")
    placement: str
    items: list[RecommendedItem]
    about_item_ids: list[str] = Field(
        description="what the slate goes with; empty: with the shopper"
    )
    release_id: str
    experiments: list[ExperimentArm]
    degraded: list[str] = Field(description="parts that failed; the answer came without them")
    fallbacks: list[str] = Field(
        description="popular: topped up with what is popular; viewed: seen items are shown again"
    )
    missing_ids: list[str] = Field(description="context items this release does not know")
    has_next: bool = Field(description="whether POST /v1/recommend/next would show more")
    removed: dict[str, int] | None = Field(
        default=None,
        description="when explain is true, or nothing is left: why candidates were dropped",
    )
    rules: dict[str, int] | None = Field(
        default=None, description="when explain is true: rules that fired → items concerned"
    )


class ValidAnswer(Shape):
    """The request would be answered; it was not."""

    request_id: str
    valid: Literal[True]
    placement: str
    k: int
    warnings: list[str]
    missing_ids: list[str] = Field(description="context items this release does not know")


class RecommendAnswer(RootModel[SlateAnswer | ValidAnswer]):
    """A slate; with validate_only, that there would be one."""


class ManyAnswer(Shape):
    """One answer a slate, in the order asked."""

    request_id: str = Field(description="of the call; each slate has its own")
    slates: list[SlateAnswer]


class PlacementShape(Placement):
    """A placement as it is obeyed."""

    stored: bool = Field(description="false: it comes with the server")


class PlacementAnswer(PlacementShape):
    """One placement."""

    request_id: str


class PlacementsAnswer(Shape):
    """Every placement, by name."""

    request_id: str
    placements: list[PlacementShape]


class PlacementWritten(PlacementAnswer):
    """A placement that is in force from now on."""

    changed: bool = Field(description="false: the store already held exactly this")
    warnings: list[str]


class RuleShape(Rule):
    """A rule, and what it did."""

    in_force: bool = Field(description="enabled, and now is in its window")
    fired: int = Field(description="slates it changed since this process began")


class RuleAnswer(RuleShape):
    """One rule."""

    request_id: str


class RulesAnswer(Shape):
    """Every rule, by id."""

    request_id: str
    rules: list[RuleShape]
    unreadable: dict[str, str] = Field(
        description="stored rules and placements this server cannot read, and why"
    )


class RuleWritten(RuleAnswer):
    """A rule that is in force from now on."""

    changed: bool = Field(description="false: the store already held exactly this")
    warnings: list[str]


class Deleted(Shape):
    """A placement or rule that is forgotten."""

    request_id: str
    name: str
    deleted: Literal[True]


class PreviewAnswer(Shape):
    """One request, answered twice."""

    request_id: str
    at_us: int = Field(description="the moment it was answered for, microseconds since 1970")
    in_force: bool = Field(description="whether the rule holds there and then")
    without_rule: SlateAnswer
    with_rule: SlateAnswer
    fired: dict[str, int] = Field(description="rules that fired with it → items concerned")
    warnings: list[str]


class Alive(Shape):
    """The process answers."""

    status: Literal["alive"]
    request_id: str


class RefusedRelease(Shape):
    """A release that was found unfit to serve."""

    release_id: str
    reason: str


class Ready(Shape):
    """The server can recommend."""

    status: Literal["ready"]
    request_id: str
    release_id: str
    release_age_s: float
    items: int = Field(description="that can be recommended")
    refused: list[RefusedRelease]
    unreadable: dict[str, str] = Field(
        description="stored rules and placements that were skipped, and why"
    )
    slates: dict[str, int] = Field(description="waiting, written, dropped, lost")
    events_waiting: int


class ErrorDetail(Shape):
    """A stable code, and a message that says what to do."""

    code: str
    message: str
    details: Any = None


class ErrorAnswer(Shape):
    """Every answer that is not a success."""

    error: ErrorDetail
    request_id: str
