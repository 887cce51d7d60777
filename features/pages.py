"""Which slates are pages of one list, so that a next page repeats nothing."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, exists, select

from features.database import Database
from features.engines import insert_new
from features.events import US_PER_SECOND
from features.tables import pages, slates

KEPT_US = 30 * 60 * US_PER_SECOND  # a shopper who scrolls on after half an hour starts anew


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page; the first page's `root_id` is its own request_id."""

    request_id: str
    root_id: str
    user_id: str | None
    session_id: str | None
    asked_at_us: int
    asked: str  # JSON, the question of the first page


@dataclass(frozen=True, slots=True)
class PageChain:
    """All pages of a list so far."""

    root_id: str
    asked: str
    item_ids: tuple[str, ...]  # in the order shown


class Pages:
    """Written with their slates by `Store.append_slates`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = insert_new(database.engine, pages, "request_id")

    def write(self, connection: Connection, new_pages: Sequence[PageRecord]) -> None:
        """Within a transaction; forgets lists of which nobody asked a page for half an hour."""
        if not new_pages:
            return
        connection.execute(self._insert, [asdict(page) for page in new_pages])
        oldest_us = max(page.asked_at_us for page in new_pages) - KEPT_US
        later = pages.alias("later")
        is_read_on = exists().where(
            later.c.root_id == pages.c.root_id, later.c.asked_at_us >= oldest_us
        )
        connection.execute(delete(pages).where(pages.c.asked_at_us < oldest_us, ~is_read_on))

    def chain(self, request_id: str, *, since_us: int) -> PageChain | None:
        """None for a page that is unknown or was asked for before `since_us`."""
        asked = select(pages.c.root_id, pages.c.asked).where(
            pages.c.request_id == request_id, pages.c.asked_at_us >= since_us
        )
        with self._database.reading() as connection:
            page = connection.execute(asked).first()
            if page is None:
                return None
            shown = (
                select(slates.c.item_ids)
                .join(pages, pages.c.request_id == slates.c.request_id)
                .where(pages.c.root_id == page.root_id)
                .order_by(slates.c.seq)
            )
            lists = connection.execute(shown).scalars().all()
        return PageChain(
            page.root_id, page.asked, tuple(i for ids in lists for i in json.loads(ids))
        )
