"""Shoppers by name: their attributes, the sessions they were known in, export and erasure."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from sqlalchemy import Connection, Select, Table, select, update

from features import erasures as forgetting
from features.checks import expect_schema
from features.database import Database, columns_of
from features.engines import upsert
from features.erasures import ErasedUsers, Erasure, receipt, rows_of_shopper
from features.links import Links, links_that_matter
from features.tables import assignments, erasures, events, pages, session_links, slates, users

USER_SCHEMA: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "attributes": pl.String(),  # a JSON object with sorted keys
}
_NOT_EXPORTED = {"seq", "propensities", "scores", "source_scores", "features"}


class People:
    """All tables that a person can be looked up in."""

    def __init__(self, database: Database, links: Links) -> None:
        self._database = database
        self._links = links
        self._upsert = upsert(
            database.engine,
            users,
            key=["user_id"],
            content=["attributes"],
            besides=["updated_at_us"],
        )

    def upsert_users(self, new_users: pl.DataFrame, *, updated_at_us: int) -> int:
        """USER_SCHEMA rows; how many are new or different, of equal ids the last row counts."""
        expect_schema(new_users, USER_SCHEMA)
        rows = new_users.unique("user_id", keep="last", maintain_order=True).to_dicts()
        if not rows:
            return 0
        with self._database.writing() as connection:
            return self._write(connection, rows, updated_at_us)

    def edit_user(
        self,
        user_id: str,
        edit: Callable[[dict[str, object]], pl.DataFrame],
        *,
        updated_at_us: int,
    ) -> bool | None:
        """As `Store.edit_item`: one transaction; None where there is no such user."""
        with self._database.writing() as connection:
            stored = self.user(user_id)
            if stored is None:
                return None
            return self._write(connection, edit(stored).to_dicts(), updated_at_us) > 0

    def _write(
        self, connection: Connection, rows: Sequence[dict[str, Any]], updated_at_us: int
    ) -> int:
        counting = connection.execution_options(preserve_rowcount=True)
        stamped = [row | {"updated_at_us": updated_at_us} for row in rows]
        return counting.execute(self._upsert, stamped).rowcount

    def user(self, user_id: str) -> dict[str, object] | None:
        with self._database.reading() as connection:
            chosen = columns_of(users, USER_SCHEMA, users.c.user_id == user_id)
            found = connection.execute(chosen).mappings().first()
        return None if found is None else dict(found)

    def after(self, user_id: str | None, limit: int) -> pl.DataFrame:
        """USER_SCHEMA rows in order of user_id, those behind the one given; from the first."""
        chosen = columns_of(users, USER_SCHEMA).order_by(users.c.user_id).limit(limit)
        if user_id is not None:
            chosen = chosen.where(users.c.user_id > user_id)
        return self._database.frame(chosen, USER_SCHEMA)

    def link(self, session_id: str, user_id: str, *, linked_at_us: int) -> bool:
        """Whether the session is the user's from now on; False where it has its user already."""
        with self._database.writing() as connection:
            return self._links.make(connection, session_id, user_id, linked_at_us)

    def owner(self, session_id: str) -> str | None:
        """The user whose anonymous session it was; None where nobody is known."""
        chosen = select(session_links.c.user_id).where(session_links.c.session_id == session_id)
        with self._database.reading() as connection:
            return connection.execute(chosen).scalar()

    def links(self) -> pl.DataFrame:
        """`session_id`, `user_id` of the sessions whose anonymous rows have a user."""
        return links_that_matter(self._database)

    def export(self, user_id: str) -> dict[str, object]:
        """Everything stored under the user, as JSON values, oldest first.

        Of slates not the numbers that the models worked with.
        """
        of_user = select(session_links.c.session_id).where(session_links.c.user_id == user_id)
        with self._database.reading() as connection:
            sessions = connection.execute(of_user.order_by(session_links.c.session_id)).scalars()
            session_ids = list(sessions)
        found = self.user(user_id)
        return {
            "user_id": user_id,
            "attributes": None if found is None else json.loads(str(found["attributes"])),
            "session_ids": session_ids,
            "events": self._rows(events, user_id, "event_time_us"),
            "slates": self._rows(slates, user_id, "shown_at_us"),
            "assignments": self._rows(assignments, user_id, "shown_at_us"),
            "pages": self._rows(pages, user_id, "asked_at_us"),
        }

    def _rows(self, table: Table, user_id: str, time: str) -> list[dict[str, object]]:
        columns = [column for column in table.c if column.name not in _NOT_EXPORTED]
        chosen = select(*columns).where(rows_of_shopper(table, user_id)).order_by(table.c[time])
        with self._database.reading() as connection:
            rows = [dict(row) for row in connection.execute(chosen).mappings()]
        for row in rows:
            if "item_ids" in row:
                row["item_ids"] = json.loads(row["item_ids"])
        return rows

    def erase(self, user_id: str, *, requested_at_us: int) -> Erasure:
        """Everything in the store at once; the lake follows with the next night's ingest.

        The receipt is pending until then. Rows of others in the user's sessions stay.
        """
        with self._database.writing() as connection:
            return forgetting.erase(connection, user_id, requested_at_us)

    def erasure(self, receipt_id: str) -> Erasure | None:
        found = self._erasures(select(erasures).where(erasures.c.receipt_id == receipt_id))
        return found[0] if found else None

    def pending_erasures(self) -> list[Erasure]:
        """Those that the lake does not know of yet, in order of the requests."""
        pending = select(erasures).where(erasures.c.completed_at_us.is_(None))
        return self._erasures(pending.order_by(erasures.c.requested_at_us, erasures.c.receipt_id))

    def _erasures(self, chosen: Select[Any]) -> list[Erasure]:
        with self._database.reading() as connection:
            return [receipt(dict(row)) for row in connection.execute(chosen).mappings()]

    def note_lake_rows(self, receipt_id: str, lake_rows: int) -> None:
        """How many rows are about to go: a killed removal could not count them again."""
        noted = update(erasures).where(
            erasures.c.receipt_id == receipt_id, erasures.c.lake_rows.is_(None)
        )
        with self._database.writing() as connection:
            connection.execute(noted.values(lake_rows=lake_rows))

    def finish_erasure(
        self, receipt_id: str, lake_rows: int, at_us: int, *, reject_rows: int = 0
    ) -> None:
        """From now on the receipt knows the user only by a salted hash."""
        with self._database.writing() as connection:
            mine = erasures.c.receipt_id == receipt_id
            counts = connection.execute(select(erasures.c.counts).where(mine)).scalar()
            if counts is None:
                return
            connection.execute(
                update(erasures)
                .where(mine, erasures.c.completed_at_us.is_(None))
                .values(
                    user_id=None,
                    session_ids=None,
                    counts=json.dumps(json.loads(counts) | {"rejects": reject_rows}),
                    lake_rows=lake_rows,
                    completed_at_us=at_us,
                )
            )

    def erased_since(self, us: int) -> ErasedUsers:
        """Who asked at `us` or later: a release made before still holds what it learned of them."""
        chosen = select(erasures.c.salt, erasures.c.user_hash).where(
            erasures.c.requested_at_us >= us
        )
        with self._database.reading() as connection:
            return forgetting.erased_users(connection.execute(chosen))
