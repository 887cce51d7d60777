"""Merchandising rules: what a shop's people decide about slates, as data with validity windows."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from recsys.placements import MAX_K, ExpressionText, PlacementName

RULE = "rule"  # kind of documents
MAX_RULES = 500  # in force at once; each boost costs one look-up of its mask a request
RuleId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hide(_Part):
    """Matching items are not shown."""

    action: Literal["hide"]
    where: ExpressionText


class Pin(_Part):
    """The item stands at this position, if it is available and passes the request's filter."""

    action: Literal["pin"]
    item_id: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    position: int = Field(ge=0, lt=MAX_K, description="from 0, counted over all pages")


class Boost(_Part):
    """Matching items move up by `strength` times the spread of the candidates' scores."""

    action: Literal["boost"]
    where: ExpressionText
    strength: float = Field(gt=0, le=1, description="1: above everything that does not match")


class Bury(_Part):
    """Matching items move down by `strength` times the spread of the candidates' scores."""

    action: Literal["bury"]
    where: ExpressionText
    strength: float = Field(gt=0, le=1, description="1: below everything that does not match")


class Quota(_Part):
    """At most so many items of each value of an attribute; with `where`, only those count."""

    action: Literal["quota"]
    attribute: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    at_most: int = Field(ge=1, le=MAX_K)
    where: ExpressionText | None = None


class Rule(_Part):
    """One decision, where it holds and from when to when: [starts_at, ends_at)."""

    rule_id: RuleId
    description: str = Field(default="", max_length=500)
    placements: tuple[PlacementName, ...] = Field(default=(), description="none named: all")
    context: ExpressionText | None = Field(
        default=None, description="only where a context item matches"
    )
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    enabled: bool = True
    then: Annotated[Hide | Pin | Boost | Bury | Quota, Field(discriminator="action")]

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> "Rule":
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise ValueError(
                f"ends_at {self.ends_at.isoformat()} is not after starts_at "
                f"{self.starts_at.isoformat()}: the rule would never hold"
            )
        return self

    def holds(self, placement: str, now_us: int) -> bool:
        """Whether it is in force there and then; its `context` is for the recommender to ask."""
        began = self.starts_at is None or self.starts_at.timestamp() * 1e6 <= now_us
        ended = self.ends_at is not None and self.ends_at.timestamp() * 1e6 <= now_us
        here = not self.placements or placement in self.placements
        return self.enabled and began and not ended and here


def in_force(rules: Iterable[Rule], placement: str, now_us: int) -> tuple[Rule, ...]:
    """In order of rule_id, so that the order of writing decides nothing."""
    holding = (rule for rule in rules if rule.holds(placement, now_us))
    return tuple(sorted(holding, key=lambda rule: rule.rule_id))
