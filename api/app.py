"""The application: which endpoints there are, and what is open while it runs."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware

from api import (
    browser,
    bulk,
    erasures,
    errors,
    events,
    experiments,
    health,
    items,
    metrics,
    placements,
    recommend,
    rules,
    users,
)
from api.day import Day, every
from api.directives import Directives
from api.edge import Edge
from api.event_log import EventLog
from api.keyring import KeyRing
from api.live import Load
from api.live_variants import LiveReleases
from api.logs import line
from api.next_pages import PageMemory
from api.openapi import describe
from api.slate_log import SlateLog
from features.store import Store
from recsys.recommender import Recommender
from recsys.releases import Releases
from recsys.settings import Settings

log = logging.getLogger(__name__)

DESCRIPTION = """Recommendations for a storefront, learned every night, true to the last event.

Every answer carries `X-Request-ID`. Every error is
`{"error": {"code", "message", "details"}, "request_id"}`.
"""


def create_app(
    settings: Settings, *, load: Load | None = None, around: Sequence[Middleware] = ()
) -> FastAPI:
    """Nothing is opened before the application starts; `load` reads a release's folder.

    `around` is what else every request passes through, the outermost last.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open_day(settings, load or _load) as day:
            app.state.day = app.state.metrics.day = day
            yield

    app = FastAPI(
        title="Storefront recommender",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # `browser` has it
        redoc_url=None,
        redirect_slashes=False,  # another path is another path; what is wrong gets the envelope
    )
    app.state.metrics = metrics.Metrics()
    for room in (
        recommend,
        placements,
        rules,
        experiments,
        items,
        users,
        erasures,
        bulk,
        events,
        health,
        metrics,
        browser,
    ):
        app.include_router(room.router)
    browser.install(app)
    app.add_middleware(Edge)
    for outer in around:
        app.add_middleware(outer.cls, *outer.args, **outer.kwargs)
    errors.install(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # the documented way
    return app


def _load(folder: Path, release_id: str) -> Recommender:
    return Recommender.load(folder, release_id=release_id)


@contextlib.asynccontextmanager
async def _open_day(settings: Settings, load: Load) -> AsyncIterator[Day]:
    with Store.open(settings.database_url) as store:
        live = LiveReleases(store, Releases(settings.releases_dir), load)
        keys = KeyRing(store.keys.all)
        await keys.look()  # before the first request: it decides whom to let in
        directives = Directives(store, live.prepare)
        await live.prepare(directives.known.fields)

        async def compared() -> None:
            await live.hold(directives.known.releases)

        day = Day(
            store,
            live,
            EventLog(store, settings.event_types()),
            SlateLog(store),
            keys,
            directives,
            PageMemory(store),
        )
        watches = [
            asyncio.create_task(every(settings.poll_interval_s, step))
            for step in (
                live.look,
                compared,
                live.follow,
                live.forget_erased,
                keys.look,
                directives.follow,
            )
        ]
        log.info(line("open", store=store.counts(), releases=settings.releases_dir))
        try:
            yield day
        finally:  # requests have been answered by now; what they left behind is written
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await day.events.drained()
            await asyncio.to_thread(day.slates.close)
