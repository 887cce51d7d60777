"""One open database as the modules of the store share it: who writes, and rows as tables."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import polars as pl
from sqlalchemy import ColumnElement, Connection, Index, Select, Table, func, select
from sqlalchemy.exc import SQLAlchemyError

from features.engines import WRITE_OPTION, open_engine, safe
from features.errors import ConfigError
from features.tables import metadata

ROWS_AT_ONCE = 50_000  # rows held as Python objects at a time: about 20 MB
NEVER_REACHED = 2**62
IDS_AT_ONCE = 500  # parameters of one statement; some builds of SQLite take 999


class Database:
    """An engine and the right to write: one writer a database, so `seq` is in order of commits."""

    def __init__(self, url: str) -> None:
        """Raise ConfigError for a URL that leads to no database."""
        self.engine = open_engine(url)
        self._writer = self.engine.execution_options(**{WRITE_OPTION: True})
        self._write_lock = threading.Lock()  # cheaper to wait for than the database's
        try:
            with self.writing() as connection:
                _make_tables(connection)
        except SQLAlchemyError as error:
            self.engine.dispose()
            cause = str(getattr(error, "orig", None) or type(error).__name__).strip()
            raise ConfigError(
                f"the database {safe(self.engine.url)} cannot be used ({cause}); expected one "
                "that is up and lets this user make tables; start it, or correct the URL"
            ) from None

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, on disk when the block ends, undone where it raises."""
        with self._write_lock, self._writer.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def frame(self, statement: Select[Any], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """The rows in their order; the statement's columns are those of the schema."""
        with self.reading() as connection:
            # only large results are worth a cursor on the server
            streaming = connection.execution_options(stream_results=_is_large(statement))
            parts = [
                pl.DataFrame(
                    [
                        pl.Series(name, values, dtype)
                        for (name, dtype), values in zip(
                            schema.items(), zip(*rows, strict=True), strict=True
                        )
                    ]
                )
                for rows in streaming.execute(statement).partitions(ROWS_AT_ONCE)
            ]
        return pl.concat([pl.DataFrame(schema=schema), *parts])


def columns_of(table: Table, names: Iterable[str], *where: ColumnElement[bool]) -> Select[Any]:
    return select(*(table.c[name] for name in names)).where(*where)


def last_seq(connection: Connection, table: Table) -> int:
    """0 where the table is empty."""
    return connection.execute(select(func.max(table.c.seq))).scalar() or 0


def after(column: ColumnElement[int], seq: Any) -> ColumnElement[bool]:  # noqa: ANN401  or a parameter
    """`column` > `seq`, with an end that is never reached.

    PostgreSQL guesses a range without an end to be a third of the table, and reads all of it.
    """
    return column.between(seq + 1, NEVER_REACHED)


def _make_tables(connection: Connection) -> None:
    """What is missing: a store of an earlier version gains new tables and new indexes."""
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        for index in table.indexes:
            assert isinstance(index, Index)
            index.create(connection, checkfirst=True)


def _is_large(statement: Select[Any]) -> bool:
    limit = statement._limit
    return limit is None or limit > ROWS_AT_ONCE
