"""Where the time of one slate goes, function by function, without HTTP around it."""

import cProfile
import pstats
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.store import Store
from recsys.recommender import Recommender
from recsys.types import Ask

N_SLATES = 200
N_SHOWN = 20
RECENT_EVENTS = 200  # a server looks up as many


@dataclass(frozen=True, slots=True)
class Hot:
    """A function's own time for a slate; the profiler's own cost is in it."""

    function: str
    own_us: float
    whole_us: float  # with what it calls
    calls: float


def profiled(release: Path, url: str, shoppers: Sequence[str], k: int) -> tuple[Hot, ...]:
    """The costliest functions over slates for different shoppers."""
    recommender = Recommender.load(release, release_id="profiled")
    with Store.open(url) as store:
        asks = [_ask(store, shopper, k) for shopper in shoppers[: N_SLATES + 20]]
    for ask in asks[N_SLATES:]:
        recommender.recommend(ask)
    profile = cProfile.Profile()
    profile.enable()
    for ask in asks[:N_SLATES]:
        recommender.recommend(ask)
    profile.disable()
    n = min(len(asks), N_SLATES)
    rows = [
        Hot(_name(*where), own / n * 1e6, whole / n * 1e6, calls / n)
        for where, (_, calls, own, whole, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    ]
    return tuple(sorted(rows, key=lambda hot: -hot.own_us)[:N_SHOWN])


def _ask(store: Store, shopper: str, k: int) -> Ask:
    now = time.time_ns() // 1_000
    recent = store.recent_events(
        user_id=shopper, session_id=None, before_us=now, limit=RECENT_EVENTS
    )
    return Ask(request_id=f"profile-{shopper}", now_us=now, k=k, user_id=shopper, recent=recent)


def _name(file: str, line: int, function: str) -> str:
    if file == "~":
        return function.strip("<>")
    return f"{'/'.join(Path(file).parts[-2:])}:{line} {function}"
