"""A shopper's latest events, read on the request path in a fraction of a millisecond."""

import threading
from typing import Any

import numpy as np
from sqlalchemy import Column, CompoundSelect, Engine, Select, bindparam, func, select

from features.events import RecentEvents
from features.tables import events


class RecentReader:
    """One connection of its own: SQLAlchemy writes the SQL once, the driver alone runs it."""

    def __init__(self, engine: Engine) -> None:
        by_user, by_session = events.c.user_id, events.c.session_id
        self._by_user = _newest(by_user, "user").compile(engine)
        self._by_session = _newest(by_session, "session").compile(engine)
        self._by_either = _newest_of_either().compile(engine)
        self._connection = engine.raw_connection()
        self._cursor = self._connection.cursor()
        self._lock = threading.Lock()

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
            self._cursor.execute(str(statement), values)
            rows = self._cursor.fetchall()
        if not rows:
            return RecentEvents.none()
        times, _, item_ids, event_types = zip(*reversed(rows), strict=True)
        return RecentEvents(item_ids, event_types, np.array(times, np.int64))

    def close(self) -> None:
        self._connection.close()


def _newest(column: Column[Any], parameter: str) -> Select[Any]:
    # the event_id orders events of one time, here as in the night's tables
    return (
        select(events.c.event_time_us, events.c.event_id, events.c.item_id, events.c.event_type)
        .where(column == bindparam(parameter), events.c.event_time_us < bindparam("before"))
        .order_by(events.c.event_time_us.desc(), events.c.event_id.desc())
        .limit(bindparam("most"))
    )


def _newest_of_either() -> CompoundSelect[Any]:
    """Each half is limited by its own index; UNION counts an event of both once.

    What another user did in the session, on a shared device, is left out.
    """
    by_user = _newest(events.c.user_id, "user").subquery()
    by_session = _newest(events.c.session_id, "session").add_columns(events.c.user_id).subquery()
    columns = [by_session.c[column.name] for column in by_user.c]
    is_own = func.coalesce(by_session.c.user_id, bindparam("user")) == bindparam("user")
    both = select(by_user).union(select(*columns).where(is_own))
    time, event_id = both.selected_columns["event_time_us"], both.selected_columns["event_id"]
    return both.order_by(time.desc(), event_id.desc()).limit(bindparam("most"))
