"""API keys as they are kept: a key's secret is never here, only its hash."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, select, update

from features.database import Database
from features.tables import keys


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key; without `expires_at_us` and `revoked_at_us` it is good for ever."""

    key_id: str
    name: str
    role: str
    secret_hash: str
    origins: tuple[str, ...]
    rate_per_s: float
    burst: int
    max_body_bytes: int
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None


class Keys:
    """Keys are added and revoked, never changed or removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: KeyRecord) -> None:
        """Raise sqlalchemy's IntegrityError where the key_id is taken."""
        row = asdict(record) | {"origins": json.dumps(record.origins)}
        with self._database.writing() as connection:
            connection.execute(insert(keys).values(row))

    def all(self) -> list[KeyRecord]:
        """In the order they were made, revoked ones too."""
        chosen = select(keys).order_by(keys.c.created_at_us, keys.c.key_id)
        with self._database.reading() as connection:
            return [_record(dict(row)) for row in connection.execute(chosen).mappings()]

    def revoke(self, key_id: str, *, at_us: int) -> bool:
        """False where there is no such key, or it was revoked before."""
        gone = (
            update(keys)
            .where(keys.c.key_id == key_id, keys.c.revoked_at_us.is_(None))
            .values(revoked_at_us=at_us)
        )
        with self._database.writing() as connection:
            return connection.execute(gone).rowcount > 0


def _record(row: dict[str, Any]) -> KeyRecord:
    return KeyRecord(**(row | {"origins": tuple(json.loads(row["origins"]))}))
