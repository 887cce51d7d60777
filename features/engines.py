"""Opens a database by its URL, and knows the few places where the dialects differ."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, or_, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from features.errors import ConfigError

# What a database that cannot be used raises, also where the driver is called directly.
STORE_ERRORS = (SQLAlchemyError, sqlite3.Error, psycopg.Error)

# a write waits this long for another process's transaction; the night's are about a second
BUSY_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 5  # a server that is up answers in milliseconds
CACHE_KIB = 65_536  # holds the inner pages of the indexes of some ten million events
WRITE_OPTION = "storefront_write"
WRITERS_LOCK = 0x73_68_6F_70  # any number that nobody else in this database locks
EXPECTED_URL = "write sqlite:///path/to.db or postgresql://user:password@host:5432/database"


def open_engine(url: str) -> Engine:
    """On a SQLite file, made with its folder if missing, or on a PostgreSQL database.

    A commit is on disk when it returns. ConfigError for any other URL; no message has a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the cause would repeat the URL with its password
        raise ConfigError(
            f"found a database URL that cannot be read; {EXPECTED_URL} (a password with one of "
            "@ : / in it is percent-encoded)"
        ) from None
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres") and parsed.database:
        return _open_postgresql(parsed)
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return _open_sqlite(parsed)
    raise ConfigError(
        f"database URL {safe(parsed)!r} is neither a SQLite file nor a PostgreSQL database; "
        f"{EXPECTED_URL}"
    )


def safe(url: URL) -> str:
    """Where it leads, without the password, which may be in the query too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _open_sqlite(url: URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    # named parameters read the same in SQLite and PostgreSQL drivers; values belong to shoppers
    engine = create_engine(url, paramstyle="named", hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401  a DBAPI connection
    connection.isolation_level = None  # the driver must not begin transactions on its own
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",  # first: switching to WAL may have to wait
        "journal_mode = WAL",
        "synchronous = FULL",
        # 64 MB: a page that many batches change is copied back once (measured: twice the rate)
        "wal_autocheckpoint = 16000",
        "secure_delete = ON",  # an erased user leaves no bytes in free pages
        f"cache_size = -{CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # a transaction that reads first and writes later would fail at once on a concurrent write
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")


def _open_postgresql(url: URL) -> Engine:
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        pool_pre_ping=True,  # a server that restarted costs one reconnection, not one error each
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "storefront"},
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:  # noqa: ANN401
    connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    # numbers are given before a commit: only one writer at a time makes their order that of commits
    if _writes(connection):
        connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})"))


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(WRITE_OPTION, False))


def insert_new(engine: Engine, table: Table, *key: str) -> Any:  # noqa: ANN401  dialect inserts share no type
    """INSERT that leaves a row alone whose `key` is there already."""
    return dialect_insert(engine, table).on_conflict_do_nothing(index_elements=list(key))


def upsert(
    engine: Engine,
    table: Table,
    *,
    key: Sequence[str],
    content: Sequence[str],
    besides: Sequence[str],
) -> Any:  # noqa: ANN401
    """INSERT that updates an existing row only where one of the columns `content` differs."""
    statement = dialect_insert(engine, table)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(key),
        set_={name: new[name] for name in (*content, *besides)},
        where=or_(*(table.c[name].is_distinct_from(new[name]) for name in content)),
    )


def dialect_insert(engine: Engine, table: Table) -> Any:  # noqa: ANN401
    """An INSERT that knows ON CONFLICT."""
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)
