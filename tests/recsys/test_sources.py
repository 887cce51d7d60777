from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from features.arrays import Float32Array
from features.covisitation import STEP_POWER, Neighbours
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.snapshot import SNAPSHOT_VIEWS, Snapshots
from recsys.retrieval.collaborative import FactorModel
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.sequence import SequenceCard, SequenceModel
from recsys.retrieval.sources import (
    FRESH_DAYS,
    MOST_FRESH,
    Collaborative,
    CoVisited,
    NewItems,
    NextItem,
    SimilarText,
    Trending,
    taste_weights,
)
from recsys.types import CandidateSource, Queries
from tests.recsys.contracts import N_ITEMS, NOW_US, CandidateSourceContract, found, queries

WEIGHTS = np.array([kind.weight for kind in DEFAULT_EVENT_TYPES], np.float32)
VIEW, PURCHASE, DISMISS = (
    next(n for n, kind in enumerate(DEFAULT_EVENT_TYPES) if kind.name == name)
    for name in ("view", "purchase", "dismiss")
)


def vectors(n: int, dim: int = 6) -> Float32Array:
    return np.random.default_rng(n).normal(size=(n, dim)).astype(np.float32)


def popular(*counts: list[float]) -> Snapshots:
    """One tick a day up to today, the last of `counts` today's."""
    values = np.zeros((len(counts), len(counts[0]), len(SNAPSHOT_VIEWS)), np.float32)
    values[:, :, SNAPSHOT_VIEWS.index("decayed_popularity")] = counts
    days = np.arange(len(counts))[::-1]
    return Snapshots(NOW_US - days * US_PER_DAY, values)


def with_types(asked: Queries, *types: int) -> Queries:
    codes = np.zeros_like(asked.history_types)
    codes[0, -len(types) :] = types
    return Queries(
        now_us=asked.now_us,
        user_rows=asked.user_rows,
        history_rows=asked.history_rows,
        history_types=codes,
        history_time_us=asked.history_time_us,
        allowed=asked.allowed,
    )


class TestNextItem(CandidateSourceContract):
    @pytest.fixture(autouse=True)
    def _trained(self, tiny_release: tuple[Path, str]) -> None:
        folder = tiny_release[0] / tiny_release[1] / "sequence"
        self._card = SequenceCard.load(folder)
        self._session = ort.InferenceSession(str(folder / "model.onnx"))

    def source(self, n_items: int) -> CandidateSource:
        index = VectorIndex(vectors(n_items, self._card.dim))
        adaptor = np.zeros((4, self._card.dim), np.float32)
        return NextItem(SequenceModel(self._card, self._session, index, adaptor), WEIGHTS)

    def test_a_dismissed_item_is_no_part_of_the_sequence(self, made: CandidateSource) -> None:
        dismissed = made.candidates(with_types(queries([3, 9]), VIEW, DISMISS), 10)
        without = made.candidates(queries([3]), 10)
        np.testing.assert_array_equal(dismissed.item_rows, without.item_rows)

    def test_without_history_it_is_silent(self, made: CandidateSource) -> None:
        assert len(found(made.candidates(queries([]), 5))) == 0


class TestSimilarText(CandidateSourceContract):
    def source(self, n_items: int) -> CandidateSource:
        return SimilarText(VectorIndex(vectors(n_items)), WEIGHTS)

    def test_the_nearest_to_a_single_item_is_itself(self, made: CandidateSource) -> None:
        unit = vectors(N_ITEMS)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        answer = SimilarText(VectorIndex(unit), WEIGHTS).candidates(queries([8]), 3)
        assert found(answer)[0] == 8
        assert answer.scores[0, 0] == pytest.approx(1)

    def test_a_dismissed_item_pushes_its_likes_away(self) -> None:
        index = VectorIndex(np.array([[1, 0], [-1, 0], [0, 1]], np.float32))
        answer = SimilarText(index, WEIGHTS).candidates(with_types(queries([0]), DISMISS), 3)
        assert found(answer).tolist() == [1, 2, 0]


class TestCoVisited(CandidateSourceContract):
    def source(self, n_items: int) -> CandidateSource:
        rows = [np.sort(np.arange(i + 1, min(i + 6, n_items))) for i in range(n_items)]
        indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        scores = [np.linspace(1, 0.2, len(r)) for r in rows]
        none = [np.empty(0)]
        return CoVisited(
            Neighbours(
                indptr,
                np.concatenate([*none, *rows]).astype(np.int32),
                np.concatenate([*none, *scores]).astype(np.float32),
                np.zeros(int(indptr[-1]), np.float32),
            ),
            WEIGHTS,
        )

    def test_lists_are_summed_by_how_recent_and_how_strong_the_event_was(self) -> None:
        lists = Neighbours(
            np.array([0, 1, 3, 3]),
            np.array([2, 2, 0], np.int32),
            np.array([1, 0.5, 0.25], np.float32),
            np.zeros(3, np.float32),
        )
        asked = with_types(queries([0, 1]), VIEW, PURCHASE)
        answer = CoVisited(lists, WEIGHTS).candidates(asked, 3)
        older, newer = 2**-STEP_POWER * 1, 1.0 * 8
        total = older + newer
        assert found(answer).tolist() == [2, 0]
        assert answer.scores[0, :2].tolist() == pytest.approx(
            [(older * 1 + newer * 0.5) / total, newer * 0.25 / total]
        )


class TestCollaborative(CandidateSourceContract):
    def source(self, n_items: int) -> CandidateSource:
        users, no_tags = np.ones((1, 6), np.float32), np.zeros((0, 6), np.float32)
        index = VectorIndex(vectors(n_items))
        model = FactorModel(["ann"], users, index, [], no_tags, np.eye(6, dtype=np.float32))
        return Collaborative(model, WEIGHTS)

    def test_a_dismissal_does_not_make_less_of_what_was_liked(self, made: CandidateSource) -> None:
        alone = made.candidates(queries([3]), 9)
        dismissed = made.candidates(with_types(queries([3, 8]), VIEW, DISMISS), 9)
        assert alone.query_vectors is not None
        assert dismissed.query_vectors is not None
        np.testing.assert_allclose(dismissed.query_vectors, alone.query_vectors, rtol=1e-5)

    def test_a_shopper_it_never_met_is_placed_by_the_history(self, made: CandidateSource) -> None:
        answer = made.candidates(self.asked(), 5)
        assert len(found(answer, 1)) == 5
        assert len(found(answer, 2)) == 0
        assert answer.query_vectors is not None
        expected = [*vectors(N_ITEMS)[5, :-1], 1.0]
        np.testing.assert_allclose(answer.query_vectors[1], expected, rtol=1e-6)

    def test_without_a_history_a_known_shopper_keeps_the_trained_factors(
        self, made: CandidateSource
    ) -> None:
        answer = made.candidates(queries([], [], user_rows=[0, -1]), 5)
        assert len(found(answer, 0)) == 5
        assert len(found(answer, 1)) == 0

    def test_a_dismissed_item_places_nobody(self, made: CandidateSource) -> None:
        assert len(found(made.candidates(with_types(queries([3]), DISMISS), 5))) == 0


class TestTrending(CandidateSourceContract):
    def source(self, n_items: int) -> CandidateSource:
        return Trending(popular(vectors(n_items)[:, 0].tolist()))

    def test_a_past_question_gets_the_answer_of_its_day(self) -> None:
        source = Trending(popular([3, 2, 1], [1, 2, 3]))
        now = queries([], [])
        now.now_us[0] -= US_PER_DAY // 2  # yesterday's last tick
        answer = source.candidates(now, 3)
        assert answer.item_rows.tolist() == [[0, 1, 2], [2, 1, 0]]
        assert answer.scores.tolist() == [[3, 2, 1], [3, 2, 1]]

    def test_the_most_popular_allowed_are_followed_by_those_too_new_to_be_counted(self) -> None:
        source = Trending(popular([1, 3, 2]))
        allowed = np.array([True, False, True, True, False, True])
        assert source.first(allowed, 10).tolist() == [2, 0, 3, 5]
        assert source.first(allowed, 1).tolist() == [2]


class TestNewItems(CandidateSourceContract):
    def source(self, n_items: int) -> CandidateSource:
        published = NOW_US - np.arange(n_items, dtype=np.float64) * US_PER_DAY
        return NewItems(VectorIndex(vectors(n_items)), published, WEIGHTS)

    def test_a_stranger_gets_the_newest_that_are_out(self) -> None:
        ages = np.array([3.0, -1.0, 1.0, FRESH_DAYS + 1, np.nan])
        source = NewItems(VectorIndex(vectors(5)), NOW_US - ages * US_PER_DAY, WEIGHTS)
        assert found(source.candidates(queries([]), 5)).tolist() == [2, 0]

    def test_a_past_question_gets_what_was_new_then(self) -> None:
        ages = np.repeat([0.5, 40.0], MOST_FRESH)  # as many newer ones as are compared
        source = NewItems(VectorIndex(vectors(len(ages))), NOW_US - ages * US_PER_DAY, WEIGHTS)
        past = queries([])
        past.now_us[:] -= 35 * US_PER_DAY
        assert (found(source.candidates(past, 5)) >= MOST_FRESH).all()
        assert len(found(source.candidates(past, 5))) == 5

    def test_a_known_taste_comes_before_being_newest(self) -> None:
        index = VectorIndex(np.array([[1, 0], [0, 1], [1, 0]], np.float32))
        published = NOW_US - np.array([9.0, 1.0, 200.0]) * US_PER_DAY
        source = NewItems(index, published, WEIGHTS)
        assert found(source.candidates(queries([2]), 5)).tolist() == [0, 1]


def test_taste_weights_decay_keep_their_sign_and_sum_to_one() -> None:
    weights = taste_weights(with_types(queries([1, 2]), PURCHASE, DISMISS), WEIGHTS)[0]
    assert weights[:-2].tolist() == [0]
    expected = np.array([0.7 * 8, -4.0]) / (0.7 * 8 + 4)
    np.testing.assert_allclose(weights[-2:], expected, rtol=1e-6)
