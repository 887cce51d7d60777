"""Whose an anonymous session was: it belongs to the first user who was known in it.

What the session did without a user is that user's, by day (`features/recent.py`) and by night
(`features/lake.py`); what another user did in it later stays theirs. The events themselves are
never changed.
"""

from typing import Any

import polars as pl
from sqlalchemy import BigInteger, Connection, Engine, bindparam, exists, func, or_, select

from features.database import Database, after
from features.engines import dialect_insert, insert_new
from features.tables import claims, events, session_links, slates

_SEQ = bindparam("seq", type_=BigInteger)
LINK_SCHEMA: dict[str, pl.DataType] = {"session_id": pl.String(), "user_id": pl.String()}


class Links:
    """The statements that keep links and claims; each runs within the caller's transaction."""

    def __init__(self, engine: Engine) -> None:
        returned = (session_links.c.session_id,)
        both = (
            select(
                events.c.session_id,
                events.c.user_id,
                bindparam("at", type_=events.c.received_at_us.type),
            )
            .where(
                after(events.c.seq, _SEQ),
                events.c.user_id.is_not(None),
                events.c.session_id.is_not(None),
            )
            .order_by(events.c.seq)
        )
        self._of_new_events = (
            dialect_insert(engine, session_links)
            .from_select(["session_id", "user_id", "linked_at_us"], both)
            .on_conflict_do_nothing()
            .returning(*returned)
        )
        self._link = insert_new(engine, session_links, "session_id").returning(*returned)
        self._claim_session = _claim(engine, events.c.session_id == bindparam("session"))
        self._claim_new = _claim(engine, after(events.c.seq, _SEQ))

    def learn(
        self, connection: Connection, after_seq: int, *, known: bool, anonymous: bool, at_us: int
    ) -> None:
        """From the events after `after_seq`: whether some name user and session, some no user."""
        if known:
            made = connection.execute(self._of_new_events, {"seq": after_seq, "at": at_us})
            self._claim(connection, made.scalars().all())
        if anonymous:
            connection.execute(self._claim_new, {"seq": after_seq})

    def make(self, connection: Connection, session_id: str, user_id: str, at_us: int) -> bool:
        """False where the session has its user already."""
        row = {"session_id": session_id, "user_id": user_id, "linked_at_us": at_us}
        made = connection.execute(self._link, row).scalars().all()
        self._claim(connection, made)
        return bool(made)

    def _claim(self, connection: Connection, session_ids: Any) -> None:  # noqa: ANN401
        if session_ids:
            connection.execute(self._claim_session, [{"session": s} for s in session_ids])


def _claim(engine: Engine, which: Any) -> Any:  # noqa: ANN401
    columns = [name for name in claims.c.keys() if name != "user_id"]  # noqa: SIM118
    theirs = (
        select(session_links.c.user_id, *(events.c[name] for name in columns))
        .join(session_links, session_links.c.session_id == events.c.session_id)
        # said so that no index on user_id is chosen: most of a store may be anonymous
        .where(func.nullif(events.c.user_id, "").is_(None), which)
    )
    return (
        dialect_insert(engine, claims)
        .from_select(["user_id", *columns], theirs)
        .on_conflict_do_nothing()
    )


def links_that_matter(database: Database) -> pl.DataFrame:
    """LINK_SCHEMA, by session_id, of sessions that did or were shown something without a user."""
    did = exists().where(
        events.c.session_id == session_links.c.session_id, events.c.user_id.is_(None)
    )
    saw = exists().where(
        slates.c.session_id == session_links.c.session_id, slates.c.user_id.is_(None)
    )
    chosen = (
        select(session_links.c.session_id, session_links.c.user_id)
        .where(or_(did, saw))
        .order_by(session_links.c.session_id)
    )
    return database.frame(chosen, LINK_SCHEMA)
