"""Placements: the named places of a storefront, each with the policy its slates obey, as data."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)

from features.errors import DataError
from recsys.documents import readable
from recsys.expression import parse
from recsys.policy import DEFAULT_SOURCES, Policy

PLACEMENT = "placement"  # kind of documents
MAX_K = 100  # items of one slate
MAX_CANDIDATES = 1_000  # of one source: ten times what is asked for usually
_SOURCE_NAMES = (*DEFAULT_SOURCES, "bought_together")

PlacementName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


def _checked_expression(text: str) -> str:
    parse(text)
    return text


ExpressionText = Annotated[
    str, StringConstraints(max_length=2_000), AfterValidator(_checked_expression)
]


def checked_changes(changes: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The changes, if a policy takes them and names sources there are; DataError else."""
    for source, n in Policy().changed_by(changes).sources.items():
        if source not in _SOURCE_NAMES:
            expected = ", ".join(_SOURCE_NAMES)
            raise DataError(f"found the source {source!r}, expected one of {expected}")
        if not 0 <= n <= MAX_CANDIDATES:
            raise DataError(
                f"found {n} candidates of {source}, expected 0 (not asked) to {MAX_CANDIDATES:,}"
            )
    return changes


class Placement(BaseModel):
    """What is shown in one place of the storefront; a request may narrow it, never widen it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PlacementName
    description: str = Field(default="", max_length=500)
    k: int = Field(default=10, ge=1, le=MAX_K, description="items, unless the request says")
    filter: ExpressionText | None = Field(default=None, description="only items that match")
    needs_context: bool = Field(
        default=False, description="refuse requests without context_item_ids"
    )
    policy: Annotated[dict[str, JsonValue], AfterValidator(checked_changes)] = Field(
        default={}, description="keys of the policy that differ here"
    )


_ABOUT_CONTEXT: dict[str, JsonValue] = {
    "about": "context",
    "filter_viewed": False,
    "exploration": 0.0,
    "diversity": 0.0,
}

# What a shop has before it says anything; stored placements of the same name replace these.
DEFAULT_PLACEMENTS: tuple[Placement, ...] = (
    Placement(name="home", description="For this shopper"),
    Placement(name="product_page", description="For this shopper, looking at these items"),
    Placement(
        name="cart",
        description="To go with what is in the cart",
        needs_context=True,
        policy={**_ABOUT_CONTEXT, "sources": {"co_visited": 100, "similar_text": 30}},
    ),
    Placement(
        name="search",
        description="What matches the words, what suits the shopper a little higher",
        policy={
            "personalisation": 0.1,
            "filter_viewed": False,
            "exploration": 0.0,
            "diversity": 0.0,
        },
    ),
    Placement(
        name="mail", description="For a message that is read later", policy={"diversity": 0.2}
    ),
    Placement(
        name="similar",
        description="Like the context items, in words and in who takes them",
        needs_context=True,
        policy={
            **_ABOUT_CONTEXT,
            "sources": {"similar_text": 100, "co_visited": 100},
            "personalisation": 0.2,
        },
    ),
    Placement(
        name="viewed_together",
        description="What shoppers take soon after the context items",
        needs_context=True,
        policy={**_ABOUT_CONTEXT, "sources": {"co_visited": 100}, "personalisation": 0.0},
    ),
    Placement(
        name="bought_together",
        description="What is bought with the context items",
        needs_context=True,
        policy={**_ABOUT_CONTEXT, "sources": {"bought_together": 100}, "personalisation": 0.0},
    ),
    Placement(
        name="trending",
        description="What is popular now",
        policy={
            "sources": {"trending": 200},
            "personalisation": 0.0,
            "filter_viewed": False,
            "exploration": 0.0,
            "diversity": 0.0,
        },
    ),
    Placement(
        name="new",
        description="What came lately, nearest to the shopper's taste",
        policy={"sources": {"new_items": 200}, "personalisation": 0.3},
    ),
    Placement(
        name="because_you_viewed",
        description="To go with the last item the shopper acted on",
        policy={
            "about": "last_item",
            "sources": {"similar_text": 60, "co_visited": 60},
            "personalisation": 0.5,
        },
    ),
)


def placements_of(stored: Mapping[str, str]) -> dict[str, Placement]:
    """The shop's own among the defaults, from their JSON by name; what cannot be read is none."""
    own, _ = readable(stored, Placement)
    return {placement.name: placement for placement in DEFAULT_PLACEMENTS} | own


def asked_about_else(stored: Mapping[str, str]) -> list[str]:
    """Names of the placements that do not show what suits the shopper in order of utility.

    What sources found there they were asked about an item, or words found it: the same columns of
    features mean something else. `stored` as for `placements_of`.
    """
    policies = {n: Policy().changed_by(p.policy) for n, p in placements_of(stored).items()}
    return sorted(
        name
        for name, policy in policies.items()
        if policy.about != "shopper" or policy.personalisation < 1
    )
