"""What a storefront may send: shapes, limits and examples in one place."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
)

from features.events import MAX_ID_LENGTH
from features.slates import SEARCH
from recsys.policy import Policy
from recsys.types import ItemFilter

MAX_K = 100
MAX_CONTEXT_ITEMS = 50
MAX_EXCLUDED_ITEMS = 1_000
MAX_CONDITIONS = 100  # tags or attribute values of one kind; far above what a page offers to tick
MAX_ATTRIBUTES = 20  # each may cost a pass over the catalogue

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
Placement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
AttributeValue = str | bool | int | FiniteFloat
Tags = Annotated[tuple[str, ...], Field(max_length=MAX_CONDITIONS)]


class Body(BaseModel):
    """Unknown fields and wrong JSON types are refused: a typing error must not pass in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FilterBody(Body):
    """Only items that meet every condition."""

    tags_any: Tags = ()
    tags_all: Tags = ()
    tags_none: Tags = ()
    attributes: dict[
        str, Annotated[tuple[AttributeValue, ...], Field(max_length=MAX_CONDITIONS)]
    ] = Field(
        default={}, max_length=MAX_ATTRIBUTES, description="attribute → the values it may have"
    )
    price_min: float | None = Field(default=None, ge=0)
    price_max: float | None = Field(default=None, ge=0)

    def to_filter(self) -> ItemFilter:
        return ItemFilter(
            tags_any=self.tags_any,
            tags_all=self.tags_all,
            tags_none=self.tags_none,
            attributes=tuple(self.attributes.items()),
            price_min=self.price_min,
            price_max=self.price_max,
        )


class PolicyBody(Body):
    """The knobs of one request that a caller may turn; the rest is the operator's."""

    diversity: float | None = Field(default=None, ge=0, le=1, description="0: by score alone")
    exploration: float | None = Field(
        default=None, ge=0, lt=1, description="chance that a position tries a less certain item"
    )

    def applied_to(self, policy: Policy) -> Policy:
        return policy.model_copy(update=self.model_dump(exclude_none=True))


class ShopperBody(Body):
    """Who asks. With neither id the shopper is a stranger, and still gets an answer."""

    user_id: Id | None = None
    session_id: Id | None = None
    placement: Placement = Field(default="home", description="where on the site the slate is shown")
    k: int = Field(default=10, ge=1, le=MAX_K)
    exclude_item_ids: tuple[Id, ...] = Field(default=(), max_length=MAX_EXCLUDED_ITEMS)
    filter: FilterBody | None = None
    explain: bool = False
    policy: PolicyBody = PolicyBody()


class RecommendBody(ShopperBody):
    """Who asks, where, and what may be shown."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u-17", "k": 5},
                {
                    "session_id": "s-93",
                    "placement": "product_page",
                    "context_item_ids": ["lamp-4"],
                    "filter": {"tags_any": ["lighting"], "price_max": 80},
                    "explain": True,
                },
            ]
        }
    )

    context_item_ids: tuple[Id, ...] = Field(
        default=(), max_length=MAX_CONTEXT_ITEMS, description="items the shopper is looking at"
    )


class SearchBody(ShopperBody):
    """Words to match, and for whom."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "warm light for reading", "user_id": "u-17"}]}
    )

    query: Annotated[str, StringConstraints(max_length=1_000, pattern=r"\S")]
    placement: Placement = SEARCH
