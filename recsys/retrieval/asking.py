"""What is asked: the ranker always about the shopper, the sources perhaps about an item."""

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import BoolArray, Int32Array
from features.history import HISTORY_LENGTH
from recsys.catalog import Catalog
from recsys.policy import DEFAULT_SOURCES, Policy
from recsys.types import Ask, Queries

_NOBODY = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A release's event types by name, and which of them can anchor a slate."""

    code_of: dict[str, int]
    positive: frozenset[str]
    looking: int  # what an item in context counts as

    def known(self, ask: Ask, catalog: Catalog) -> list[tuple[int, int, int]]:
        """(item row, type, time) of the events that this release understands, oldest first."""
        return [
            (row, self.code_of[kind], time_us)
            for row, kind, time_us in zip(
                catalog.rows(ask.recent.item_ids).tolist(),
                ask.recent.event_types,
                ask.recent.event_time_us.tolist(),
                strict=True,
            )
            if row >= 0 and kind in self.code_of
        ]

    def last_liked(self, ask: Ask, catalog: Catalog) -> int:
        """Row of the item of the last positive event, -1 without one."""
        rows = catalog.rows(ask.recent.item_ids)
        for row, kind in zip(rows[::-1], ask.recent.event_types[::-1], strict=True):
            if row >= 0 and kind in self.positive:
                return int(row)
        return -1


@dataclass(frozen=True, slots=True)
class Question:
    """Two batches of one: the shopper as the ranker is asked, and what the sources are asked."""

    shopper: Queries
    sources: Queries  # `shopper` itself unless the slate is about something else
    about_rows: Int32Array  # what it is about; empty: the shopper
    not_shown: Int32Array  # that, and what is in context
    policy: Policy
    fell_back: bool  # it was to be about an item, and there is none


def question(
    ask: Ask, catalog: Catalog, words: Vocabulary, *, user_row: int, allowed: BoolArray
) -> Question:
    """Without an anchor the whole of the policy's funnel falls back to the shopper's."""
    known = words.known(ask, catalog)
    context = catalog.rows(ask.context_item_ids)
    looked_at = [(int(row), words.looking, ask.now_us) for row in context[context >= 0]]
    shopper = _queries(ask.now_us, user_row, [*known, *looked_at], allowed)
    about = ask.policy.about
    if about == "shopper" or ask.words is not None:
        return Question(shopper, shopper, _NOBODY, context, ask.policy, fell_back=False)
    if about == "context":
        rows = context[context >= 0]
    else:
        last = words.last_liked(ask, catalog)
        rows = np.array([last] if last >= 0 else [], np.int32)
    if len(rows) == 0:
        return Question(
            shopper, shopper, _NOBODY, context, as_for_shopper(ask.policy), fell_back=True
        )
    anchors = [(int(row), words.looking, ask.now_us) for row in rows]
    viewed = catalog.rows(ask.recent.item_ids) if ask.policy.filter_viewed else _NOBODY
    # no user row: a source that knows nothing of the anchor must not answer about the shopper
    sources = _queries(ask.now_us, -1, anchors, without(allowed, viewed))
    not_shown = np.union1d(context, rows).astype(np.int32)
    return Question(shopper, sources, rows, not_shown, ask.policy, fell_back=False)


def as_for_shopper(policy: Policy) -> Policy:
    """What is shown where there is nothing to go with: what suits the shopper."""
    return policy.model_copy(
        update={"about": "shopper", "sources": DEFAULT_SOURCES, "personalisation": 1.0}
    )


def any_item(queries: Queries) -> Queries:
    """The same question with every item allowed: of it only the query vectors are wanted."""
    return replace(queries, allowed=None)


def without(allowed: BoolArray, rows: Int32Array) -> BoolArray:
    """A copy in which `rows` are not allowed; -1 among them means nothing."""
    left = allowed.copy()
    left[rows[rows >= 0]] = False
    return left


def _queries(
    now_us: int, user_row: int, events: list[tuple[int, int, int]], allowed: BoolArray
) -> Queries:
    known = events[-HISTORY_LENGTH:]
    history = np.array(known, np.int64).reshape(-1, 3)
    padded = np.zeros((3, 1, HISTORY_LENGTH), np.int64)  # as wide as at night: equal sums
    padded[0] = -1
    padded[:, 0, HISTORY_LENGTH - len(known) :] = history.T
    return Queries(
        now_us=np.array([now_us], np.int64),
        user_rows=np.array([user_row], np.int32),
        history_rows=padded[0].astype(np.int32),
        history_types=padded[1].astype(np.int8),
        history_time_us=padded[2],
        allowed=allowed,
    )
