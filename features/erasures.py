"""Forgetting a user: what goes at once, what the night has to do yet, and the receipt of both."""

import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, or_, select

from features.tables import (
    assignments,
    claims,
    erasures,
    events,
    pages,
    session_links,
    slates,
    users,
)

OF_A_SHOPPER = (
    events,
    slates,
    assignments,
    pages,
)  # rows by user, or by a session that was anonymous


@dataclass(frozen=True, slots=True)
class Erasure:
    """A receipt. Complete, it says no longer whose; the lake still holds rows until then."""

    receipt_id: str
    user_id: str | None  # None once complete
    session_ids: tuple[str, ...]  # linked to the user when asked; empty once complete
    requested_at_us: int
    counts: Mapping[str, int]  # rows removed, by table
    lake_rows: int | None  # None while nobody has looked into the lake
    completed_at_us: int | None


@dataclass(frozen=True, slots=True)
class ErasedUsers:
    """Who was erased, by salted hashes: only somebody who has an id can ask about it."""

    hashes: Mapping[str, frozenset[str]]  # by salt

    def among(self, user_ids: Iterable[str]) -> list[str]:
        """Those of the ids that were erased, in their order; about a microsecond an id."""
        return [
            user_id
            for user_id in user_ids
            if any(hashed(user_id, salt) in known for salt, known in self.hashes.items())
        ]

    def __bool__(self) -> bool:
        return bool(self.hashes)


def hashed(user_id: str, salt: str) -> str:
    key = bytes.fromhex(salt)
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=16).hexdigest()


def erase(connection: Connection, user_id: str, requested_at_us: int) -> Erasure:
    """Within one transaction: every row of the user goes, the receipt stays."""
    of_user = select(session_links.c.session_id).where(session_links.c.user_id == user_id)
    session_ids = tuple(connection.execute(of_user.order_by(session_links.c.session_id)).scalars())
    counts = {
        str(table.name): sum(  # plain text, which every JSON writer knows
            connection.execute(delete(table).where(theirs)).rowcount
            for theirs in _rows_of(table, user_id)
        )
        for table in OF_A_SHOPPER
    }
    for table in (session_links, users):
        gone = delete(table).where(table.c.user_id == user_id)
        counts[str(table.name)] = connection.execute(gone).rowcount
    connection.execute(delete(claims).where(claims.c.user_id == user_id))
    salt = _salt(connection)
    made = Erasure(secrets.token_hex(16), user_id, session_ids, requested_at_us, counts, None, None)
    connection.execute(
        insert(erasures).values(
            receipt_id=made.receipt_id,
            user_id=user_id,
            session_ids=json.dumps(session_ids),
            user_hash=hashed(user_id, salt),
            salt=salt,
            requested_at_us=requested_at_us,
            counts=json.dumps(counts),
        )
    )
    return made


def rows_of_shopper(table: Table, user_id: str) -> ColumnElement[bool]:
    """Of the user's name, or of a session of theirs before anybody was known in it."""
    return or_(*_rows_of(table, user_id))


def _rows_of(table: Table, user_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Two conditions, each of which has an index, where an OR of them would scan."""
    of_user = select(session_links.c.session_id).where(session_links.c.user_id == user_id)
    return (
        table.c.user_id == user_id,
        and_(table.c.user_id.is_(None), table.c.session_id.in_(of_user)),
    )


def _salt(connection: Connection) -> str:
    """One a store, so that the million ids of a release are hashed once, not once an erasure."""
    known = connection.execute(select(erasures.c.salt).limit(1)).scalar()
    return known or secrets.token_hex(32)


def receipt(row: Mapping[str, Any]) -> Erasure:
    return Erasure(
        row["receipt_id"],
        row["user_id"],
        tuple(json.loads(row["session_ids"] or "[]")),
        row["requested_at_us"],
        json.loads(row["counts"]),
        row["lake_rows"],
        row["completed_at_us"],
    )


def erased_users(rows: Iterable[tuple[str, str]]) -> ErasedUsers:
    """Of (salt, hash)."""
    by_salt: dict[str, set[str]] = defaultdict(set)
    for salt, user_hash in rows:
        by_salt[salt].add(user_hash)
    return ErasedUsers({salt: frozenset(known) for salt, known in by_salt.items()})
