"""How often somebody may ask: a rate with a burst, kept as one number a caller.

The generic cell rate algorithm is a token bucket that stores only when it will be full again. The
`limits` library knows windows but no bucket, and starts a thread in every process to forget old
ones: a tenth of the code is a tenth of the cost here.
"""

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass

from api.errors import ApiError

MAX_ADDRESSES = 10_000  # of callers whose keys failed; about 2 MB
IPV6_SUBSCRIBER_BITS = 64  # whoever has one address has all of its network


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` in the long run, `burst` at once; infinitely many per second is no limit."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left; `wait_s` above 0 says that nothing was taken, and when it could be."""

    wait_s: float
    remaining: int
    full_in_s: float


class Meter:
    """One caller's use of a rate."""

    __slots__ = ("_full_at_s",)

    def __init__(self) -> None:
        self._full_at_s = 0.0

    def take(self, rate: Rate, n: int, now_s: float) -> Taken:
        """`now_s` is on a clock that never goes back; more than a burst costs a burst."""
        full_in_s = max(self._full_at_s - now_s, 0.0)
        after_s = full_in_s + min(n, rate.burst) / rate.per_s
        wait_s = after_s - rate.burst / rate.per_s
        if wait_s > 1e-9:  # rounding is no reason to wait
            return Taken(wait_s, _remaining(rate, full_in_s), full_in_s)
        self._full_at_s = now_s + after_s
        return Taken(0.0, _remaining(rate, after_s), after_s)


def _remaining(rate: Rate, full_in_s: float) -> int:
    return max(math.floor(rate.burst - full_in_s * rate.per_s + 1e-6), 0)


def headers_of(rate: Rate, taken: Taken) -> dict[bytes, bytes]:
    return {
        b"ratelimit-limit": b"%d" % rate.burst,
        b"ratelimit-remaining": b"%d" % taken.remaining,
        b"ratelimit-reset": b"%d" % math.ceil(taken.full_in_s),
    }


def rate_limited(message: str, taken: Taken) -> ApiError:
    retry_after = {"Retry-After": str(max(math.ceil(taken.wait_s), 1))}
    return ApiError(429, message, code="rate_limited", headers=retry_after)


class FailureMeters:
    """Failed keys by the address they came from; a right key is never held up by wrong ones."""

    RATE = Rate(per_s=5.0, burst=100)  # a page that kept an old key, not a flood of the log

    def __init__(self, *, max_addresses: int = MAX_ADDRESSES) -> None:
        self._meters: OrderedDict[str, Meter] = OrderedDict()
        self._max_addresses = max_addresses

    def __len__(self) -> int:
        return len(self._meters)

    def take(self, address: str, now_s: float) -> Taken:
        network = _network(address)
        meter = self._meters.pop(network, None) or Meter()
        self._meters[network] = meter  # the newest last
        if len(self._meters) > self._max_addresses:
            self._meters.popitem(last=False)
        return meter.take(self.RATE, 1, now_s)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], IPV6_SUBSCRIBER_BITS), False))  # noqa: FBT003
    except ValueError:
        return address
