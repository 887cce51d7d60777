"""Whether an event comes from where it says: was the item shown in that slate, to this shopper?"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from api.answers_told import Attribution
from api.bodies_told import EventRow
from api.slate_log import SlateLog
from features.store import Store

YOUNG_MS = 2_000  # a slate this young may still be on its way from another server to the store
LOOK_AGAIN_S = (0.05, 0.1, 0.2, 0.4)  # a slate log commits each 50 ms, a busy one later


class Showing(Protocol):
    """What was shown to whom: a stored slate, or one that is about to be."""

    @property
    def user_id(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def placement(self) -> str: ...
    @property
    def item_ids(self) -> tuple[str, ...]: ...


async def showings(
    store: Store, slates: SlateLog, rows: Sequence[EventRow]
) -> Mapping[str, Showing]:
    """By request_id, the slates that the events name; the unknown ones are missing."""
    asked = dict.fromkeys(row.request_id for row in rows if row.request_id is not None)
    if not asked:
        return {}
    queued = {r: slate for r in asked if (slate := slates.unwritten(r)) is not None}
    rest = [r for r in asked if r not in queued]
    found: dict[str, Showing] = {**queued}
    if rest:
        found |= await asyncio.to_thread(store.shown, rest)
    young = [r for r in rest if r not in found and _is_young(r)]
    for wait_s in LOOK_AGAIN_S if young else ():
        await asyncio.sleep(wait_s)
        found |= await asyncio.to_thread(store.shown, young)
        young = [r for r in young if r not in found]
        if not young:
            break
    return found


def attribution(row: EventRow, shown: Mapping[str, Showing]) -> Attribution | None:
    """None for an event that names no slate."""
    if row.request_id is None:
        return None
    slate = shown.get(row.request_id)
    if slate is None:
        return "unknown_request"
    if row.item_id not in slate.item_ids:
        return "item_not_in_slate"
    return "ok" if _is_for(slate, row) else "other_shopper"


def _is_for(slate: Showing, row: EventRow) -> bool:
    """By the user where both have one, else by the session; a stranger's slate is anybody's."""
    if slate.user_id is not None and row.user_id is not None:
        return slate.user_id == row.user_id
    if slate.session_id is not None and row.session_id is not None:
        return slate.session_id == row.session_id
    return True


def _is_young(request_id: str) -> bool:
    """A request_id begins with its milliseconds, see api.exchange."""
    try:
        age_ms = time.time_ns() // 1_000_000 - int(request_id[:12], 16)
    except ValueError:
        return False
    return 0 <= age_ms < YOUNG_MS
