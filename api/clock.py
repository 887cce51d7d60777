"""The day's clock: the one place in this room that reads the time."""

import time


def now_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000
