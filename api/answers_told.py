"""What a storefront gets back for what it told: events, items and users."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Shape


class Verdict(Shape):
    """What became of one event."""

    index: int = Field(description="position in the batch, from 0")
    event_id: str | None
    verdict: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None


class EventsAnswer(Shape):
    """What became of a batch; accepted events are on disk."""

    request_id: str
    accepted: int
    duplicate: int
    rejected: int
    verdicts: list[Verdict] = Field(description="one for each event, in order")
    missing_ids: list[str] = Field(
        description="accepted events' items that the release does not know yet"
    )


class Item(Shape):
    """An item as it is stored."""

    request_id: str
    item_id: str
    title: str
    description: str
    tags: list[str]
    attributes: dict[str, Any]
    available: bool
    published_at: str | None


class ItemStored(Shape):
    """An item that was written."""

    request_id: str
    item_id: str
    changed: bool = Field(description="false: the store already held exactly this")
    retrievable: bool = Field(description="false: stored, but not among what is recommended")


class ItemDeleted(Shape):
    """An item that is gone."""

    request_id: str
    item_id: str
    deleted: bool
