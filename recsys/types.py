"""The nouns of the request path: Query → Candidates → Slate."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from features.arrays import BoolArray, Float32Array, Int8Array, Int32Array, Int64Array
from features.events import RecentEvents
from recsys.expression import Expression
from recsys.policy import Policy
from recsys.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """A batch of questions "what should this shopper see now?"; the day asks one at a time.

    Histories are padded on the left: column -1 is the most recent event and an `item_row` of -1
    means "nothing". Only events earlier than `now_us` are in them. `user_rows` is -1 for a shopper
    the release has not met.
    """

    now_us: Int64Array  # (n,)
    user_rows: Int32Array  # (n,)
    history_rows: Int32Array  # (n, length)
    history_types: Int8Array  # (n, length) index into the release's event types
    history_time_us: Int64Array  # (n, length)
    allowed: BoolArray | None = None  # (n_items,) items that may be shown at all; None: every item

    def __len__(self) -> int:
        return len(self.now_us)

    def slice(self, start: int, stop: int) -> "Queries":
        return Queries(
            now_us=self.now_us[start:stop],
            user_rows=self.user_rows[start:stop],
            history_rows=self.history_rows[start:stop],
            history_types=self.history_types[start:stop],
            history_time_us=self.history_time_us[start:stop],
            allowed=self.allowed,
        )


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What one source answers to `n` queries: its best items, best first.

    A short answer is padded with item_row -1 and score NaN. `query_vectors` (n, d), if the source
    has them, lets the ranker ask the same question of items that other sources found.
    """

    item_rows: Int32Array  # (n, k)
    scores: Float32Array  # (n, k)
    query_vectors: Float32Array | None = None


class CandidateSource(Protocol):
    """Answers each query with items and its own score for them."""

    @property
    def name(self) -> str: ...

    def candidates(self, queries: Queries, n: int) -> Retrieved: ...


@dataclass(slots=True, kw_only=True)
class Candidates:
    """Items still in the running for a batch of queries, one row each, grouped by query.

    Query q owns rows `offsets[q]:offsets[q + 1]`. A missing source score is NaN, never 0: the
    ranker must tell "this source did not return the item" from "it returned it with score 0".
    """

    offsets: Int64Array  # (n_queries + 1,)
    item_rows: Int32Array  # (n,)
    source_scores: Float32Array  # (n, n_sources)
    source_ranks: Float32Array  # (n, n_sources) from 0
    query_vectors: dict[str, Float32Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item_rows)

    @property
    def query_index(self) -> Int32Array:
        """(n,) which query each row belongs to."""
        sizes = np.diff(self.offsets)
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slate:
    """The answer to one query: aligned columns, position 0 first."""

    item_rows: Int32Array  # (k,)
    scores: Float32Array  # (k,) utility
    propensities: Float32Array  # (k,) probability the policy gave that item that position
    probabilities: Float32Array  # (k, n_actions)
    features: Float32Array  # (k, n_features) as served
    source_scores: Float32Array  # (k, n_sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of the day, in the storefront's words."""

    request_id: str
    now_us: int
    k: int
    placement: str = "home"
    user_id: str | None = None
    session_id: str | None = None
    recent: RecentEvents = field(default_factory=RecentEvents.none)
    context_item_ids: tuple[str, ...] = ()  # what the shopper is looking at
    exclude_item_ids: tuple[str, ...] = ()
    words: str | None = None  # what the shopper typed: candidates are what matches them
    filters: tuple[Expression, ...] = ()  # an item must match all: the placement's, the request's
    rules: tuple[Rule, ...] = ()  # in force for this placement now
    first_position: int = 0  # items shown on earlier pages
    explain: bool = False
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A slate in the storefront's words; `item_ids`, `reasons` and `slate` are aligned."""

    item_ids: tuple[str, ...]
    slate: Slate
    reasons: tuple[tuple[str, ...], ...]
    explanations: tuple[dict[str, object], ...] | None
    about_item_ids: tuple[str, ...]  # what the slate goes with; empty: with the shopper
    degraded: tuple[str, ...]  # parts that failed
    # "popular": topped up by it; "viewed": seen items shown again; "shopper": nothing to be about
    # or words that could not be read; "co_visited": no baskets to tell what is bought together
    fallbacks: tuple[str, ...]
    # rule_id → items of this slate it placed or moved, those of the catalogue it hid, candidates
    # its quota passed over; rules that did nothing are not in it
    fired: dict[str, int]
    # "excluded", "hidden": items that else might be shown; "in_context", "viewed": candidates
    removed: dict[str, int]
    stage_ms: dict[str, float]
    teams: str | None = None  # interleaved: whose each position is, see recsys.experiments
