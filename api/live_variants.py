"""Releases that running experiments compare, served beside the live one and as current as it."""

import asyncio
from collections import ChainMap
from collections.abc import Iterable, Sequence

from api.live import LiveRelease, Load, Refusal
from api.live_items import Serving
from features.store import Store
from recsys.releases import Releases


class LiveReleases(LiveRelease):
    """The live release; `hold` loads others, each of which costs its memory and its start.

    Whatever changes the live release changes them too.
    """

    def __init__(self, store: Store, releases: Releases, load: Load) -> None:
        super().__init__(store, releases, load)
        self.beside: dict[str, LiveRelease] = {}

    def of(self, release_id: str | None) -> Serving | None:
        """None while that release is not loaded; without an id the live one."""
        if release_id is None:
            return self.serving
        held = self.beside.get(release_id)
        return None if held is None else held.serving

    @property
    def all_refused(self) -> dict[str, Refusal]:
        """Of all that should be served, what is not, and why."""
        held = (one.refused for one in self.beside.values())
        return dict(ChainMap(self.refused, *held))

    def stored(self) -> tuple[str, ...]:
        """Every release that could be held."""
        return self._releases.list()

    async def hold(self, release_ids: Iterable[str]) -> None:
        """Exactly these; one after the other, for loading takes what the live release needs."""
        args = (self._store, self._releases, self._load)
        self.beside = {
            release_id: self.beside.get(release_id) or LiveRelease(*args, release_id=release_id)
            for release_id in sorted(release_ids)
        }
        for held in self.beside.values():
            await held.prepare(self._fields)
            await held.look()

    async def prepare(self, fields: frozenset[str]) -> None:
        await super().prepare(fields)
        await asyncio.gather(*(held.prepare(fields) for held in self.beside.values()))

    async def follow(self) -> None:
        await super().follow()
        for held in [*self.beside.values()]:
            await held.follow()

    async def refresh(self, item_id: str) -> bool:
        found = await super().refresh(item_id)
        await asyncio.gather(*(held.refresh(item_id) for held in self.beside.values()))
        return found

    async def forget_erased(self) -> None:
        await super().forget_erased()
        for held in [*self.beside.values()]:
            await held.forget_erased()

    def forget(self, user_id: str, session_ids: Sequence[str]) -> None:
        super().forget(user_id, session_ids)
        for held in self.beside.values():
            held.forget(user_id, session_ids)

    def remove(self, item_id: str) -> None:
        super().remove(item_id)
        for held in self.beside.values():
            held.remove(item_id)
