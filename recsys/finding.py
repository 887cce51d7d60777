"""From a question to candidates: what the words match, or what the sources answer.

What no feature of the ranker stands for, matches of words and lists of baskets, enters the
candidates without a source's rank.
"""

import logging
from dataclasses import dataclass, field, replace

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array
from features.views import AFFINITIES, SOURCES
from recsys.bundle import BOUGHT, Bundle
from recsys.retrieval.asking import Question, any_item, as_for_shopper, without
from recsys.retrieval.fusion import added, of_items
from recsys.retrieval.merge import merge, retrieve
from recsys.types import Candidates, Queries, Retrieved

log = logging.getLogger(__name__)
SEARCH_DEPTH = 200  # items that match the words before they are personalised
WORDS = "words"
_NO_CANDIDATES = merge({}, 1)


@dataclass(slots=True, kw_only=True)
class Found:
    """One request on its way: what was answered, and what has to be said about the answer."""

    question: Question
    answers: dict[str, Retrieved] = field(default_factory=dict)
    candidates: Candidates = field(default_factory=lambda: _NO_CANDIDATES)
    words_vector: Float32Array | None = None  # (1, d) what was typed, among the items' words
    may_top_up: BoolArray = field(default_factory=lambda: np.empty(0, np.bool_))  # (n_items,)
    degraded: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)

    def failed(self, part: str) -> None:
        if part not in self.degraded:
            self.degraded.append(part)

    def fell_back_on(self, part: str) -> None:
        if part not in self.fallbacks:
            self.fallbacks.append(part)

    def further_scores(self) -> dict[str, Float32Array]:
        """(n,) by name of the answer, NaN where it has not the candidate."""
        rows = self.candidates.item_rows
        further = {name: a for name, a in self.answers.items() if name not in SOURCES}
        return {name: of_items(rows, a, a.scores[0]) for name, a in further.items()}

    def enter(self, rows: Int32Array) -> bool:
        """Candidates that none of the ranker's sources found; whether there are any."""
        before = self.candidates
        extra = added(before.item_rows, rows)
        padding = np.full((len(extra), len(SOURCES)), np.nan, np.float32)
        if len(extra):
            self.candidates = Candidates(
                offsets=np.array([0, len(before) + len(extra)], np.int64),
                item_rows=np.concatenate([before.item_rows, extra]),
                source_scores=np.concatenate([before.source_scores, padding]),
                source_ranks=np.concatenate([before.source_ranks, padding]),
                query_vectors=before.query_vectors,
            )
        return len(extra) > 0

    def top_up(self, bundle: Bundle, allowed: BoolArray, n: int, said: str = "popular") -> None:
        """The n most popular of `allowed` that are no candidates yet."""
        if self.enter(bundle.most_popular(without(allowed, self.candidates.item_rows), n)):
            self.fell_back_on(said)


def find(bundle: Bundle, asked: Question, words: str | None, k: int) -> Found:
    """Candidates of the words, or of the sources about what the policy says."""
    found = Found(question=asked)
    if asked.fell_back:
        found.fell_back_on("shopper")
    if words is not None:
        _match_words(bundle, found, words, k)
    if not found.answers:
        _ask_sources(bundle, found)
    found.candidates = merge(found.answers, 1)
    if found.words_vector is not None or asked.sources is not asked.shopper:
        found.candidates.query_vectors = _shopper_vectors(bundle, found)
    for name, answer in found.answers.items():
        if name not in SOURCES:
            found.enter(answer.item_rows[0])
    return found


def _match_words(bundle: Bundle, found: Found, words: str, k: int) -> None:
    """Where the words cannot be understood, what suits the shopper is better than nothing."""
    asked = found.question
    try:
        vector = bundle.text.embed_queries([words])
        allowed = asked.sources.allowed
        rows, scores = bundle.text.words.search(vector, max(SEARCH_DEPTH, k), allowed)
    except Exception:  # as of a source: one broken part must not cost the answer
        log.exception("the words could not be searched")
        found.failed(WORDS)
        found.fell_back_on("shopper")
        found.question = replace(asked, policy=as_for_shopper(asked.policy))
    else:
        found.answers = {WORDS: Retrieved(rows, scores)}
        found.words_vector = vector


def _ask_sources(bundle: Bundle, found: Found) -> None:
    """Where no basket tells what goes with the item, what is looked at with it has to do."""
    asked = found.question
    sizes = asked.policy.sources
    _ask(bundle, found, asked.sources, sizes)
    if sizes.get(BOUGHT, 0) > 0 and not _any(found.answers.get(BOUGHT)):
        found.fell_back_on("co_visited")
        if sizes.get("co_visited", 0) <= 0:
            _ask(bundle, found, asked.sources, {"co_visited": sizes[BOUGHT]})


def _ask(bundle: Bundle, found: Found, queries: Queries, sizes: dict[str, int]) -> None:
    asked = found.question
    extra = bundle.bought_together
    sources = bundle.sources if extra is None else (*bundle.sources, extra)
    # what a slate is about never comes back, what was seen not where that is hidden
    beyond = asked.policy.filter_viewed or len(asked.about_rows) > 0
    answers, failed = retrieve(sources, queries, sizes, beyond_history=beyond)
    found.answers |= answers
    for source in failed:
        found.failed(source)


def _shopper_vectors(bundle: Bundle, found: Found) -> dict[str, Float32Array]:
    """The ranker's affinities are the shopper's, whatever the sources were asked about."""
    vectors: dict[str, Float32Array] = {}
    for source in bundle.sources:
        if source.name not in AFFINITIES:
            continue
        try:
            answer = source.candidates(any_item(found.question.shopper), 0)
        except Exception:  # one broken source must not cost the answer
            log.exception("candidate source failed source=%s", source.name)
            found.failed(source.name)
        else:
            if answer.query_vectors is not None:
                vectors[source.name] = answer.query_vectors
    return vectors


def _any(answer: Retrieved | None) -> bool:
    return answer is not None and bool((answer.item_rows >= 0).any())
