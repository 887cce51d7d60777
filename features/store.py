"""The one module that knows how events, slates, items and users are stored while the shop is open.

Statements are SQLAlchemy Core and mean the same in SQLite and PostgreSQL. Writers are serialised
by the database, so the order of `seq` is the order of commits and a reader that remembers the
last seq it saw misses nothing.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    bindparam,
    delete,
    func,
    select,
    update,
)

from features import slates as slate_rows
from features.arrays import BoolArray
from features.errors import DataError
from features.events import EVENT_SCHEMA, RecentEvents
from features.items import ITEM_SCHEMA
from features.recent import RecentReader
from features.slates import SlateRecord
from features.tables import (
    WRITE_OPTION,
    cursors,
    events,
    insert_new,
    items,
    metadata,
    open_engine,
    slates,
    upsert,
    users,
)

STORED_EVENT_SCHEMA = {**EVENT_SCHEMA, "seq": pl.Int64(), "received_at_us": pl.Int64()}
USER_SCHEMA: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "attributes": pl.String(),  # a JSON object with sorted keys
}
ROWS_AT_ONCE = 50_000  # rows held as Python objects at a time: about 20 MB


class Store:
    """An open database; one object serves all threads of a process, several processes one file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE_OPTION: True})
        self._write_lock = threading.Lock()  # cheaper to wait for than the database's
        with self._writing() as connection:
            metadata.create_all(connection)
        # as text for the driver: for a hundred events Core's execution costs more than theirs
        given = [*EVENT_SCHEMA, "received_at_us"]
        statement = insert_new(engine, events, key="event_id")
        self._insert_event = str(statement.compile(engine, column_keys=given))
        self._insert_slate = insert_new(engine, slates, key="request_id")
        content = [name for name in ITEM_SCHEMA if name != "item_id"]
        self._upsert_item = upsert(
            engine,
            items,
            key="item_id",
            content=[*content, "deleted"],
            besides=["change", "updated_at_us"],
        )
        self._upsert_user = upsert(
            engine, users, key="user_id", content=["attributes"], besides=["updated_at_us"]
        )
        self._upsert_cursor = upsert(engine, cursors, key="name", content=["value"], besides=[])
        self._recent = RecentReader(engine)

    @classmethod
    def open(cls, url: str) -> Self:
        """Raise ConfigError unless the URL names a SQLite file, which is made if missing."""
        return cls(open_engine(url))

    def close(self) -> None:
        self._recent.close()
        self._engine.dispose()

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
        imports come in batches.
        """
        _expect_schema(new_events, EVENT_SCHEMA)
        if new_events.is_empty():
            return np.zeros(0, np.bool_)
        stored = new_events.with_columns(received_at_us=pl.lit(received_at_us, pl.Int64))
        with self._writing() as connection:
            last_seq = _last(connection, events)
            for part in stored.iter_slices(ROWS_AT_ONCE):
                connection.exec_driver_sql(self._insert_event, part.to_dicts())
            statement = select(events.c.event_id).where(events.c.seq > last_seq)
            inserted = connection.execute(statement).scalars().all()
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
        statement = _columns(events, STORED_EVENT_SCHEMA).order_by(events.c.seq)
        if until_seq is not None:
            statement = statement.where(events.c.seq <= until_seq)
        while True:
            later = statement.where(events.c.seq > seq).limit(batch_size)
            batch = self._frame(later, STORED_EVENT_SCHEMA)
            if batch.is_empty():
                return
            seq = batch["seq"][-1]
            yield batch

    def last_event_seq(self) -> int:
        """0 if there is none."""
        with self._engine.connect() as connection:
            return _last(connection, events)

    def upsert_items(self, new_items: pl.DataFrame, *, updated_at_us: int) -> int:
        """How many items are new, different, or alive again; of equal ids the last row counts."""
        _expect_schema(new_items, ITEM_SCHEMA)
        rows = new_items.unique("item_id", keep="last", maintain_order=True).to_dicts()
        for row in rows:
            row["tags"] = json.dumps(row["tags"], ensure_ascii=False)
            row |= {"deleted": False, "updated_at_us": updated_at_us}
        return self._change_items(self._upsert_item, rows)

    def delete_items(self, item_ids: Sequence[str], *, updated_at_us: int) -> int:
        """How many living items became tombstones, which `items_changed_after` shows."""
        statement = (
            update(items)
            .where(items.c.item_id == bindparam("which"), ~items.c.deleted)
            .values(
                deleted=True, change=bindparam("change"), updated_at_us=bindparam("updated_at_us")
            )
        )
        rows = [{"which": item_id, "updated_at_us": updated_at_us} for item_id in item_ids]
        return self._change_items(statement, rows)

    def _change_items(self, statement: Any, rows: list[dict[str, Any]]) -> int:  # noqa: ANN401
        """All rows of one call carry one change number, so a poll sees the call whole or not."""
        if not rows:
            return 0
        with self._writing() as connection:
            newest = connection.execute(select(func.max(items.c.change))).scalar()
            change = (newest or 0) + 1
            connection.execute(statement, [row | {"change": change} for row in rows])
            changed = select(func.count()).where(items.c.change == change)
            return connection.execute(changed).scalar_one()

    def item(self, item_id: str) -> dict[str, object] | None:
        """The living item by the names of ITEM_SCHEMA: tags a list, attributes JSON text."""
        found = self._items(select(items).where(items.c.item_id == item_id, ~items.c.deleted))
        return found.select(*ITEM_SCHEMA).to_dicts()[0] if len(found) else None

    def items(self) -> pl.DataFrame:
        """Living items as ITEM_SCHEMA, in order of item_id."""
        living = select(items).where(~items.c.deleted).order_by(items.c.item_id)
        return self._items(living).select(*ITEM_SCHEMA)

    def items_changed_after(self, change: int) -> tuple[int, pl.DataFrame]:
        """The number to ask with next time, and ITEM_SCHEMA plus `deleted` of what changed."""
        later = select(items).where(items.c.change > change).order_by(items.c.change)
        changed = self._items(later.order_by(items.c.item_id))
        latest = changed["change"][-1] if len(changed) else change
        return latest, changed.select(*ITEM_SCHEMA, "deleted")

    def _items(self, statement: Select[Any]) -> pl.DataFrame:
        texts = {**ITEM_SCHEMA, "tags": pl.String(), "deleted": pl.Boolean(), "change": pl.Int64()}
        tags = pl.col("tags").str.json_decode(ITEM_SCHEMA["tags"])
        chosen = statement.with_only_columns(*(items.c[name] for name in texts))
        return self._frame(chosen, texts).with_columns(tags)

    def append_slates(self, new_slates: Sequence[SlateRecord]) -> int:
        """How many are new; a request_id seen before is left as it is."""
        if not new_slates:
            return 0
        with self._writing() as connection:
            last_seq = _last(connection, slates)
            connection.execute(self._insert_slate, [slate_rows.packed(s) for s in new_slates])
            added = select(func.count()).where(slates.c.seq > last_seq)
            return connection.execute(added).scalar_one()

    def slate(self, request_id: str) -> SlateRecord | None:
        with self._engine.connect() as connection:
            statement = select(slates).where(slates.c.request_id == request_id)
            row = connection.execute(statement).mappings().first()
        return None if row is None else slate_rows.unpacked(dict(row))

    def slates_after(
        self, seq: int, *, until_seq: int | None = None, batch_size: int = 20_000
    ) -> Iterator[list[tuple[int, SlateRecord]]]:
        """Slates with their seq, in its order."""
        statement = select(slates).order_by(slates.c.seq).limit(batch_size)
        if until_seq is not None:
            statement = statement.where(slates.c.seq <= until_seq)
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(statement.where(slates.c.seq > seq)).mappings().all()
            if not rows:
                return
            seq = rows[-1]["seq"]
            yield [(row["seq"], slate_rows.unpacked(dict(row))) for row in rows]

    def last_slate_seq(self) -> int:
        """0 if there is none."""
        with self._engine.connect() as connection:
            return _last(connection, slates)

    def upsert_users(self, new_users: pl.DataFrame, *, updated_at_us: int) -> int:
        """USER_SCHEMA rows; how many are new or different, of equal ids the last row counts."""
        _expect_schema(new_users, USER_SCHEMA)
        rows = new_users.unique("user_id", keep="last", maintain_order=True).to_dicts()
        if not rows:
            return 0
        with self._writing() as connection:
            counting = connection.execution_options(preserve_rowcount=True)
            stamped = [row | {"updated_at_us": updated_at_us} for row in rows]
            return counting.execute(self._upsert_user, stamped).rowcount

    def user(self, user_id: str) -> dict[str, object] | None:
        found = self._frame(_columns(users, USER_SCHEMA, users.c.user_id == user_id), USER_SCHEMA)
        return found.to_dicts()[0] if len(found) else None

    def delete_user(self, user_id: str) -> dict[str, int]:
        """Erase the user with all their events and slates; how many rows of each there were.

        Events of an anonymous session carry no user_id and stay.
        """
        with self._writing() as connection:
            return {
                table.name: connection.execute(
                    delete(table).where(table.c.user_id == user_id)
                ).rowcount
                for table in (events, slates, users)
            }

    def cursor(self, name: str) -> int:
        """How far the named reader has come; 0 if it never started."""
        with self._engine.connect() as connection:
            value = connection.execute(select(cursors.c.value).where(cursors.c.name == name))
            return value.scalar() or 0

    def set_cursor(self, name: str, value: int) -> None:
        with self._writing() as connection:
            connection.execute(self._upsert_cursor, {"name": name, "value": value})

    def counts(self) -> dict[str, int]:
        """Rows of each kind; of items the living ones, of users those stored by `upsert_users`."""
        statements = {
            "events": select(func.count()).select_from(events),
            "users": select(func.count()).select_from(users),
            "items": select(func.count()).select_from(items).where(~items.c.deleted),
            "slates": select(func.count()).select_from(slates),
        }
        with self._engine.connect() as connection:
            return {n: connection.execute(s).scalar_one() for n, s in statements.items()}

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._write_lock, self._writer.begin() as connection:
            yield connection

    def _frame(self, statement: Select[Any], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        with self._engine.connect() as connection:
            parts = [
                pl.DataFrame(
                    [
                        pl.Series(name, values, dtype)
                        for (name, dtype), values in zip(
                            schema.items(), zip(*rows, strict=True), strict=True
                        )
                    ]
                )
                for rows in connection.execute(statement).partitions(ROWS_AT_ONCE)
            ]
        return pl.concat([pl.DataFrame(schema=schema), *parts])


def _columns(table: Table, names: Iterable[str], *where: ColumnElement[bool]) -> Select[Any]:
    return select(*(table.c[name] for name in names)).where(*where)


def _last(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.max(table.c.seq))).scalar() or 0


def _expect_schema(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> None:
    if frame.schema != pl.Schema(schema):
        raise DataError(
            f"found columns {dict(frame.schema)}, expected {dict(schema)}; "
            "check the rows first and store what was accepted"
        )
