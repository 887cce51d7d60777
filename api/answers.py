"""What a storefront gets back. These models document the answers; orjson writes them.

A test reads real answers back through these models, so that the documentation stays true.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """An answer: exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class RecommendedItem(Shape):
    """One position of a slate."""

    item_id: str
    score: float = Field(description="utility; comparable within one answer only")
    reasons: list[str] = Field(description="words a shopper may read")
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
    items: list[RecommendedItem]
    release_id: str
    experiments: list[ExperimentArm]
    degraded: list[str] = Field(description="parts that failed; the answer came without them")
    missing_ids: list[str] = Field(description="context items this release does not know")
    removed: dict[str, int] | None = Field(
        default=None, description="when explain is true: why candidates were dropped → how many"
    )


class SimilarItem(Shape):
    """One neighbour."""

    item_id: str
    score: float = Field(description="similarity to the item asked about")


class SimilarAnswer(Shape):
    """Neighbours, best first."""

    request_id: str
    items: list[SimilarItem]
    release_id: str


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
    slates: dict[str, int] = Field(description="waiting, written, dropped, lost")


class ErrorDetail(Shape):
    """A stable code, and a message that says what to do."""

    code: str
    message: str
    details: Any = None


class ErrorAnswer(Shape):
    """Every answer that is not a success."""

    error: ErrorDetail
    request_id: str
