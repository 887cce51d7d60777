"""What one server process holds while it is up, and how an endpoint reaches it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.directives import Directives
from api.errors import ApiError
from api.event_log import EventLog
from api.keyring import KeyRing
from api.keys import is_from_known_page
from api.live_variants import LiveReleases
from api.logs import line
from api.next_pages import PageMemory
from api.slate_log import SlateLog
from features.store import Store

log = logging.getLogger(__name__)

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Day:
    """Opened by the application's lifespan, closed by it in the reverse order."""

    store: Store
    live: LiveReleases
    events: EventLog
    slates: SlateLog
    keys: KeyRing
    directives: Directives
    pages: PageMemory


def day(request: Request) -> Day:
    found = request.app.state.day
    assert isinstance(found, Day)  # the lifespan sets it before the first request
    return found


def request_id(request: Request) -> str:
    return str(request.state.request_id)


async def read(request: Request, model: type[B], *, beacon: bool = False) -> B:
    """The body as `model`; raises what api.errors answers with 415, 422 or 413.

    A page of another site may send plain text here without asking first, but never JSON. With
    `beacon` text is taken too, from pages that may be here: navigator.sendBeacon sends nothing
    else without asking.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        beacon and kind == "text/plain" and is_from_known_page(request)
    ):
        raise ApiError(415, f"found a body of type {kind or 'none'}, expected application/json")
    return model.model_validate_json(await request.body(), strict=True)


def answered(content: dict[str, object], headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers=headers, media_type="application/json")


async def every(interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
    """Repeat `step` until cancelled."""
    while True:
        try:
            await step()
        except Exception as error:  # noqa: BLE001  a watch that ends with one failed look is no watch
            log.error(line("watch_failed", cause=repr(error)))
        await asyncio.sleep(interval_s)
