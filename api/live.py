"""The release that is being served, and how the next one takes its place without a failed request.

Everything slow happens in worker threads beside the release that serves; what changes what shoppers
see happens on the event loop, under `_changing`, in one step.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from api.clock import now_us
from api.live_items import (
    EMBED_AT_ONCE,
    Serving,
    catch_up,
    forget,
    forget_erased,
    forget_erased_since,
    hide,
    living,
)
from api.logs import line
from features.errors import NotReady, ReleaseError
from features.items import ITEM_SCHEMA
from features.store import Store
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.releases import Releases
from recsys.types import Ask

log = logging.getLogger(__name__)

RETRY_REFUSED_S = 60.0  # a damaged release does not mend itself; a full disk or memory may
WARM_UP_ANSWERS = 10  # the first answers of a process are slow: lazy imports, cold pages

Load = Callable[[Path, str], Recommender]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a release is not served, and when it is worth another look."""

    reason: str
    retry_at_s: float  # on the monotonic clock


class LiveRelease:
    """Holds one `Serving`; `serving` is replaced as a whole and never while a request runs."""

    def __init__(
        self, store: Store, releases: Releases, load: Load, *, release_id: str | None = None
    ) -> None:
        """Follows CURRENT; with a `release_id` it holds that one."""
        self.serving: Serving | None = None
        self.refused: dict[str, Refusal] = {}
        self.n_refused = 0
        self.n_swaps = 0
        self._store = store
        self._releases = releases
        self._load = load
        self._release_id = release_id
        self._loading: str | None = None
        self._changing = asyncio.Lock()
        self._fields: frozenset[str] = frozenset()  # that placements and rules ask of
        self._put_here: dict[str, dict[str, object]] = {}  # item_id → row, not yet seen by `follow`

    def required(self) -> Serving:
        """What answers this request; NotReady before the first release."""
        if self.serving is None:
            raise NotReady(f"{self._why_not()}; events and items are accepted meanwhile.")
        return self.serving

    def _why_not(self) -> str:
        if self._loading is not None:
            return f"Release {self._loading} is being loaded: try again in some seconds"
        last = next(reversed(self.refused.items()), None)
        why = f" Release {last[0]} was refused: {last[1].reason}" if last else ""
        return f"No release is loaded.{why} Run a night (python -m jobs night), then try again"

    async def look(self) -> None:
        """Load the release it is for, if it is another one and not known to be unfit."""
        release_id = self._release_id or await asyncio.to_thread(self._releases.current)
        serves = self.serving and self.serving.recommender.release_id
        if release_id is None or release_id == serves:
            return
        refusal = self.refused.get(release_id)
        if refusal and time.monotonic() < refusal.retry_at_s:
            return
        self._loading = release_id
        try:
            await self._swap(release_id)
        except Exception as error:  # a release is foreign: nothing in it may end the day
            self.n_refused += 1
            self.refused.pop(release_id, None)  # so that the latest refusal comes last
            retry_at_s = time.monotonic() + RETRY_REFUSED_S
            self.refused[release_id] = Refusal(str(error), retry_at_s)
            log.error(
                line("release_refused", release=release_id, serves=serves, cause=repr(error)),
                exc_info=not isinstance(error, ReleaseError),
            )
        finally:
            self._loading = None

    async def _swap(self, release_id: str) -> None:
        started_s = time.monotonic()
        before = self.serving
        fresh = await asyncio.to_thread(self._loaded, release_id, follows=before is not None)
        async with self._changing:
            if before is not None:  # what changed while it was loading
                await asyncio.to_thread(catch_up, self._store, fresh)
            else:
                changed = await asyncio.to_thread(self._store.items_changed_after, fresh.change)
                hide(fresh.recommender, changed[1])
            self._put_here.clear()
            self.serving = fresh
        self.refused.pop(release_id, None)
        self.n_swaps += 1
        took_s = time.monotonic() - started_s
        replaced = before and before.recommender.release_id
        log.info(line("release_serves", release=release_id, replaced=replaced, took_s=took_s))

    def _loaded(self, release_id: str, *, follows: bool) -> Serving:
        """Verified, as current as the one it follows, probed and warm. ReleaseError if unfit."""
        manifest = self._releases.verify(release_id)
        recommender = self._load(self._releases.path(release_id), release_id)
        fresh = Serving(
            recommender,
            policy=Policy.stored(manifest.policy),
            created_at_us=manifest.created_at_us,
            change=manifest.catalogue_change,
        )
        forget_erased_since(self._store, fresh, manifest.data_end_us)
        if follows:
            catch_up(self._store, fresh)
        else:  # be ready soon: only what must not be shown matters now, `follow` brings the rest
            hide(recommender, self._store.items_changed_after(fresh.change)[1])
        # no request waits for the columns that filters ask of now
        serves = () if self.serving is None else self.serving.recommender.catalog.columns
        recommender.catalog.prepare((*serves, *self._fields))
        for _ in range(WARM_UP_ANSWERS):
            probe(recommender)
        return fresh

    async def prepare(self, fields: frozenset[str]) -> None:
        """What placements and rules ask of, before a request does; of later releases too."""
        self._fields = fields
        async with self._changing:  # an item put meanwhile would be missing in a new column
            if self.serving is not None:
                await asyncio.to_thread(self.serving.recommender.catalog.prepare, fields)

    async def follow(self) -> None:
        """Apply items that other processes changed, and this one while nothing was loaded."""
        serving = self.serving
        if serving is None:
            return
        change, rows = await asyncio.to_thread(self._store.items_changed_after, serving.change)
        for part in rows.iter_slices(EMBED_AT_ONCE):
            async with self._changing:
                if serving is not self.serving:
                    return  # the new release has caught up by itself
                await self._apply(serving.recommender, part)
        serving.change = change

    async def _apply(self, recommender: Recommender, rows: pl.DataFrame) -> None:
        """Rows as read some time ago; an item put here in between is not overwritten by them."""
        is_ours = [item_id in self._put_here for item_id in rows["item_id"]]
        theirs = rows.filter(~pl.Series(is_ours, dtype=pl.Boolean))
        hide(recommender, theirs)
        await self._embed_and_put(recommender, living(theirs))
        for row in rows.filter(pl.Series(is_ours, dtype=pl.Boolean)).to_dicts():
            seen = self._put_here.pop(row["item_id"])
            if ({} if row.pop("deleted") else row) != seen:
                await self._refresh(recommender, row["item_id"])

    async def refresh(self, item_id: str) -> bool:
        """Bring one item as the store has it into the release; False if none is loaded."""
        async with self._changing:
            if self.serving is None:
                return False
            row = await self._refresh(self.serving.recommender, item_id)
            self._put_here[item_id] = row or {}
            return True

    async def _refresh(self, recommender: Recommender, item_id: str) -> dict[str, object] | None:
        row = await asyncio.to_thread(self._store.item, item_id)
        if row is None or not row["available"]:
            recommender.remove_items([item_id])
        if row is not None:
            await self._embed_and_put(recommender, pl.DataFrame([row], schema=ITEM_SCHEMA))
        return row

    async def _embed_and_put(self, recommender: Recommender, items: pl.DataFrame) -> None:
        if len(items):
            vectors = await asyncio.to_thread(recommender.embed_items, items)
            recommender.put_items(items, vectors)

    async def forget_erased(self) -> None:
        """Users that other processes erased."""
        if self.serving is not None:
            await asyncio.to_thread(forget_erased, self._store, self.serving)

    def forget(self, user_id: str, session_ids: Sequence[str]) -> None:
        """What the release learned of somebody, at once."""
        if self.serving is not None:
            forget(self.serving, user_id, session_ids)

    def remove(self, item_id: str) -> None:
        """At once, before anything waits; `refresh` afterwards settles it with the store."""
        if self.serving is not None:
            self.serving.recommender.remove_items([item_id])


def probe(recommender: Recommender) -> None:
    """A stranger's questions; ReleaseError if an answer is not one that may be shown."""
    n_available = recommender.catalog.n_available
    ask = Ask(request_id="probe", now_us=now_us(), k=10)
    for answer in map(recommender.recommend, (ask, replace(ask, words="a gift"))):
        scores = answer.slate.scores.tolist()
        if (n_available and not answer.item_ids) or not all(map(math.isfinite, scores)):
            raise ReleaseError(
                f"Release {recommender.release_id} answers a probe with {len(answer.item_ids)} of "
                f"{n_available} items and the scores {scores[:3]}, expected some items and finite "
                "scores. It is not served; run the night again."
            )
