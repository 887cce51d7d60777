"""The one module that knows how events, slates, items and users are stored while the shop is open.

Statements are SQLAlchemy Core and mean the same in SQLite and PostgreSQL. Writers are serialised
by the database, so the order of `seq` is the order of commits and a reader that remembers the
last seq it saw misses nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl
from sqlalchemy import Table, func, select

from features import slates as slate_rows
from features.arrays import BoolArray
from features.checks import expect_schema
from features.database import IDS_AT_ONCE, ROWS_AT_ONCE, Database, after, columns_of, last_seq
from features.documents import Documents
from features.engines import insert_new, upsert
from features.events import EVENT_SCHEMA, RecentEvents
from features.item_rows import ItemRows
from features.keys import Keys
from features.links import Links
from features.pages import PageRecord, Pages
from features.people import People
from features.recent import RecentReader
from features.slates import ASSIGNMENT_SCHEMA, SlateRecord
from features.tables import assignments, cursors, events, items, slates, users

STORED_EVENT_SCHEMA = {**EVENT_SCHEMA, "seq": pl.Int64(), "received_at_us": pl.Int64()}
STORED_ASSIGNMENT_SCHEMA = {**ASSIGNMENT_SCHEMA, "seq": pl.Int64()}
LINKED = "links"  # the cursor that says that a store from before the links has them


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request answered, and whom."""

    user_id: str | None
    session_id: str | None
    placement: str
    item_ids: tuple[str, ...]


class Store:
    """An open database; one object serves all threads of a process, several processes one file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        engine = database.engine
        # as text for the driver: for a hundred events Core's execution costs more than theirs
        given = [*EVENT_SCHEMA, "received_at_us"]
        statement = insert_new(engine, events, "event_id")
        self._insert_event = str(statement.compile(engine, column_keys=given))
        self._insert_slate = insert_new(engine, slates, "request_id")
        self._insert_assignment = insert_new(engine, assignments, "request_id", "experiment")
        self._upsert_cursor = upsert(engine, cursors, key=["name"], content=["value"], besides=[])
        self._recent = RecentReader(engine)
        self._links = Links(engine)
        self._items = ItemRows(database)
        self.documents = Documents(database)
        self.keys = Keys(database)
        self.pages = Pages(database)
        self.people = People(database, self._links)
        self._link_what_came_before()

    @classmethod
    def open(cls, url: str) -> Self:
        """A SQLite file is made if missing; ConfigError for a URL that leads to no database."""
        return cls(Database(url))

    def close(self) -> None:
        self._recent.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def append_events(self, new_events: pl.DataFrame, *, received_at_us: int) -> BoolArray:
        """(n,) True where the event is new, False where its event_id was seen before.

        One transaction, on disk when this returns. Other writers wait for it meanwhile, so long
        imports come in batches. An event with user and session links the session to the user,
        if it is the first user in it.
        """
        expect_schema(new_events, EVENT_SCHEMA)
        if new_events.is_empty():
            return np.zeros(0, np.bool_)
        stored = new_events.with_columns(received_at_us=pl.lit(received_at_us, pl.Int64))
        has_user = stored["user_id"].is_not_null()
        in_session = stored["session_id"].is_not_null()
        with self._database.writing() as connection:
            seq = last_seq(connection, events)
            for part in stored.iter_slices(ROWS_AT_ONCE):
                connection.exec_driver_sql(self._insert_event, part.to_dicts())
            statement = select(events.c.event_id).where(after(events.c.seq, seq))
            inserted = connection.execute(statement).scalars().all()
            if inserted:
                self._links.learn(
                    connection,
                    seq,
                    known=bool((has_user & in_session).any()),
                    anonymous=bool((~has_user & in_session).any()),
                    at_us=received_at_us,
                )
        if len(inserted) == len(new_events):
            return np.ones(len(new_events), np.bool_)
        ids = new_events["event_id"]
        is_new = ids.is_first_distinct() & ids.is_in(pl.Series(inserted, dtype=pl.String).implode())
        return is_new.to_numpy().astype(np.bool_)

    def recent_events(
        self, *, user_id: str | None, session_id: str | None, before_us: int, limit: int
    ) -> RecentEvents:
        """The newest `limit` events of the user or the session earlier than `before_us`.

        Events of the same time are in the order of their event_id, as in the night's tables.
        """
        return self._recent.recent(user_id, session_id, before_us, limit)

    def events_after(
        self, seq: int, *, until_seq: int | None = None, batch_size: int = 500_000
    ) -> Iterator[pl.DataFrame]:
        """STORED_EVENT_SCHEMA frames with seq in (seq, until_seq], in order of seq.

        No transaction stays open between batches: events that arrive meanwhile are read too.
        """
        return self._rows_after(events, STORED_EVENT_SCHEMA, seq, until_seq, batch_size)

    def assignments_after(
        self, seq: int, *, until_seq: int | None = None, batch_size: int = 500_000
    ) -> Iterator[pl.DataFrame]:
        """STORED_ASSIGNMENT_SCHEMA frames, as `events_after`."""
        return self._rows_after(assignments, STORED_ASSIGNMENT_SCHEMA, seq, until_seq, batch_size)

    def _rows_after(
        self,
        table: Table,
        schema: Mapping[str, pl.DataType],
        seq: int,
        until_seq: int | None,
        batch_size: int,
    ) -> Iterator[pl.DataFrame]:
        statement = columns_of(table, schema).order_by(table.c.seq)
        if until_seq is not None:
            statement = statement.where(table.c.seq <= until_seq)
        while True:
            later = statement.where(table.c.seq > seq).limit(batch_size)
            batch = self._database.frame(later, schema)
            if batch.is_empty():
                return
            seq = batch["seq"][-1]
            yield batch

    def last_event_seq(self) -> int:
        """0 if there is none."""
        with self._database.reading() as connection:
            return last_seq(connection, events)

    def last_assignment_seq(self) -> int:
        """0 if there is none."""
        with self._database.reading() as connection:
            return last_seq(connection, assignments)

    def upsert_items(self, new_items: pl.DataFrame, *, updated_at_us: int) -> int:
        """How many items are new, different, or alive again; of equal ids the last row counts."""
        return self._items.upsert(new_items, updated_at_us)

    def edit_item(
        self,
        item_id: str,
        edit: Callable[[dict[str, object]], pl.DataFrame],
        *,
        updated_at_us: int,
    ) -> bool | None:
        """Replace an item by what `edit` makes of `Store.item`; None where there is no such item.

        One transaction, so no other writer's change is lost. True where anything is different.
        """
        return self._items.edit(item_id, edit, updated_at_us)

    def delete_items(self, item_ids: Sequence[str], *, updated_at_us: int) -> int:
        """How many living items became tombstones, which `items_changed_after` shows."""
        return self._items.delete(item_ids, updated_at_us)

    def item(self, item_id: str) -> dict[str, object] | None:
        """The living item by the names of ITEM_SCHEMA: tags a list, attributes JSON text."""
        return self._items.one(item_id)

    def published_at(self, item_ids: Sequence[str]) -> dict[str, int | None]:
        """`published_at_us` of the living among the items."""
        return self._items.published_at(item_ids)

    def items(self) -> pl.DataFrame:
        """Living items as ITEM_SCHEMA, in order of item_id."""
        return self._items.after(None, None)

    def items_after(self, item_id: str | None, limit: int) -> pl.DataFrame:
        """ITEM_SCHEMA of living items in order of item_id, those behind the one given."""
        return self._items.after(item_id, limit)

    def items_changed_after(self, change: int) -> tuple[int, pl.DataFrame]:
        """The number to ask with next time, and ITEM_SCHEMA plus `deleted` of what changed."""
        return self._items.changed_after(change)

    def append_slates(
        self, new_slates: Sequence[SlateRecord], pages: Sequence[PageRecord] = ()
    ) -> int:
        """How many are new; a request_id seen before is left as it is. Pages in the same commit."""
        if not new_slates:
            return 0
        with self._database.writing() as connection:
            seq = last_seq(connection, slates)
            connection.execute(self._insert_slate, [slate_rows.packed(s) for s in new_slates])
            assigned = [row for s in new_slates for row in slate_rows.packed_assignments(s)]
            if assigned:
                connection.execute(self._insert_assignment, assigned)
            added = select(func.count()).where(after(slates.c.seq, seq))
            self.pages.write(connection, pages)
            return connection.execute(added).scalar_one()

    def slate(self, request_id: str) -> SlateRecord | None:
        with self._database.reading() as connection:
            statement = select(slates).where(slates.c.request_id == request_id)
            row = connection.execute(statement).mappings().first()
            if row is None:
                return None
            of_it = select(assignments).where(assignments.c.request_id == request_id)
            assigned = connection.execute(of_it.order_by(assignments.c.seq)).mappings().all()
        return slate_rows.unpacked(dict(row), [dict(found) for found in assigned])

    def shown(self, request_ids: Sequence[str]) -> dict[str, Shown]:
        """Who was shown what, by request_id; without those of which nothing is known."""
        columns = ("request_id", "user_id", "session_id", "placement", "item_ids")
        chosen = columns_of(slates, columns)
        found = {}
        with self._database.reading() as connection:
            for start in range(0, len(request_ids), IDS_AT_ONCE):
                asked = chosen.where(
                    slates.c.request_id.in_(request_ids[start : start + IDS_AT_ONCE])
                )
                for row in connection.execute(asked):
                    ids = tuple(json.loads(row.item_ids))
                    found[row.request_id] = Shown(row.user_id, row.session_id, row.placement, ids)
        return found

    def slates_after(
        self, seq: int, *, until_seq: int | None = None, batch_size: int = 20_000
    ) -> Iterator[list[tuple[int, SlateRecord]]]:
        """Slates with their seq, in its order; their assignments are rows of their own."""
        statement = select(slates).order_by(slates.c.seq).limit(batch_size)
        if until_seq is not None:
            statement = statement.where(slates.c.seq <= until_seq)
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(statement.where(slates.c.seq > seq)).mappings().all()
            if not rows:
                return
            seq = rows[-1]["seq"]
            yield [(row["seq"], slate_rows.unpacked(dict(row))) for row in rows]

    def last_slate_seq(self) -> int:
        """0 if there is none."""
        with self._database.reading() as connection:
            return last_seq(connection, slates)

    def cursor(self, name: str) -> int:
        """How far the named reader has come; 0 if it never started."""
        with self._database.reading() as connection:
            value = connection.execute(select(cursors.c.value).where(cursors.c.name == name))
            return value.scalar() or 0

    def set_cursor(self, name: str, value: int) -> None:
        with self._database.writing() as connection:
            connection.execute(self._upsert_cursor, {"name": name, "value": value})

    def counts(self) -> dict[str, int]:
        """Rows of each kind; of items the living ones, of users those stored by `upsert_users`."""
        statements = {
            "events": select(func.count()).select_from(events),
            "users": select(func.count()).select_from(users),
            "items": select(func.count()).select_from(items).where(~items.c.deleted),
            "slates": select(func.count()).select_from(slates),
        }
        with self._database.reading() as connection:
            return {n: connection.execute(s).scalar_one() for n, s in statements.items()}

    def _link_what_came_before(self) -> None:
        if self.cursor(LINKED) == 0:
            with self._database.writing() as connection:
                self._links.learn(connection, 0, known=True, anonymous=True, at_us=0)
                connection.execute(self._upsert_cursor, {"name": LINKED, "value": 1})
