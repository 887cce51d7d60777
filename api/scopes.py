"""What keys can allow, which role allows what, and whoever holds a key."""

from dataclasses import dataclass, field
from typing import Final, Literal

from api.errors import ApiError
from api.exchange import MAX_BODY_BYTES
from api.limits import Meter, Rate
from features.key_text import Role

Scope = Literal[
    "public",
    "recommend",
    "events",
    "explain",
    "catalogue",
    "users",
    "erase",
    "rules",
    "experiments",
    "metrics",
]
PUBLIC: Final = "public"

_BROWSER: frozenset[Scope] = frozenset({"recommend", "events"})
_SERVER: frozenset[Scope] = _BROWSER | {"explain", "catalogue", "users"}
SCOPES: dict[Role, frozenset[Scope]] = {
    "browser": _BROWSER,
    "server": _SERVER,
    "admin": _SERVER | {"erase", "rules", "experiments", "metrics"},
    "metrics": frozenset({"metrics"}),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a key, and what it allows."""

    key_id: str
    role: str  # as stored; one that this code does not know allows nothing
    scopes: frozenset[Scope]
    origins: frozenset[str] = frozenset()
    max_body_bytes: int = MAX_BODY_BYTES
    rate: Rate | None = None  # None: as often as they like
    meter: Meter = field(default_factory=Meter, compare=False)

    def needs(self, scope: Scope) -> None:
        """ApiError 403 unless the key allows it."""
        if scope not in self.scopes:
            able = " or ".join(role for role, scopes in SCOPES.items() if scope in scopes)
            raise ApiError(
                403, f"A key of the role {self.role} does not allow {scope}; use one of {able}."
            )


ANYBODY = Caller("none", "admin", SCOPES["admin"])  # while there are no keys
