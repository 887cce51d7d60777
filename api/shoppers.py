"""Who asks, and what the store knows of them at this very moment."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from api.day import Day
from api.errors import STORE_ERRORS
from api.logs import line
from features.events import RecentEvents
from recsys.experiments.assignment import once

log = logging.getLogger(__name__)

RECENT_EVENTS = 200  # the models read the last 50; the others still say what was seen before


@dataclass(frozen=True, slots=True)
class Shopper:
    """One for all slates of a call; `attributes` are read where an experiment asks for them."""

    user_id: str | None
    session_id: str | None
    now_us: int
    recent: RecentEvents
    attributes: Callable[[], Mapping[str, object]]
    degraded: tuple[str, ...] = ()


def shopper_of(today: Day, user_id: str | None, session_id: str | None, now_us: int) -> Shopper:
    """A store that cannot be read leaves a stranger: that answer is better than none."""
    attributes = once(partial(_attributes, today, user_id))
    try:
        recent = today.store.recent_events(
            user_id=user_id, session_id=session_id, before_us=now_us, limit=RECENT_EVENTS
        )
    except STORE_ERRORS as error:
        log.error(line("recent_events_failed", cause=repr(error)))
        lost = ("recent_events",)
        return Shopper(user_id, session_id, now_us, RecentEvents.none(), attributes, lost)
    return Shopper(user_id, session_id, now_us, recent, attributes)


def _attributes(today: Day, user_id: str | None) -> Mapping[str, object]:
    user = None if user_id is None else today.store.people.user(user_id)
    found = {} if user is None else json.loads(str(user["attributes"]))
    return found if isinstance(found, dict) else {}
