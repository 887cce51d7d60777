"""What a storefront may ask: shapes, limits and examples in one place."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
)

from features.events import MAX_ID_LENGTH
from recsys.placements import MAX_K, ExpressionText, Placement, PlacementName
from recsys.policy import Policy
from recsys.rules import Rule, RuleId

MAX_CONTEXT_ITEMS = 50
MAX_EXCLUDED_ITEMS = 1_000
MAX_SLATES = 10  # of one call: a long page has fewer
MAX_PROPERTIES = 20  # named in one request; `true` is all of them

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _checked_id(text: str) -> str:
    """The rule of features.checks.id_rules, for ids that do not come in tables."""
    if not text.strip():
        raise ValueError(f"it is empty, expected 1 to {MAX_ID_LENGTH} characters")
    if _CONTROL_CHARACTER.search(text):
        raise ValueError("it contains a control character")
    return text


Id = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(_checked_id)
]
AttributeValue = str | bool | int | FiniteFloat
RequestId = Annotated[
    str,
    Field(description="of an answer that showed items", examples=["019ab3f0c2d1" + 20 * "0"]),
    StringConstraints(pattern=r"^[0-9a-f]{32}(-[0-9])?$"),  # a slate of many has its number behind
]
K = Annotated[int, Field(ge=1, le=MAX_K)]


class Body(BaseModel):
    """Unknown fields and wrong JSON types are refused: a typing error must not pass in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PolicyBody(Body):
    """The knobs of one request that a caller may turn; the rest is the operator's."""

    diversity: float | None = Field(default=None, ge=0, le=1, description="0: by score alone")
    exploration: float | None = Field(
        default=None, ge=0, lt=1, description="chance that a position tries a less certain item"
    )

    def applied_to(self, policy: Policy) -> Policy:
        changes = self.model_dump(exclude_none=True)
        return policy.model_copy(update=changes) if changes else policy


class SlateBody(Body):
    """What one slate is asked for, whoever the shopper is."""

    placement: PlacementName | None = Field(
        default=None, description="where it is shown; without it home, and search for a query"
    )
    k: K | None = Field(default=None, description="items; without it, as many as the placement has")
    context_item_ids: tuple[Id, ...] = Field(
        default=(), max_length=MAX_CONTEXT_ITEMS, description="items the shopper is looking at"
    )
    query: Annotated[str, StringConstraints(max_length=1_000, pattern=r"\S")] | None = Field(
        default=None, description="words the shopper typed; only items found by them are shown"
    )
    filter: ExpressionText | None = Field(
        default=None, description="only items that match, beside what the placement allows"
    )
    exclude_ids: tuple[Id, ...] = Field(
        default=(), max_length=MAX_EXCLUDED_ITEMS, description="items not to show"
    )
    return_properties: bool | Annotated[tuple[Id, ...], Field(max_length=MAX_PROPERTIES)] = Field(
        default=False,
        description="true: title, tags, available and attributes; or names of these, of "
        "description and of attributes",
    )
    explain: bool = Field(default=False, description="numbers to every item; needs scope explain")
    policy: PolicyBody = Field(default=PolicyBody(), description="needs scope explain")

    @property
    def where(self) -> str:
        """The name of the placement that is meant."""
        return self.placement or ("home" if self.query is None else "search")


class RecommendBody(SlateBody):
    """Who asks, where, and what may be shown. Without any id the shopper is a stranger."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u-17", "k": 5, "return_properties": ["title", "price"]},
                {
                    "session_id": "s-93",
                    "placement": "product_page",
                    "context_item_ids": ["lamp-4"],
                    "filter": "tags = 'lighting' and price <= 80",
                },
                {"query": "warm light for reading", "user_id": "u-17"},
            ]
        }
    )

    user_id: Id | None = None
    session_id: Id | None = None
    validate_only: bool = Field(default=False, description="check the request, answer no items")


class PageBody(RecommendBody):
    """A slate's request as it is kept for its next page."""

    shown_beside: tuple[Id, ...] = ()  # by the slates before it in one call


class NextBody(Body):
    """The slate to continue: everything but `k` is as it was asked."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"request_id": "019ab3f0c2d1" + 20 * "0", "k": 20}]}
    )

    request_id: RequestId
    k: K | None = Field(default=None, description="items; without it, as many as were asked for")


class ManyBody(Body):
    """All slates of a page at once; what comes first in the list may choose first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "u-17",
                    "slates": [
                        {"placement": "similar", "context_item_ids": ["lamp-4"], "k": 6},
                        {"placement": "home", "k": 12},
                        {"placement": "trending"},
                    ],
                }
            ]
        }
    )

    user_id: Id | None = None
    session_id: Id | None = None
    slates: tuple[SlateBody, ...] = Field(min_length=1, max_length=MAX_SLATES)


class PlacementBody(Placement):
    """What a place of the storefront shows; its name is the path's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "description": "The strip above the footer",
                    "k": 6,
                    "filter": "available = true and price < 50",
                    "policy": {"diversity": 0.3},
                }
            ]
        }
    )

    name: PlacementName = Field(default="-", description="the path's; may be left out")


class RuleBody(Rule):
    """A decision about slates; its id is the path's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "description": "Sale of the week",
                    "placements": ["home"],
                    "starts_at": "2026-11-23T00:00:00Z",
                    "ends_at": "2026-11-30T00:00:00Z",
                    "then": {"action": "boost", "where": "tags = 'sale'", "strength": 0.3},
                },
                {"then": {"action": "quota", "attribute": "brand", "at_most": 2}},
            ]
        }
    )

    rule_id: RuleId = Field(default="-", description="the path's; may be left out")


class PreviewBody(Body):
    """A rule that is not live yet, and the request it is tried on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "rule": {"then": {"action": "hide", "where": "tags = 'refurbished'"}},
                    "ask": {"user_id": "u-17", "placement": "home"},
                }
            ]
        }
    )

    rule: RuleBody
    ask: RecommendBody
    at: AwareDatetime | None = Field(
        default=None, description="the moment; without it now, or when the rule begins"
    )
