"""Every knob a request obeys, in one value that a placement or an experiment can vary."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

# Candidates asked of each source: about where recall of the merged set flattens on Beauty. 100 of
# collaborative instead of 60 found 12 % more in the sample shop, 8 % more on MovieLens.
DEFAULT_SOURCES: dict[str, int] = {
    "next_item": 100,
    "co_visited": 100,
    "similar_text": 60,
    "collaborative": 100,
    "trending": 50,
    "new_items": 20,
}

_GONE = ("search_personalisation",)  # the search placement's `personalisation` since


class Policy(BaseModel):
    """How one request is answered; frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: dict[str, int] = Field(default_factory=lambda: dict(DEFAULT_SOURCES))
    # what the sources are asked about: the shopper's history with the context as just viewed; the
    # context items alone; or alone the last item the shopper acted on
    about: Literal["shopper", "context", "last_item"] = "shopper"
    # 1: by utility for this shopper; 0: as the sources, or the words' match, order the candidates
    personalisation: float = Field(default=1.0, ge=0, le=1)
    action_weights: dict[str, float] = Field(default_factory=dict)  # empty: the event types' own
    filter_viewed: bool = True  # hide items the shopper already acted on
    diversity: float = Field(default=0.1, ge=0, le=1)  # 0: by utility alone, 1: unlike each other
    exploration: float = Field(default=0.05, ge=0, lt=1)  # chance that a position explores
    exploration_pool: int = Field(default=50, ge=1)  # next best candidates an explorer draws from

    @classmethod
    def stored(cls, policy: Mapping[str, JsonValue]) -> Self:
        """As a release of any age wrote it: knobs that are gone since are left out."""
        return cls.model_validate({k: v for k, v in policy.items() if k not in _GONE})

    def changed_by(self, changes: Mapping[str, JsonValue]) -> Self:
        """This policy with some keys replaced; ValidationError for what makes no sense."""
        return self.model_validate({**self.model_dump(), **changes})
