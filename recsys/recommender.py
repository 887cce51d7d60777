"""The recommender: the one list of everything that runs between a question and its slate.

Query → sources → merge → filters → features → ranker → utility → diversity → exploration. The
night asks the same functions about the past that the day asks about the present.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float32Array, Int32Array
from features.errors import DataError
from features.events import EventType
from features.history import HISTORY_LENGTH, unit_rows
from features.interactions import shopper_id
from features.views import FEATURE_NAMES, SOURCES
from recsys.bundle import Bundle, ItemVectors
from recsys.policy import Policy
from recsys.ranking.features import feature_rows, history_of
from recsys.ranking.filters import keep_mask
from recsys.ranking.reasons import reasons
from recsys.ranking.slate import Choice, best_rank_utility, diversify, explore, utility
from recsys.retrieval.merge import merge, retrieve, select
from recsys.types import Answer, Ask, Candidates, ItemFilter, Queries, Retrieved, Slate

log = logging.getLogger(__name__)
SEARCH_DEPTH = 200  # items that match the words before they are personalised


@dataclass(slots=True, kw_only=True)
class Scored:
    """Candidates of one query with what the ranker made of them."""

    candidates: Candidates
    features: Float32Array
    probabilities: Float32Array  # (n, n_actions)
    utilities: Float32Array  # (n,)
    degraded: list[str]


class Recommender:
    """A release in memory, and the items that arrived since."""

    source_names = SOURCES
    feature_names = FEATURE_NAMES

    def __init__(self, bundle: Bundle, release_id: str) -> None:
        self.release_id = release_id
        self.bundle = bundle
        self.catalog = bundle.catalog
        self.event_types: tuple[EventType, ...] = bundle.event_types
        self._type_of = {kind.name: code for code, kind in enumerate(bundle.event_types)}
        positive = [kind.name for kind in bundle.event_types if kind.is_positive]
        self._looking = self._type_of["view" if "view" in positive else positive[0]]
        self.actions = bundle.ranker.actions if bundle.ranker else tuple(positive)

    @classmethod
    def load(cls, folder: Path, *, release_id: str, threads: int = 1) -> "Recommender":
        """Raises ReleaseError for a folder that this code cannot serve."""
        return cls(Bundle.load(folder, threads=threads), release_id)

    def recommend(self, ask: Ask) -> Answer:
        """Best utility first; shorter than `ask.k` only if fewer items are available."""
        clock = _Stopwatch()
        queries = self.queries(ask)
        answers, failed = retrieve(
            self.bundle.sources,
            queries,
            ask.policy.sources,
            beyond_history=ask.policy.filter_viewed,
        )
        clock.lap("sources")
        candidates = merge(answers, 1)
        candidates, removed, relaxed = self._eligible(ask, queries, candidates)
        clock.lap("filters")
        scored = self._score(queries, candidates, ask.policy, failed + relaxed)
        clock.lap("ranker")
        choice = self._compose(ask, scored)
        answer = self._answer(ask, queries, scored, choice, removed)
        clock.lap("slate")
        answer.stage_ms.update(clock.laps_ms)
        return answer

    def search(self, words: str, ask: Ask) -> Answer:
        """Items that match the words, those that suit the shopper a little higher."""
        clock = _Stopwatch()
        queries = self.queries(ask)
        vector = self.bundle.text.embed_queries([words])
        allowed = _without(queries.allowed, self.catalog.rows(ask.exclude_item_ids))
        rows, scores = self.bundle.text.words.search(vector, SEARCH_DEPTH, allowed)
        clock.lap("sources")
        answers, failed = retrieve(self.bundle.sources, queries, dict.fromkeys(SOURCES, 1))
        found = merge({"similar_text": Retrieved(rows, scores)}, 1)
        vectors = {k: v.query_vectors for k, v in answers.items() if v.query_vectors is not None}
        found.query_vectors = vectors
        scored = self._score(queries, found, ask.policy, failed)
        match = found.source_scores[:, SOURCES.index("similar_text")]
        share = ask.policy.search_personalisation
        scored.utilities = (1 - share) * _scaled(match) + share * _scaled(scored.utilities)
        order = np.argsort(-scored.utilities, kind="stable")[: ask.k]
        choice = Choice(order, np.ones(len(order), np.float32))
        clock.lap("ranker")
        answer = self._answer(ask, queries, scored, choice, {}, otherwise="matches your words")
        answer.stage_ms.update(clock.laps_ms)
        return answer

    def similar(
        self, item_id: str, *, k: int, item_filter: ItemFilter | None = None
    ) -> list[tuple[str, float]]:
        """Items like this one: the mean of text and co-visitation likeness, best first."""
        row = self.catalog.row(item_id)
        if row < 0:
            raise DataError(f"no item {item_id!r} in this catalogue: put it first, or check the id")
        allowed = self.catalog.allowed(item_filter)
        allowed[row] = False
        text = self.bundle.text.words  # what is taken together, co-visitation says already
        near, _ = text.search(text.vectors[[row]], 3 * k, allowed)
        visited, _ = self.bundle.neighbours.of(row)
        rows = np.union1d(near[near >= 0], visited[allowed[visited]][: 3 * k]).astype(np.int32)
        lists = dict(zip(*self.bundle.neighbours.of(row), strict=True))
        taken = np.array([lists.get(r, 0.0) for r in rows], np.float32)
        alike = text.vectors[rows] @ text.vectors[row]
        scores = 0.5 * alike + 0.5 * taken / max(float(taken.max(initial=0)), 1e-9)
        best = np.lexsort((rows, -scores))[:k]
        return [(self.catalog.item_ids[rows[i]], float(scores[i])) for i in best]

    def embed_items(self, items: pl.DataFrame) -> ItemVectors:
        """Slow (an encoder pass, room for new items) and safe in any thread: no answer changes."""
        return self.bundle.embed_items(items)

    def put_items(self, items: pl.DataFrame, vectors: ItemVectors) -> None:
        """Retrievable from the next request on."""
        self.bundle.put_items(items, vectors)

    def remove_items(self, item_ids: Sequence[str]) -> None:
        self.catalog.remove(item_ids)

    def queries(self, ask: Ask) -> Queries:
        """The request as a batch of one; what the shopper is looking at counts as just viewed."""
        known = [
            (row, self._type_of[kind], time_us)
            for row, kind, time_us in zip(
                self.catalog.rows(ask.recent.item_ids),
                ask.recent.event_types,
                ask.recent.event_time_us,
                strict=True,
            )
            if row >= 0 and kind in self._type_of
        ]
        context = self.catalog.rows(ask.context_item_ids)
        known += [(row, self._looking, ask.now_us) for row in context[context >= 0]]
        known = known[-HISTORY_LENGTH:]
        history = np.array(known, np.int64).reshape(-1, 3)
        padded = np.zeros((3, 1, HISTORY_LENGTH), np.int64)  # as wide as at night: equal sums
        padded[0] = -1
        padded[:, 0, HISTORY_LENGTH - len(known) :] = history.T
        return Queries(
            now_us=np.array([ask.now_us], np.int64),
            user_rows=np.array([self._user_row(ask)], np.int32),
            history_rows=padded[0].astype(np.int32),
            history_types=padded[1].astype(np.int8),
            history_time_us=padded[2],
            allowed=self.catalog.allowed(ask.filter),
        )

    def _user_row(self, ask: Ask) -> int:
        shopper = shopper_id(ask.user_id, ask.session_id)
        return -1 if shopper is None else self.bundle.factors.user_row(shopper)

    def _eligible(
        self, ask: Ask, queries: Queries, candidates: Candidates
    ) -> tuple[Candidates, dict[str, int], list[str]]:
        """Remove what may not be shown, then top up from what is popular, so no slate is short."""
        removals = {
            "excluded": self.catalog.rows(ask.exclude_item_ids),
            "in_context": self.catalog.rows(ask.context_item_ids),
        }
        if ask.policy.filter_viewed:
            removals["viewed"] = self.catalog.rows(ask.recent.item_ids)
        keep, removed = keep_mask(candidates.item_rows, removals)
        candidates = select(candidates, keep)
        relaxed: list[str] = []
        if len(candidates) < ask.k:
            candidates = self._topped_up(ask.k, queries.allowed, candidates, removals)
        if len(candidates) == 0 and "viewed" in removals:
            removals.pop("viewed")
            candidates = self._topped_up(ask.k, queries.allowed, candidates, removals)
            relaxed += ["filter_viewed"] * (len(candidates) > 0)
        return candidates, removed, relaxed

    def _topped_up(
        self, k: int, allowed: BoolArray | None, found: Candidates, removals: dict[str, Int32Array]
    ) -> Candidates:
        taken = np.concatenate([*removals.values(), found.item_rows])
        extra = self.bundle.most_popular(_without(allowed, taken), k - len(found))
        padding = np.full((len(extra), len(SOURCES)), np.nan, np.float32)
        return Candidates(
            offsets=np.array([0, len(found) + len(extra)], np.int64),
            item_rows=np.concatenate([found.item_rows, extra]),
            source_scores=np.concatenate([found.source_scores, padding]),
            source_ranks=np.concatenate([found.source_ranks, padding]),
            query_vectors=found.query_vectors,
        )

    def _score(
        self, queries: Queries, candidates: Candidates, policy: Policy, degraded: list[str]
    ) -> Scored:
        """Without a ranker, or when it fails, candidates keep the order of their best rank."""
        features = feature_rows(queries, candidates, self.bundle.feature_inputs)
        probabilities = np.full((len(candidates), len(self.actions)), np.nan, np.float32)
        try:
            if self.bundle.ranker is None:
                raise DataError("this release has no ranker: train one, or serve by source rank")
            probabilities = self.bundle.ranker.probabilities(features)
            utilities = utility(probabilities, self.action_weights(policy))
            if not np.isfinite(utilities).all():
                raise DataError("the ranker answered with NaN or inf: run the night again")
        except Exception as error:  # noqa: BLE001  the slate must not depend on the ranker alone
            log.warning("ranker skipped release_id=%s reason=%s", self.release_id, error)
            degraded = [*degraded, "ranker"]
            utilities = best_rank_utility(candidates.source_ranks)
        return Scored(
            candidates=candidates,
            features=features,
            probabilities=probabilities,
            utilities=utilities,
            degraded=degraded,
        )

    def action_weights(self, policy: Policy) -> Float32Array:
        """(n_actions,) what one action of each kind is worth."""
        own = {kind.name: kind.weight for kind in self.event_types}
        weights = {**own, **policy.action_weights}
        return np.array([weights[action] for action in self.actions], np.float32)

    def _compose(self, ask: Ask, scored: Scored) -> Choice:
        order = np.argsort(-scored.utilities, kind="stable")
        near_top = order[: 4 * ask.k]
        text = self.bundle.text.taste.vectors
        vectors = np.zeros((len(order), text.shape[1]), np.float32)
        vectors[near_top] = unit_rows(text[scored.candidates.item_rows[near_top]])
        order = diversify(order, scored.utilities, vectors, ask.k, ask.policy.diversity)
        seed = hashlib.blake2b(ask.request_id.encode(), digest_size=8).digest()
        return explore(
            order,
            ask.k,
            exploration=ask.policy.exploration,
            pool_size=ask.policy.exploration_pool,
            rng=np.random.default_rng(int.from_bytes(seed)),
        )

    def _answer(
        self,
        ask: Ask,
        queries: Queries,
        scored: Scored,
        choice: Choice,
        removed: dict[str, int],
        *,
        otherwise: str | None = None,
    ) -> Answer:
        rows = scored.candidates.item_rows[choice.chosen]
        history = history_of(queries, 0, self.bundle.feature_inputs.type_weights)
        kinds = queries.history_types[0][queries.history_rows[0] >= 0]
        return Answer(
            item_ids=tuple(self.catalog.item_ids[row] for row in rows),
            slate=Slate(
                item_rows=rows,
                scores=scored.utilities[choice.chosen],
                propensities=choice.propensities,
                probabilities=scored.probabilities[choice.chosen],
                features=scored.features[choice.chosen],
                source_scores=scored.candidates.source_scores[choice.chosen],
            ),
            reasons=reasons(
                rows,
                scored.candidates.source_ranks[choice.chosen],
                history,
                [self.event_types[kind].name for kind in kinds],
                self.catalog.titles,
                self.bundle.feature_inputs.relations,
                otherwise=otherwise,
            ),
            explanations=self._explain(scored, choice, ask.policy) if ask.explain else None,
            degraded=tuple(scored.degraded),
            removed=removed,
            stage_ms={},
        )

    def _explain(
        self, scored: Scored, choice: Choice, policy: Policy
    ) -> tuple[dict[str, object], ...]:
        """Source scores, probabilities, and what each feature group added to the logit."""
        groups: dict[str, Float32Array] = {}
        if self.bundle.ranker is not None and "ranker" not in scored.degraded:
            groups = self.bundle.ranker.contributions(
                scored.features[choice.chosen], self.action_weights(policy)
            )
        out: list[dict[str, object]] = []
        for position, row in enumerate(choice.chosen):
            scores = dict(zip(SOURCES, scored.candidates.source_scores[row], strict=True))
            chances = dict(zip(self.actions, scored.probabilities[row], strict=True))
            out.append(
                {
                    "source_scores": {s: float(v) for s, v in scores.items() if not np.isnan(v)},
                    "probabilities": {a: float(v) for a, v in chances.items() if not np.isnan(v)},
                    "contributions": {g: float(v[position]) for g, v in groups.items()},
                    "propensity": float(choice.propensities[position]),
                }
            )
        return tuple(out)


def _without(allowed: BoolArray | None, rows: Int32Array) -> BoolArray:
    """A copy in which `rows` are not allowed; -1 among them means nothing."""
    assert allowed is not None  # `Recommender.queries` sets it
    left = allowed.copy()
    left[rows[rows >= 0]] = False
    return left


def _scaled(values: Float32Array) -> Float32Array:
    """To 0..1 within the request; equal values all become 0."""
    low = values.min(initial=np.inf)
    spread = values.max(initial=-np.inf) - low
    return np.asarray((values - low) / max(float(spread), 1e-9), np.float32)


class _Stopwatch:
    """Milliseconds between laps; measures durations only, it does not tell the time."""

    def __init__(self) -> None:
        self._last = perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps_ms[name] = (now - self._last) * 1000
        self._last = now
