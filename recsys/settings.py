"""The environment, read in one place: every variable that starts with RECSYS_."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from features.errors import ConfigError
from features.events import DEFAULT_EVENT_TYPES, MAX_EVENT_TYPES, EventType

PREFIX = "RECSYS_"
SHARED_DATA = "RECSYS_SHARED_DATA"  # where tests find real data; no setting


class Settings(BaseSettings):
    """Where things are; make one with `read_settings`, which explains what is wrong."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Path = Path("data")
    # Each of these lies in data_dir unless it is set itself.
    # sqlite:///path/to.db, or postgresql://user:password@host:5432/database for several machines
    database_url: str = Field(default_factory=lambda found: _sqlite(found["data_dir"]))
    lake_dir: Path = Field(default_factory=lambda found: found["data_dir"] / "lake")
    releases_dir: Path = Field(default_factory=lambda found: found["data_dir"] / "releases")
    # must be on the file system of releases_dir: publishing is a rename
    work_dir: Path = Field(default_factory=lambda found: found["data_dir"] / "work")
    reports_dir: Path = Field(default_factory=lambda found: found["data_dir"] / "reports")
    rejects_dir: Path = Field(default_factory=lambda found: found["data_dir"] / "rejects")
    encoder: str | None = None  # None: the embedded MiniLM; else a Hugging Face name or a folder
    night_config_path: Path | None = None  # TOML that changes values of jobs/night_config.py
    event_types_path: Path | None = None  # JSON or TOML; None: DEFAULT_EVENT_TYPES
    poll_interval_s: float = Field(default=1.0, gt=0, le=3600)
    keep_releases: int = Field(default=5, ge=2)  # the live one and one to go back to

    @property
    def notice_s(self) -> float:
        """After which every server obeys what is written now: two polls, and time to read."""
        return 2 * self.poll_interval_s + 10

    def event_types(self) -> tuple[EventType, ...]:
        """Raises ConfigError for a file that is missing or says something else."""
        if self.event_types_path is None:
            return DEFAULT_EVENT_TYPES
        return _event_types(self.event_types_path)


def read_settings() -> Settings:
    """From the environment; raises ConfigError naming each variable that makes no sense."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {SHARED_DATA}
    unknown = sorted(
        n for n in os.environ if n.upper().startswith(PREFIX) and n.upper() not in known
    )
    if unknown:
        raise ConfigError(
            f"found the variables {', '.join(unknown)}; expected some of "
            f"{', '.join(sorted(known))}; correct or unset them"
        )
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"{PREFIX}{'_'.join(str(p) for p in fault['loc']).upper()}={fault['input']!r}: "
            f"{fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(
            f"found settings that make no sense ({faults}); expected the values that "
            "recsys/settings.py describes; correct or unset these variables"
        ) from error


def _sqlite(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'store.sqlite'}"


def _event_types(path: Path) -> tuple[EventType, ...]:
    """`{"view": 1.0, "dismiss": -4.0}`, in JSON or TOML: name and weight of each type."""
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        types = tuple(EventType(name, float(weight)) for name, weight in found.items())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"found {path} unusable ({error}); expected a JSON object or TOML table of event "
            "type names and weights; correct it or unset RECSYS_EVENT_TYPES_PATH"
        ) from error
    if not any(t.is_positive for t in types):
        raise ConfigError(
            f"found no event type with a positive weight in {path}; expected at least one; add it"
        )
    if len(types) > MAX_EVENT_TYPES:
        raise ConfigError(
            f"found {len(types)} event types in {path}, expected at most {MAX_EVENT_TYPES}; "
            "merge or remove some"
        )
    return types
