"""An API key as text: how it is made, taken apart, and recognised without being kept.

`rk_<role>_<key_id>_<secret>`. The secret is 256 random bits, so nobody finds it by trying and one
SHA-256 protects it as well as a slow password hash would: those exist for secrets that people
choose. Only the hash is stored.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["browser", "server", "admin", "metrics"]

ROLES: tuple[Role, ...] = get_args(Role)
MAX_BODY_BYTES: dict[Role, int] = {  # a page's batch of events; 1,000 events of 1 kB
    "browser": 64_000,
    "server": 1_000_000,
    "admin": 1_000_000,
    "metrics": 1_000,
}
SECRET_BYTES = 32
KEY_ID_BYTES = 4  # a name, no secret: short enough to type

# 43 characters are 32 bytes in URL-safe base64
_SHAPE = re.compile(r"rk_([a-z]{1,16})_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_MAX_LENGTH = 100


@dataclass(frozen=True, slots=True)
class KeyText:
    """The parts of a key; it never shows its secret by accident, only by `full_text`."""

    role: str
    key_id: str
    secret: str = field(repr=False)

    @property
    def full_text(self) -> str:
        return f"rk_{self.role}_{self.key_id}_{self.secret}"

    @property
    def secret_hash(self) -> str:
        return hash_of(self.secret)


def make_key(role: Role) -> KeyText:
    return KeyText(role, secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES))


def parse_key(text: str) -> KeyText | None:
    """None for whatever is not a key's text; no message ever repeats it."""
    found = _SHAPE.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    return None if found is None else KeyText(*found.groups())


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, secret_hash: str) -> bool:
    """Takes as long for a hash that is nearly right as for any other."""
    return hmac.compare_digest(hash_of(secret), secret_hash)
