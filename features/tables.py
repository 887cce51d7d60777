"""The operational tables; `features/engines.py` has the few places where databases differ."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql

metadata = MetaData()
_BigKey = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys itself
# ids sort by their bytes, as everywhere else in this system, not by a language's rules
_Id = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

events = Table(
    "events",
    metadata,
    Column("seq", _BigKey, primary_key=True),
    Column("event_id", _Id, nullable=False, unique=True),
    Column("user_id", _Id),
    Column("session_id", _Id),
    Column("item_id", _Id, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("event_time_us", BigInteger, nullable=False),
    Column("request_id", _Id),
    Column("value", Double),
    Column("received_at_us", BigInteger, nullable=False),
    Index("events_by_user", "user_id", "event_time_us"),
    Index("events_by_session", "session_id", "event_time_us"),
    sqlite_autoincrement=True,  # a seq is never given twice, also not after an erasure
)

items = Table(
    "items",
    metadata,
    Column("item_id", _Id, primary_key=True),
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
    Column("user_id", _Id, primary_key=True),
    Column("attributes", Text, nullable=False),  # JSON object
    Column("updated_at_us", BigInteger, nullable=False),
)

slates = Table(
    "slates",
    metadata,
    Column("seq", _BigKey, primary_key=True),
    Column("request_id", _Id, nullable=False, unique=True),
    Column("user_id", _Id, index=True),
    Column("session_id", _Id),
    Column("placement", Text, nullable=False),
    Column("shown_at_us", BigInteger, nullable=False),
    Column("release_id", _Id, nullable=False),
    Column("first_position", Integer, nullable=False),
    Column("item_ids", Text, nullable=False),  # JSON array
    Column("propensities", LargeBinary, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("source_scores", LargeBinary, nullable=False),
    Column("features", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
# what a session was shown before anybody logged in is looked for when its user is erased
Index(
    "slates_by_session",
    slates.c.session_id,
    sqlite_where=slates.c.user_id.is_(None),
    postgresql_where=slates.c.user_id.is_(None),
)

# Which experiments a slate is part of; whose it was stands here too, so that an erasure finds it.
assignments = Table(
    "assignments",
    metadata,
    Column("seq", _BigKey, primary_key=True),
    Column("request_id", _Id, nullable=False),
    Column("experiment", _Id, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("variant", _Id, nullable=False),
    Column("how", Text, nullable=False),
    Column("unit_id", _Id, nullable=False),
    Column("user_id", _Id, index=True),
    Column("session_id", _Id),
    Column("placement", Text, nullable=False),
    Column("shown_at_us", BigInteger, nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("teams", Text),
    Index("assignments_once", "request_id", "experiment", unique=True),
    sqlite_autoincrement=True,
)
Index(
    "assignments_by_session",
    assignments.c.session_id,
    sqlite_where=assignments.c.user_id.is_(None),
    postgresql_where=assignments.c.user_id.is_(None),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

session_links = Table(
    "session_links",
    metadata,
    Column("session_id", _Id, primary_key=True),
    Column("user_id", _Id, nullable=False, index=True),
    Column("linked_at_us", BigInteger, nullable=False),
)

# The anonymous events of linked sessions under their user, so that a shopper's newest events are
# two short index ranges however many sessions they had.
claims = Table(
    "claims",
    metadata,
    Column("event_id", _Id, primary_key=True),
    Column("user_id", _Id, nullable=False),
    Column("event_time_us", BigInteger, nullable=False),
    Column("item_id", _Id, nullable=False),
    Column("event_type", Text, nullable=False),
    Index("claims_by_user", "user_id", "event_time_us"),
)

pages = Table(
    "pages",
    metadata,
    Column("request_id", _Id, primary_key=True),
    Column("root_id", _Id, nullable=False),
    Column("user_id", _Id, index=True),
    Column("session_id", _Id, index=True),
    Column("asked_at_us", BigInteger, nullable=False, index=True),
    Column("asked", Text, nullable=False),  # JSON, the question of the first page
    Index("pages_by_root", "root_id", "asked_at_us"),
)

documents = Table(
    "documents",
    metadata,
    Column("kind", _Id, primary_key=True),
    Column("name", _Id, primary_key=True),
    Column("body", Text),  # JSON; null once deleted
    Column("change", BigInteger, nullable=False, index=True),
    Column("updated_at_us", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", _Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("origins", Text, nullable=False),  # JSON array
    Column("rate_per_s", Double, nullable=False),
    Column("burst", Integer, nullable=False),
    Column("max_body_bytes", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
)

erasures = Table(
    "erasures",
    metadata,
    Column("receipt_id", _Id, primary_key=True),
    Column("user_id", _Id),  # null once nothing but old releases can hold the user
    Column("session_ids", Text),  # JSON array; null like the user_id
    Column("user_hash", Text, nullable=False, index=True),
    Column("salt", Text, nullable=False),
    Column("requested_at_us", BigInteger, nullable=False, index=True),
    Column("counts", Text, nullable=False),  # JSON object: rows removed, by table
    Column("lake_rows", BigInteger),
    Column("completed_at_us", BigInteger),
)
