"""What a storefront tells: events, items and users, row by row where they come in batches."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import ErrorDetails

from api.bodies import AttributeValue, Body, Id
from api.errors import problem
from features.events import MAX_ID_LENGTH

MAX_EVENTS = 1_000


class EventRow(Body):
    """One thing a shopper did: JSON types only, the rest is for features.event_checks."""

    event_id: str = Field(description="the storefront's own; a repeated id counts once")
    user_id: str | None = None
    session_id: str | None = None
    item_id: str
    event_type: str
    event_time: str | None = Field(
        default=None,
        description="ISO-8601 with a zone; without it, the server's time",
        json_schema_extra={"format": "date-time"},
    )
    request_id: str | None = Field(default=None, description="of the slate the item was shown in")
    value: float | None = None


class Malformed(BaseModel):
    """A row that is not an event; the rest of its batch goes on."""

    event_id: str | None
    reason: str


def _or_malformed(row: Any, read: Any) -> EventRow | Malformed:  # noqa: ANN401  any JSON at all
    try:
        event: EventRow = read(row)
    except ValidationError as error:
        found = row.get("event_id") if isinstance(row, dict) else None
        event_id = found[:MAX_ID_LENGTH] if isinstance(found, str) else None
        return Malformed(event_id=event_id, reason=reason(error.errors(include_url=False)[0]))
    return event


def reason(error: ErrorDetails) -> str:
    """`field: what pydantic found`, without its prefix for our own messages."""
    field = ".".join(map(str, error["loc"])) or "row"
    return f"{field}: {problem(error['msg'])}"


class EventsBody(Body):
    """A batch; a row that is not an event does not spoil the others."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "e-1",
                            "user_id": "u-17",
                            "item_id": "lamp-4",
                            "event_type": "click",
                            "event_time": "2026-11-23T10:00:00Z",
                        }
                    ]
                }
            ]
        }
    )

    events: list[Annotated[EventRow, WrapValidator(_or_malformed)]] = Field(
        min_length=1, max_length=MAX_EVENTS
    )

    @property
    def rows(self) -> list[EventRow | Malformed]:
        return [*self.events]


Attributes = dict[str, AttributeValue | tuple[AttributeValue, ...] | None]
PublishedAt = Annotated[
    str | None,
    Field(
        description="ISO-8601 with a zone; when it was first sold",
        json_schema_extra={"format": "date-time"},
    ),
]


class ItemBody(Body):
    """What the shop says about an item; its text is what a new item is found by.

    Without `published_at` the stored one is kept; a new item gets the server's time.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "Brass reading lamp",
                    "description": "Warm light, dimmable, for the bedside.",
                    "tags": ["lighting", "bedroom"],
                    "attributes": {"price": 59.0, "brand": "Lumo"},
                }
            ]
        }
    )

    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    attributes: Attributes = Field(default={})
    available: bool = True
    published_at: PublishedAt = None


class ItemRow(ItemBody):
    """A line of a bulk upload."""

    item_id: str


class ItemPatch(Body):
    """A JSON merge patch (RFC 7396): what is named changes, null removes, the rest stays."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"available": False, "attributes": {"price": 49.0, "sale_until": None}}]
        }
    )

    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    attributes: Attributes | None = None
    available: bool | None = None
    published_at: PublishedAt = None


class UserBody(Body):
    """What the shop says about a user."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"attributes": {"country": "NL", "likes": ["lamps"]}}]}
    )

    attributes: Attributes = Field(default={})


class UserRow(UserBody):
    """A line of a bulk upload."""

    user_id: str


class UserPatch(Body):
    """A JSON merge patch (RFC 7396): an attribute that is null is removed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"attributes": {"country": "BE", "likes": None}}]}
    )

    attributes: Attributes | None = None


class SessionBody(Body):
    """A login: from now on what was done in the session counts as the user's."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"session_id": "s-93", "user_id": "u-17"}]}
    )

    session_id: Id
    user_id: Id
