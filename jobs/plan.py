"""What a night is told, where it works, and the moments in time it is cut at."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.errors import ConfigError
from features.events import US_PER_DAY
from features.interactions import Interactions
from recsys.releases import Manifest
from recsys.settings import Settings
from recsys.training.recipe import window_with_users

# Shoppers a window should hold, and at most which share of all shoppers.
EVALUATION_USERS, EVALUATION_SHARE = 1_000, 0.1  # ±0.9 points of recall at .1
LABEL_USERS, LABEL_SHARE = 20_000, 0.3


@dataclass(frozen=True, slots=True)
class Places:
    """Where the night reads and writes."""

    lake: Path
    releases: Path
    work: Path
    reports: Path
    rejects: Path | None = None  # rows that imports refused

    @classmethod
    def of(cls, settings: Settings) -> "Places":
        return cls(
            lake=settings.lake_dir,
            releases=settings.releases_dir,
            work=settings.work_dir,
            reports=settings.reports_dir,
            rejects=settings.rejects_dir,
        )


@contextmanager
def night_lock(work: Path) -> Iterator[None]:
    """One night at a time; the lock goes with the process that holds it, however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "night.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another night is running in {work}: wait for it to end") from None
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Where the live release's night was cut; older releases do not say all of it."""

    end_us: int
    label_us: int | None = None
    evaluation_us: int | None = None

    @classmethod
    def of(cls, live: Manifest) -> "Cuts":
        return cls(
            end_us=live.data_end_us, label_us=live.label_us, evaluation_us=live.evaluation_us
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The moments a night is cut at: label window [label, evaluation), then [evaluation, as_of)."""

    label_us: int
    evaluation_us: int
    as_of_us: int

    @classmethod
    def of(cls, log: Interactions, as_of_us: int, live: Cuts | None) -> "Plan":
        """Prefer to evaluate on what came after the live release, if that says enough.

        No cut lies before the live release's: its encoder has learned until there, and a night
        without news must find the cuts of the one before.
        """
        n_users = len(log.user_ids)
        evaluation = window_with_users(
            log, as_of_us, max(min(EVALUATION_USERS, int(EVALUATION_SHARE * n_users)), 20)
        )
        if live is not None and evaluation < live.end_us <= as_of_us:
            newer = log.user_rows[(log.time_us >= live.end_us) & (log.weights > 0)]
            enough = len(np.unique(newer)) >= 20
            evaluation = live.end_us if enough else max(evaluation, live.evaluation_us or 0)
        label = label_start(log, evaluation)
        if live is not None and live.label_us is not None and live.label_us < evaluation:
            label = max(label, live.label_us)
        return cls(label, evaluation, as_of_us)


def label_start(log: Interactions, end_us: int) -> int:
    """Where the ranker's label window starts that ends at `end`."""
    return window_with_users(
        log, end_us, max(min(LABEL_USERS, int(LABEL_SHARE * len(log.user_ids))), 20)
    )


def end_of(log: Interactions, now_us: int) -> int:
    """The end of the last event's day; of the event itself while that day is not over.

    It depends on the clock only through that, so a second night finds the first one's steps.
    """
    if len(log) == 0:
        return now_us // US_PER_DAY * US_PER_DAY
    day_end_us = last_day_end(log)
    return day_end_us if day_end_us <= now_us else int(log.time_us.max()) + 1


def last_day_end(log: Interactions) -> int:
    """The midnight after the last event."""
    return (int(log.time_us.max()) // US_PER_DAY + 1) * US_PER_DAY
