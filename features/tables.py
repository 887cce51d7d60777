"""The operational tables, and the few places where database dialects differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    or_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from features.errors import ConfigError

# a write waits this long for another process's transaction; the night's are about a second
BUSY_TIMEOUT_MS = 30_000
CACHE_KIB = 65_536  # holds the inner pages of the indexes of some ten million events
WRITE_OPTION = "storefront_write"
EXPECTED_URL = "write sqlite:///path/to.db"

metadata = MetaData()
_BigKey = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys itself

events = Table(
    "events",
    metadata,
    Column("seq", _BigKey, primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("user_id", Text),
    Column("session_id", Text),
    Column("item_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("event_time_us", BigInteger, nullable=False),
    Column("request_id", Text),
    Column("value", Double),
    Column("received_at_us", BigInteger, nullable=False),
    Index("events_by_user", "user_id", "event_time_us"),
    Index("events_by_session", "session_id", "event_time_us"),
    sqlite_autoincrement=True,  # a seq is never given twice, also not after an erasure
)

items = Table(
    "items",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON array
    Column("attributes", Text, nullable=False),  # JSON object
    Column("available", Boolean, nullable=False),
    Column("published_at_us", BigInteger),
    Column("deleted", Boolean, nullable=False),
    Column("change", BigInteger, nullable=False, index=True),
    Column("updated_at_us", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("attributes", Text, nullable=False),  # JSON object
    Column("updated_at_us", BigInteger, nullable=False),
)

slates = Table(
    "slates",
    metadata,
    Column("seq", _BigKey, primary_key=True),
    Column("request_id", Text, nullable=False, unique=True),
    Column("user_id", Text, index=True),
    Column("session_id", Text),
    Column("placement", Text, nullable=False),
    Column("shown_at_us", BigInteger, nullable=False),
    Column("release_id", Text, nullable=False),
    Column("experiment", Text),
    Column("variant", Text),
    Column("first_position", Integer, nullable=False),
    Column("item_ids", Text, nullable=False),  # JSON array
    Column("propensities", LargeBinary, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("source_scores", LargeBinary, nullable=False),
    Column("features", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def open_engine(url: str) -> Engine:
    """An engine on a SQLite file; its folder is made, and a commit is on disk when it returns."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            f"store URL {url!r} cannot be read; write sqlite:///path/to.db"
        ) from error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"store URL {parsed.render_as_string()!r} is no SQLite file; {EXPECTED_URL}"
        )
    Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    # named parameters read the same in SQLite and PostgreSQL drivers
    engine = create_engine(parsed, paramstyle="named")
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
    writes = connection.get_execution_options().get(WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert_new(engine: Engine, table: Table, *, key: str) -> Any:  # noqa: ANN401  dialect inserts share no type
    """INSERT that leaves a row alone whose `key` is there already."""
    return _insert(engine, table).on_conflict_do_nothing(index_elements=[key])


def upsert(
    engine: Engine, table: Table, *, key: str, content: Sequence[str], besides: Sequence[str]
) -> Any:  # noqa: ANN401
    """INSERT that updates an existing row only where one of the columns `content` differs."""
    statement = _insert(engine, table)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[key],
        set_={name: new[name] for name in (*content, *besides)},
        where=or_(*(table.c[name].is_distinct_from(new[name]) for name in content)),
    )


def _insert(engine: Engine, table: Table) -> Any:  # noqa: ANN401
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)
