"""What the shop configures while it is open, placements and rules, as JSON texts by name."""

from sqlalchemy import Connection, func, select, update

from features.database import Database
from features.engines import upsert
from features.tables import documents


class Documents:
    """Every change, of whatever kind, has the next number; a deletion has one too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._upsert = upsert(
            database.engine,
            documents,
            key=["kind", "name"],
            content=["body"],
            besides=["change", "updated_at_us"],
        )

    def put(self, kind: str, name: str, body: str, *, updated_at_us: int) -> bool:
        """Whether it is new or different."""
        row = {"kind": kind, "name": name, "body": body, "updated_at_us": updated_at_us}
        with self._database.writing() as connection:
            change = _newest(connection) + 1
            connection.execute(self._upsert, row | {"change": change})
            return _newest(connection) == change

    def put_if_unchanged(
        self, kind: str, name: str, body: str, *, since: int, updated_at_us: int
    ) -> bool:
        """Whether no document changed after the number `since`; only then this one is written."""
        row = {"kind": kind, "name": name, "body": body, "updated_at_us": updated_at_us}
        with self._database.writing() as connection:
            newest = _newest(connection)
            if newest == since:
                connection.execute(self._upsert, row | {"change": newest + 1})
            return newest == since

    def get(self, kind: str, name: str) -> str | None:
        chosen = select(documents.c.body).where(documents.c.kind == kind, documents.c.name == name)
        with self._database.reading() as connection:
            return connection.execute(chosen).scalar()

    def delete(self, kind: str, name: str, *, updated_at_us: int) -> bool:
        """Whether it was there."""
        with self._database.writing() as connection:
            return _emptied(connection, kind, name, updated_at_us)

    def delete_if_unchanged(self, kind: str, name: str, *, since: int, updated_at_us: int) -> bool:
        """As `put_if_unchanged`."""
        with self._database.writing() as connection:
            if _newest(connection) != since:
                return False
            _emptied(connection, kind, name, updated_at_us)
            return True

    def all(self, kind: str) -> dict[str, str]:
        """Body by name, in order of the names."""
        chosen = (
            select(documents.c.name, documents.c.body)
            .where(documents.c.kind == kind, documents.c.body.is_not(None))
            .order_by(documents.c.name)
        )
        with self._database.reading() as connection:
            return dict(connection.execute(chosen).all())

    def last_change(self) -> int:
        """Moves with every change of any kind; one look into an index."""
        with self._database.reading() as connection:
            return _newest(connection)


def _emptied(connection: Connection, kind: str, name: str, updated_at_us: int) -> bool:
    """A deletion is a change like others: the row stays, without a body."""
    gone = (
        update(documents)
        .where(documents.c.kind == kind, documents.c.name == name, documents.c.body.is_not(None))
        .values(body=None, change=_newest(connection) + 1, updated_at_us=updated_at_us)
    )
    return connection.execute(gone).rowcount > 0


def _newest(connection: Connection) -> int:
    newest: int | None = connection.execute(select(func.max(documents.c.change))).scalar()
    return newest or 0
