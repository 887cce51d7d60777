"""The recommender: the one list of everything that runs between a question and its slate.

Query → sources → merge → filters → features → ranker → utility → rules → diversity → exploration.
Search, similar, trending and all other placements differ in their policy and come this way too.
The night asks the same functions about the past that the day asks about the present.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float32Array
from features.errors import DataError
from features.events import EventType
from features.interactions import shopper_id
from features.views import FEATURE_NAMES, SOURCES
from recsys.bundle import Bundle, ItemVectors
from recsys.finding import WORDS, Found, find
from recsys.policy import Policy
from recsys.ranking.compose import compose
from recsys.ranking.explain import explanations
from recsys.ranking.features import feature_rows
from recsys.ranking.filters import keep_mask
from recsys.ranking.rules import Pins, Ruling
from recsys.ranking.scoring import Scored
from recsys.ranking.slate import Choice, best_rank_utility, utility
from recsys.retrieval.asking import Question, Vocabulary, question, without
from recsys.retrieval.fusion import fused
from recsys.retrieval.merge import select
from recsys.telling import told
from recsys.types import Answer, Ask, Queries, Slate

log = logging.getLogger(__name__)
WIDER = 500  # popular items that quotas may choose from where the candidates leave places empty


class Recommender:
    """A release in memory, and the items that arrived since."""

    source_names = SOURCES
    feature_names = FEATURE_NAMES

    def __init__(self, bundle: Bundle, release_id: str) -> None:
        self.release_id = release_id
        self.bundle = bundle
        self.catalog = bundle.catalog
        self.event_types: tuple[EventType, ...] = bundle.event_types
        code_of = {kind.name: code for code, kind in enumerate(bundle.event_types)}
        positive = [kind.name for kind in bundle.event_types if kind.is_positive]
        looking = code_of["view" if "view" in positive else positive[0]]
        self._vocabulary = Vocabulary(code_of, frozenset(positive), looking)
        self.actions = bundle.ranker.actions if bundle.ranker else tuple(positive)

    @classmethod
    def load(cls, folder: Path, *, release_id: str, threads: int = 1) -> "Recommender":
        """Raises ReleaseError for a folder that this code cannot serve."""
        return cls(Bundle.load(folder, threads=threads), release_id)

    def recommend(self, ask: Ask) -> Answer:
        """Best score first, pins apart; shorter than `ask.k` only if fewer items are available."""
        clock = _Stopwatch()
        ruling = Ruling.of(ask, self.catalog)
        allowed, removed = self._allowed(ask, ruling)
        hidden = dict(ruling.fired)
        found = find(self.bundle, self._question(ask, allowed), ask.words, ask.k)
        clock.lap("sources")
        pins = ruling.pins(ask, allowed, found.question.not_shown)
        removed |= self._eligible(ask, found, allowed, pins)
        clock.lap("filters")
        scored = self._score(found, ruling)
        clock.lap("ranker")
        vectors = self.bundle.text.taste.vectors
        choice = compose(ask, scored, ruling, pins, vectors)
        if ruling.has_quota and len(choice.chosen) < ask.k:  # others than those it passed over
            found.top_up(self.bundle, found.may_top_up, WIDER)
            scored = self._score(found, ruling)
            ruling.fired = hidden
            choice = compose(ask, scored, ruling, pins, vectors)
        answer = self._answer(ask, found, scored, choice, ruling, removed)
        clock.lap("slate")
        answer.stage_ms.update(clock.laps_ms)
        return answer

    def embed_items(self, items: pl.DataFrame) -> ItemVectors:
        """Slow (an encoder pass, room for new items) and safe in any thread: no answer changes."""
        return self.bundle.embed_items(items)

    def put_items(self, items: pl.DataFrame, vectors: ItemVectors) -> None:
        """Retrievable from the next request on."""
        self.bundle.put_items(items, vectors)

    def remove_items(self, item_ids: Sequence[str]) -> None:
        self.catalog.remove(item_ids)

    def shoppers(self) -> list[str]:
        """Names, by `features.interactions.shopper_id`, of whom the release has learned."""
        return self.bundle.factors.shoppers()

    def forget_shoppers(self, shoppers: Iterable[str]) -> None:
        """Answer them as strangers; what they do from now on counts."""
        self.bundle.factors.forget(shoppers)

    def queries(self, ask: Ask) -> Queries:
        """The request as a batch of one; what the shopper is looking at counts as just viewed."""
        return self._question(ask, self._allowed(ask, Ruling.of(ask, self.catalog))[0]).shopper

    def action_weights(self, policy: Policy) -> Float32Array:
        """(n_actions,) what one action of each kind is worth."""
        own = {kind.name: kind.weight for kind in self.event_types}
        weights = {**own, **policy.action_weights}
        return np.array([weights[action] for action in self.actions], np.float32)

    def _allowed(self, ask: Ask, ruling: Ruling) -> tuple[BoolArray, dict[str, int]]:
        """(n_items,) what may be shown, and how many items the request and hide rules took away."""
        allowed = self.catalog.allowed(ask.filters, ask.now_us)
        excluded = np.unique(self.catalog.rows(ask.exclude_item_ids))
        excluded = excluded[excluded >= 0]
        taken = {"excluded": int(np.count_nonzero(allowed[excluded]))}
        allowed[excluded] = False
        taken["hidden"] = ruling.hide(allowed)
        return allowed, {reason: n for reason, n in taken.items() if n}

    def _question(self, ask: Ask, allowed: BoolArray) -> Question:
        shopper = shopper_id(ask.user_id, ask.session_id)
        user_row = -1 if shopper is None else self.bundle.factors.user_row(shopper)
        return question(ask, self.catalog, self._vocabulary, user_row=user_row, allowed=allowed)

    def _eligible(self, ask: Ask, found: Found, allowed: BoolArray, pins: Pins) -> dict[str, int]:
        """Remove what may not be shown, then top up from what is popular, so no slate is short."""
        removals = {"in_context": found.question.not_shown}
        if found.question.policy.filter_viewed:
            viewed = self.catalog.rows(ask.recent.item_ids)
            removals["viewed"] = viewed[~np.isin(viewed, list(pins))] if pins else viewed
        keep, removed = keep_mask(found.candidates.item_rows, removals)
        found.candidates = select(found.candidates, keep)
        if pins:
            found.enter(np.array(list(pins), np.int32))
        of_later_pages = sum(at >= ask.first_position + ask.k for at, _ in pins.values())
        missing = ask.k + of_later_pages - len(found.candidates)
        found.may_top_up = without(allowed, np.concatenate(list(removals.values())))
        if missing > 0:
            found.top_up(self.bundle, found.may_top_up, missing)
        if len(found.candidates) == 0:
            found.may_top_up = without(allowed, removals["in_context"])
            found.top_up(self.bundle, found.may_top_up, ask.k, said="viewed")
        return removed

    def _score(self, found: Found, ruling: Ruling) -> Scored:
        """Utility for the shopper, blended with the match, moved by rules."""
        policy = found.question.policy
        scored = self._ranked(found, policy)
        if policy.personalisation < 1:
            rows = found.candidates.item_rows
            if found.words_vector is not None:
                match = self.bundle.text.words.vectors[rows] @ found.words_vector[0]
                scored.blend(WORDS, match, policy.personalisation)
            else:
                match = fused(rows, found.answers.values())
                scored.blend("sources", match, policy.personalisation)
        ruling.move(scored)
        return scored

    def _ranked(self, found: Found, policy: Policy) -> Scored:
        """Without a ranker, or when it fails, candidates keep the order of their best rank."""
        candidates = found.candidates
        features = feature_rows(found.question.shopper, candidates, self.bundle.feature_inputs)
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
            found.failed("ranker")
            utilities = best_rank_utility(candidates.source_ranks)
        return Scored(
            candidates=candidates,
            features=features,
            probabilities=probabilities,
            utilities=utilities,
            ranked="ranker" not in found.degraded,
        )

    def _answer(
        self,
        ask: Ask,
        found: Found,
        scored: Scored,
        choice: Choice,
        ruling: Ruling,
        removed: dict[str, int],
    ) -> Answer:
        rows = scored.candidates.item_rows[choice.chosen]
        ruling.count_moved(rows)
        ids = self.catalog.item_ids
        return Answer(
            item_ids=tuple(ids[row] for row in rows),
            slate=Slate(
                item_rows=rows,
                scores=scored.scores[choice.chosen],
                propensities=choice.propensities,
                probabilities=scored.probabilities[choice.chosen],
                features=scored.features[choice.chosen],
                source_scores=scored.candidates.source_scores[choice.chosen],
            ),
            reasons=told(
                self.bundle, ask, found.question, scored, choice, found.answers.get(WORDS)
            ),
            explanations=self._explained(found, scored, choice) if ask.explain else None,
            about_item_ids=tuple(ids[row] for row in found.question.about_rows),
            degraded=tuple(found.degraded),
            fallbacks=tuple(found.fallbacks),
            fired=ruling.fired,
            removed=removed,
            stage_ms={},
        )

    def _explained(
        self, found: Found, scored: Scored, choice: Choice
    ) -> tuple[dict[str, object], ...]:
        weights = self.action_weights(found.question.policy)
        return explanations(
            scored, choice, self.bundle.ranker, weights, self.actions, found.further_scores()
        )


class _Stopwatch:
    """Milliseconds between laps; measures durations only, it does not tell the time."""

    def __init__(self) -> None:
        self._last = perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps_ms[name] = (now - self._last) * 1000
        self._last = now
