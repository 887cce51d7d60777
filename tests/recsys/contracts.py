"""What every candidate source promises, for its tests to inherit."""

import numpy as np
import pytest

from features.arrays import BoolArray, Int32Array
from features.events import US_PER_DAY
from recsys.types import CandidateSource, Queries, Retrieved

N_ITEMS = 40
NOW_US = 100 * US_PER_DAY


def queries(
    *histories: list[int], user_rows: list[int] | None = None, allowed: BoolArray | None = None
) -> Queries:
    """One query a history of item rows, oldest first; all are views of an hour apart."""
    length = max(map(len, histories), default=0) + 1
    rows = np.full((len(histories), length), -1, np.int32)
    for query, history in enumerate(histories):
        rows[query, length - len(history) :] = history
    ages = np.arange(length)[::-1] * (US_PER_DAY // 24)
    return Queries(
        now_us=np.full(len(histories), NOW_US, np.int64),
        user_rows=np.array(user_rows or [-1] * len(histories), np.int32),
        history_rows=rows,
        history_types=np.zeros(rows.shape, np.int8),
        history_time_us=np.broadcast_to(NOW_US - ages, rows.shape).copy(),
        allowed=allowed,
    )


def found(answer: Retrieved, query: int = 0) -> Int32Array:
    """The items of an answer without its padding."""
    rows = answer.item_rows[query]
    return np.asarray(rows[rows >= 0], np.int32)


class CandidateSourceContract:
    """Inherit, and say how to make the source for a catalogue of `n_items` items."""

    def source(self, n_items: int) -> CandidateSource:
        raise NotImplementedError

    @pytest.fixture
    def made(self) -> CandidateSource:
        return self.source(N_ITEMS)

    def asked(self, allowed: BoolArray | None = None) -> Queries:
        """A known shopper, an unknown one with a history, and a stranger."""
        return queries([3, 7, 1], [5], [], user_rows=[0, -1, -1], allowed=allowed)

    def test_answers_are_best_first_and_padded_at_the_end(self, made: CandidateSource) -> None:
        answer = made.candidates(self.asked(), 10)
        assert answer.item_rows.shape == answer.scores.shape == (3, 10)
        assert len(found(answer)) > 0
        for rows, scores in zip(answer.item_rows, answer.scores, strict=True):
            n = int((rows >= 0).sum())
            assert (rows[n:] == -1).all()
            assert np.isnan(scores[n:]).all()
            assert (np.diff(scores[:n]) <= 0).all()
            assert len(set(rows[:n].tolist())) == n
            assert (rows[:n] < N_ITEMS).all()

    def test_a_stranger_gets_an_answer_or_none_but_no_error(self, made: CandidateSource) -> None:
        answer = made.candidates(queries([]), 5)
        assert answer.item_rows.shape == (1, 5)

    def test_a_shopper_that_no_model_knows_is_no_error(self, made: CandidateSource) -> None:
        made.candidates(queries([2, 3], user_rows=[-1]), 5)

    def test_an_empty_catalogue_has_no_candidates(self) -> None:
        answer = self.source(0).candidates(queries([]), 5)
        assert answer.item_rows.tolist() == [[-1] * 5]
        assert np.isnan(answer.scores).all()

    def test_more_than_the_catalogue_is_the_whole_answer(self, made: CandidateSource) -> None:
        answer = made.candidates(self.asked(), N_ITEMS + 25)
        assert answer.item_rows.shape == (3, N_ITEMS + 25)
        assert len(found(answer)) <= N_ITEMS

    def test_equal_questions_get_equal_answers(self, made: CandidateSource) -> None:
        first, second = (made.candidates(self.asked(), 10) for _ in range(2))
        np.testing.assert_array_equal(first.item_rows, second.item_rows)
        np.testing.assert_array_equal(first.scores, second.scores)

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
    def test_only_allowed_items_are_answered(self, made: CandidateSource, share: float) -> None:
        allowed = np.random.default_rng(1).random(N_ITEMS) < share
        answer = made.candidates(self.asked(allowed), 12)
        rows = answer.item_rows[answer.item_rows >= 0]
        assert allowed[rows].all()

    def test_a_batch_is_answered_as_its_queries_alone(self, made: CandidateSource) -> None:
        together = self.asked()
        answer = made.candidates(together, 10)
        for query in range(len(together)):
            alone = made.candidates(together.slice(query, query + 1), 10)
            np.testing.assert_array_equal(alone.item_rows[0], answer.item_rows[query])
            np.testing.assert_allclose(alone.scores[0], answer.scores[query], rtol=1e-5, atol=1e-6)

    def test_no_queries_are_no_answers(self, made: CandidateSource) -> None:
        assert made.candidates(self.asked().slice(0, 0), 5).item_rows.shape == (0, 5)
