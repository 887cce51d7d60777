"""What the pages of a slate have shown, so that the next one repeats nothing."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from api.bodies import PageBody, RecommendBody
from api.errors import STORE_ERRORS, ApiError
from api.logs import line
from features.events import US_PER_SECOND
from features.pages import KEPT_US, PageChain
from features.store import Store
from recsys.types import Ask

log = logging.getLogger(__name__)

MAX_SHOWN = 2_000  # items over all pages: nobody scrolls further, and each page excludes them all
CAPACITY = 200_000  # ids, at most 50 MB of them; the store knows the slates that do not fit
USUAL = 20  # ids, what a slate costs beside those that were asked with: 10,000 usual slates fit
YOUNG_US = 2 * US_PER_SECOND  # a slate this young may still be on its way to the store
LOOK_AGAIN_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(slots=True)
class Chain:
    """The pages of one slate so far."""

    root_id: str
    body: RecommendBody
    turned_at_us: int  # when the latest page was asked for
    shown: list[str]
    page_ids: list[str] = field(default_factory=list)  # but the first

    @property
    def size(self) -> int:
        """In ids; those shown are the catalogue's own texts."""
        beside = len(self.body.shown_beside) if isinstance(self.body, PageBody) else 0
        return USUAL + len(self.body.exclude_ids) + len(self.body.context_item_ids) + beside


class PageMemory:
    """The latest slates of this process; the store has those of all, a moment later.

    Everything but the waiting for the store is one step of the event loop: between the return of
    `find` and `turn` nothing else may run, so that two requests for the next page differ.
    """

    def __init__(self, store: Store, *, capacity: int = CAPACITY) -> None:
        self._store = store
        self._capacity = capacity
        self._chains: OrderedDict[str, Chain] = OrderedDict()  # by root_id, the newest last
        self._root_of: dict[str, str] = {}  # of further pages
        self._size = 0

    def __len__(self) -> int:
        return len(self._chains)

    def begin(self, ask: Ask, body: RecommendBody, item_ids: Sequence[str]) -> None:
        """A first page was answered."""
        self._keep(Chain(ask.request_id, body, ask.now_us, list(item_ids)))

    def turn(self, chain: Chain, ask: Ask, item_ids: Sequence[str]) -> None:
        """A further page was answered."""
        chain.shown.extend(item_ids)
        chain.page_ids.append(ask.request_id)
        chain.turned_at_us = ask.now_us
        self._root_of[ask.request_id] = chain.root_id
        self._keep(chain)

    async def find(self, request_id: str, now_us: int) -> tuple[Chain, tuple[str, ...]]:
        """The slate that the page belongs to, and what could not be read on the way.

        ApiError `page_expired` if nobody knows it any more.
        """
        if _asked_at_us(request_id) < now_us - KEPT_US:
            raise expired()
        degraded: tuple[str, ...] = ()
        stored = None
        try:
            stored = await self._stored(request_id, now_us)
        except STORE_ERRORS as error:
            if self._recalled(request_id) is None:
                raise
            log.error(line("pages_failed", cause=repr(error)))
            degraded = ("pages",)  # what other processes showed may come again
        chain = self._recalled(request_id)
        if stored is not None:
            chain = self._joined(chain, stored, now_us)
        if chain is None:
            raise expired()
        return chain, degraded

    def forget(self, user_id: str) -> None:
        """Drop what an erased user was shown."""
        for root_id in [r for r, chain in self._chains.items() if chain.body.user_id == user_id]:
            self._drop(root_id)

    def _recalled(self, request_id: str) -> Chain | None:
        return self._chains.get(self._root_of.get(request_id, request_id))

    async def _stored(self, request_id: str, now_us: int) -> PageChain | None:
        is_young = now_us - _asked_at_us(request_id) < YOUNG_US
        for wait_s in LOOK_AGAIN_S if is_young else (0.0,):
            await asyncio.sleep(wait_s)
            found = await asyncio.to_thread(
                self._store.pages.chain, request_id, since_us=now_us - KEPT_US
            )
            if found is not None or self._recalled(request_id) is not None:
                return found
        return None

    def _joined(self, chain: Chain | None, stored: PageChain, now_us: int) -> Chain | None:
        """What this process has shown and what all have; None if an older code wrote the ask."""
        if chain is None:
            chain = self._chains.get(stored.root_id)
        if chain is None:
            try:
                body = PageBody.model_validate_json(stored.asked)
            except ValidationError as error:
                log.error(line("page_unreadable", cause=repr(error)))
                return None
            chain = Chain(stored.root_id, body, now_us, [])
            self._keep(chain)
        known = set(chain.shown)
        chain.shown.extend(i for i in stored.item_ids if i not in known)
        return chain

    def _keep(self, chain: Chain) -> None:
        if chain.root_id not in self._chains:
            self._size += chain.size
        self._chains[chain.root_id] = chain
        self._chains.move_to_end(chain.root_id)
        since_us = chain.turned_at_us - KEPT_US
        while (oldest := next(iter(self._chains.values()))) is not chain and (
            self._size > self._capacity or oldest.turned_at_us < since_us
        ):
            self._drop(oldest.root_id)

    def _drop(self, root_id: str) -> None:
        chain = self._chains.pop(root_id)
        self._size -= chain.size
        for page_id in chain.page_ids:
            self._root_of.pop(page_id, None)


def expired(why: str = "it was shown more than 30 minutes ago, or never") -> ApiError:
    return ApiError(
        404,
        f"There is no next page of this slate: {why}. Ask POST /v1/recommend again.",
        code="page_expired",
    )


def _asked_at_us(request_id: str) -> int:
    """A request_id begins with its milliseconds, see api.exchange."""
    return int(request_id[:12], 16) * 1_000
