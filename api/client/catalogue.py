"""Items through the client."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypedDict, Unpack

from api.answers_told import BulkAnswer, Item, ItemDeleted, ItemPage, ItemStored, StoredItem
from api.client.connection import Call, Connection, given, in_path

Value = str | bool | int | float
Attributes = Mapping[str, Value | Sequence[Value] | None]


class ItemFields(TypedDict, total=False):
    """What the shop says about an item; `published_at` is ISO-8601 with a zone."""

    title: str
    description: str
    tags: Sequence[str]
    attributes: Attributes
    available: bool
    published_at: str


class ItemChanges(TypedDict, total=False):
    """What is named changes, None removes it; of `attributes` too."""

    title: str | None
    description: str | None
    tags: Sequence[str] | None
    attributes: Attributes | None
    available: bool | None
    published_at: str | None


class Items:
    """The catalogue; changes are effective in the next answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, item_id: str, **fields: Unpack[ItemFields]) -> ItemStored:
        return self._connection.ask(ItemStored, Call("PUT", _path(item_id), json=fields))

    def patch(self, item_id: str, **changes: Unpack[ItemChanges]) -> ItemStored:
        return self._connection.ask(ItemStored, Call("PATCH", _path(item_id), json=changes))

    def get(self, item_id: str) -> Item:
        return self._connection.ask(Item, Call("GET", _path(item_id)))

    def delete(self, item_id: str) -> ItemDeleted:
        call = Call("DELETE", _path(item_id), again=False)  # the second one would be a 404
        return self._connection.ask(ItemDeleted, call)

    def page(
        self, *, after: str | None = None, limit: int = 100, condition: str | None = None
    ) -> ItemPage:
        """In order of ids; `condition` is a filter expression."""
        params = {
            name: str(value)
            for name, value in given(after=after, limit=limit, filter=condition).items()
        }
        return self._connection.ask(ItemPage, Call("GET", "/v1/items", params=params))

    def all(self, *, condition: str | None = None, limit: int = 1_000) -> Iterator[StoredItem]:
        """Page after page, `limit` items a request."""
        page = self.page(limit=limit, condition=condition)
        yield from page.items
        while page.next is not None:
            page = self.page(after=page.next, limit=limit, condition=condition)
            yield from page.items

    def upload(self, rows: Iterable[Mapping[str, object]]) -> BulkAnswer:
        """Rows of `item_id` and ItemFields, streamed; broken off, it may be sent again."""
        call = Call("POST", "/v1/bulk/items", content=as_lines(rows))
        return self._connection.ask(BulkAnswer, call)

    def download(self) -> Iterator[StoredItem]:
        with self._connection.lines("/v1/bulk/items") as lines:
            for line in lines:
                yield StoredItem.model_validate_json(line, extra="ignore")


def as_lines(rows: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    return (json.dumps(row).encode() + b"\n" for row in rows)


def _path(item_id: str) -> str:
    return f"/v1/items/{in_path(item_id)}"
