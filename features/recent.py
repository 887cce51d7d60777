"""A shopper's latest events, read on the request path in a fraction of a millisecond.

Whose an event is, is decided here, when it is read: a user's events are those under their name
and the anonymous ones of the sessions linked to them. `Lake.scan_events` decides the same by
night.
"""

import threading
import time
from typing import Any

import numpy as np
from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    CompoundSelect,
    Engine,
    Select,
    Subquery,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
)

from features.engines import STORE_ERRORS
from features.events import SEEN, RecentEvents
from features.tables import claims, events, session_links

RETRY_AFTER_S = 1.0  # a server that is down must not cost every request a new connection

_USER: BindParameter[str] = bindparam("user")
_SESSION: BindParameter[str] = bindparam("session")
_COLUMNS = ("event_time_us", "event_id", "item_id", "event_type")


class RecentReader:
    """One connection of its own: SQLAlchemy writes the SQL once, the driver alone runs it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_user = _newest_of(_of_user(), _of_users_sessions()).compile(engine)
        self._by_session = _of_session().compile(engine)
        self._by_either = _newest_of(
            _of_user(), _of_users_sessions(), _of_nobodys_session()
        ).compile(engine)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._cursor: Any = None
        self._failed_at_s = -RETRY_AFTER_S
        self._failure: Exception | None = None
        self._connect()

    def recent(
        self, user_id: str | None, session_id: str | None, before_us: int, limit: int
    ) -> RecentEvents:
        if limit < 1 or (user_id is None and session_id is None):
            return RecentEvents.none()
        if session_id is None:
            statement = self._by_user
        else:
            statement = self._by_session if user_id is None else self._by_either
        values = {"user": user_id, "session": session_id, "before": before_us, "most": limit}
        # the dialect adds parameters of its own, such as OFFSET 0
        values = {**statement.params, **values}
        with self._lock:
            rows = self._fetch(str(statement), values)
        if not rows:
            return RecentEvents.none()
        times, _, item_ids, event_types = zip(*reversed(rows), strict=True)
        return RecentEvents(item_ids, event_types, np.array(times, np.int64))

    def _fetch(self, statement: str, values: dict[str, Any]) -> list[Any]:
        """Once more on a new connection: the server may have been restarted since the last time."""
        if self._cursor is not None:
            try:
                self._cursor.execute(statement, values)
                return list(self._cursor.fetchall())
            except STORE_ERRORS:
                self._disconnect()
        if self._failure is not None and time.monotonic() < self._failed_at_s + RETRY_AFTER_S:
            raise self._failure
        try:
            self._connect()
            self._cursor.execute(statement, values)
            found = list(self._cursor.fetchall())
        except STORE_ERRORS as error:
            self._disconnect()
            self._failed_at_s, self._failure = time.monotonic(), error
            raise
        self._failure = None
        return found

    def _connect(self) -> None:
        """Out of the pool's hands, and without transactions: none stays open between requests."""
        pooled = self._engine.raw_connection()
        self._connection = pooled.dbapi_connection
        pooled.detach()
        if self._engine.dialect.name == "postgresql":
            self._connection.autocommit = True
        self._cursor = self._connection.cursor()

    def _disconnect(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        with self._lock:
            self._disconnect()


def _of_user() -> Select[Any]:
    return _newest(events.c, events.c.user_id == _USER)


def _of_users_sessions() -> Select[Any]:
    """What the user did before anybody knew them."""
    return _newest(claims.c, claims.c.user_id == _USER)


def _of_nobodys_session() -> Select[Any]:
    """Before the login that is sure to come; of a session with a user nothing is left here."""
    somebodys = exists().where(session_links.c.session_id == _SESSION)
    # decided before a row is read: NOT EXISTS beside the rows would be asked of each of them
    session = case((somebodys, null()), else_=_SESSION)
    # so said that no planner looks for it among all that is anonymous
    nameless = func.nullif(events.c.user_id, "").is_(None)
    return _newest(events.c, events.c.session_id == session, nameless)


def _of_session() -> Select[Any]:
    """To somebody without a name nothing is told of a second user of the session."""
    owner = (
        select(session_links.c.user_id)
        .where(session_links.c.session_id == _SESSION)
        .scalar_subquery()
    )
    is_owners = or_(events.c.user_id.is_(None), events.c.user_id == owner)
    return _newest(events.c, events.c.session_id == _SESSION, is_owners)


def _newest(columns: Any, *which: ColumnElement[bool]) -> Select[Any]:  # noqa: ANN401
    # the event_id orders events of one time, here as in the night's tables
    chosen: list[Column[Any]] = [columns[name] for name in _COLUMNS]
    is_told = columns.event_type != literal_column(f"'{SEEN}'")  # looked at is not yet liked
    return (
        select(*chosen)
        .where(*which, columns.event_time_us < bindparam("before"), is_told)
        .order_by(columns.event_time_us.desc(), columns.event_id.desc())
        .limit(bindparam("most"))
    )


def _newest_of(*parts: Select[Any]) -> CompoundSelect[Any]:
    """Each part is limited by its own index; no event is in two of them."""
    limited: list[Subquery] = [part.subquery() for part in parts]
    every = union_all(*(select(part) for part in limited))
    when, event_id = every.selected_columns["event_time_us"], every.selected_columns["event_id"]
    return every.order_by(when.desc(), event_id.desc()).limit(bindparam("most"))
