"""What a storefront gets back for what it told: events, items and users."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Shape

Attribution = Literal["ok", "unknown_request", "item_not_in_slate", "other_shopper"]


class Verdict(Shape):
    """What became of one event."""

    index: int = Field(description="position in the batch, from 0")
    event_id: str | None
    verdict: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None
    attribution: Attribution | None = Field(
        default=None,
        description="whether the slate that request_id names showed it to this shopper",
    )


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


class StoredItem(Shape):
    """An item as it is stored."""

    item_id: str
    title: str
    description: str
    tags: list[str]
    attributes: dict[str, Any]
    available: bool
    published_at: str | None


class Item(StoredItem):
    """One item."""

    request_id: str


class ItemPage(Shape):
    """Items in the order of their ids."""

    request_id: str
    items: list[StoredItem]
    next: str | None = Field(description="`after` of the next page; null: there is none")


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


class RejectedLine(Shape):
    """A line of an upload that was not stored."""

    line: int = Field(description="from 1")
    reason: str


class BulkAnswer(Shape):
    """What became of an upload; every line not named as rejected is stored."""

    request_id: str
    lines: int = Field(description="that were not empty")
    changed: int = Field(description="rows that are new or different")
    unchanged: int = Field(description="the store already held exactly this, or a later line did")
    rejected: int
    rejected_lines: list[RejectedLine] = Field(description="the first 100")
    more_rejected: int = Field(description="rejected lines that are not in rejected_lines")
    note: str


class StoredUser(Shape):
    """A user as stored."""

    user_id: str
    attributes: dict[str, Any]


class User(StoredUser):
    """One user."""

    request_id: str


class UserPage(Shape):
    """Users in the order of their ids."""

    request_id: str
    users: list[StoredUser]
    next: str | None = Field(description="`after` of the next page; null: there is none")


class UserStored(Shape):
    """A user who was written."""

    request_id: str
    user_id: str
    changed: bool = Field(description="false: the store already held exactly this")


class SessionLinked(Shape):
    """Whose session it is."""

    request_id: str
    session_id: str
    user_id: str
    linked: bool = Field(description="false: it was linked before, and the first user keeps it")


class ErasureAnswer(Shape):
    """A receipt: what of a user was erased, and whether the night's files follow yet."""

    request_id: str
    receipt_id: str
    status: Literal["pending", "complete"] = Field(
        description="pending: gone from the store and from answers; closed history and later "
        "releases follow with the next night, or with python -m jobs erase"
    )
    erased: dict[str, int] = Field(description="table → rows that were the user's")
    lake_rows: int | None = Field(description="rows of closed history; null while pending")
    requested_at: str
    completed_at: str | None


class UserExport(Shape):
    """Everything stored of a user, oldest first; times in microseconds since 1970, UTC."""

    request_id: str
    user_id: str
    attributes: dict[str, Any] | None = Field(description="null: none are stored")
    session_ids: list[str] = Field(description="sessions that became the user's at a login")
    events: list[dict[str, Any]]
    slates: list[dict[str, Any]]
    assignments: list[dict[str, Any]]
    pages: list[dict[str, Any]]
