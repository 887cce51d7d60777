"""The day's clock: the one place in this room that reads the time."""

import time
from datetime import UTC, datetime


def now_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


def now() -> datetime:
    """The same, as people's documents write it."""
    return datetime.fromtimestamp(now_us() / 1e6, UTC)
