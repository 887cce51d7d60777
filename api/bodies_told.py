"""What a storefront tells: events, items and users, row by row where they come in batches."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import ErrorDetails

from api.bodies import AttributeValue, Body
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


class ItemBody(Body):
    """What the shop says about an item; its text is what a new item is found by."""

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
    attributes: dict[str, AttributeValue | tuple[AttributeValue, ...] | None] = {}
    available: bool = True
    published_at: str | None = Field(
        default=None,
        description="ISO-8601 with a zone; when it was first sold; without it, what was stored "
        "before, and for a new item the server's time",
        json_schema_extra={"format": "date-time"},
    )
