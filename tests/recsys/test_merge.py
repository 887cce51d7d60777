from dataclasses import replace

import numpy as np

from features.views import SOURCES
from recsys.retrieval.merge import ask, merge, retrieve, select
from recsys.types import Queries, Retrieved

NEXT, VISITED, TRENDING = (SOURCES.index(name) for name in ("next_item", "co_visited", "trending"))


def answer(rows: list[list[int]], scores: list[list[float]]) -> Retrieved:
    return Retrieved(np.array(rows, np.int32), np.array(scores, np.float32))


def a_stranger() -> Queries:
    return Queries(
        now_us=np.zeros(1, np.int64),
        user_rows=np.full(1, -1, np.int32),
        history_rows=np.full((1, 1), -1, np.int32),
        history_types=np.zeros((1, 1), np.int8),
        history_time_us=np.zeros((1, 1), np.int64),
    )


def test_an_item_of_two_sources_is_one_candidate_with_both_scores() -> None:
    found = merge(
        {
            "co_visited": answer([[7, 3, -1]], [[0.9, 0.5, np.nan]]),
            "trending": answer([[3, 8]], [[0.2, 0.1]]),
        },
        1,
    )
    assert found.item_rows.tolist() == [3, 7, 8]
    np.testing.assert_array_equal(found.offsets, [0, 3])
    expected = np.full((3, len(SOURCES)), np.nan, np.float32)
    expected[0, [VISITED, TRENDING]] = 0.5, 0.2
    expected[1, VISITED], expected[2, TRENDING] = 0.9, 0.1
    np.testing.assert_array_equal(found.source_scores, expected)
    expected[0, [VISITED, TRENDING]] = 1, 0
    expected[1, VISITED], expected[2, TRENDING] = 0, 1
    np.testing.assert_array_equal(found.source_ranks, expected)


def test_queries_stay_apart_and_empty_ones_own_nothing() -> None:
    found = merge(
        {"next_item": answer([[5, 1], [-1, -1], [1, -1]], [[2, 1], [np.nan] * 2, [3, np.nan]])}, 3
    )
    np.testing.assert_array_equal(found.offsets, [0, 2, 2, 3])
    assert found.item_rows.tolist() == [1, 5, 1]
    assert found.source_scores[:, NEXT].tolist() == [1, 2, 3]
    assert found.query_index.tolist() == [0, 0, 2]


def test_no_answers_make_no_candidates() -> None:
    found = merge({}, 2)
    assert len(found) == 0
    np.testing.assert_array_equal(found.offsets, [0, 0, 0])
    assert found.source_scores.shape == (0, len(SOURCES))


def test_a_score_of_zero_is_not_a_missing_score() -> None:
    found = merge({"trending": answer([[4]], [[0.0]])}, 1)
    assert found.source_scores[0, TRENDING] == 0
    assert np.isnan(np.delete(found.source_scores[0], TRENDING)).all()


def test_select_keeps_rows_grouped_by_query() -> None:
    found = merge({"next_item": answer([[5, 1], [2, 3]], [[2, 1], [4, 3]])}, 2)
    kept = select(found, np.array([False, True, False, False]))
    assert kept.item_rows.tolist() == [5]
    np.testing.assert_array_equal(kept.offsets, [0, 1, 1])


class Broken:
    name = "co_visited"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        raise RuntimeError("its file is gone")


class Fixed:
    name = "trending"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        return answer([list(range(n))], [[1.0] * n])


def test_a_broken_source_is_named_and_the_others_answer() -> None:
    answers, failed = retrieve((Broken(), Fixed()), a_stranger(), {"co_visited": 5, "trending": 2})
    assert failed == ["co_visited"]
    assert answers["trending"].item_rows.tolist() == [[0, 1]]


def test_a_source_that_the_policy_leaves_out_is_not_asked() -> None:
    for sizes in ({"trending": 2}, {"trending": 2, "co_visited": 0}):
        answers, failed = retrieve((Broken(), Fixed()), a_stranger(), sizes)
        assert (list(answers), failed) == (["trending"], [])


def knows(*rows: int) -> Queries:
    asked = a_stranger()
    return replace(
        asked,
        history_rows=np.array([rows], np.int32),
        history_types=np.zeros((1, len(rows)), np.int8),
        history_time_us=np.zeros((1, len(rows)), np.int64),
    )


def test_what_the_history_holds_takes_no_place_of_something_new() -> None:
    within = ask(Fixed(), knows(0, 2), 3, beyond_history=False)
    assert within.item_rows.tolist() == [[0, 1, 2]]
    beyond = ask(Fixed(), knows(0, 2), 3, beyond_history=True)
    assert beyond.item_rows[0, :5].tolist() == [0, 1, 2, 3, 4]  # 1, 3 and 4 are new
    cut = ask(Fixed(), knows(7, 9), 3, beyond_history=True)
    assert cut.item_rows.tolist() == [[0, 1, 2]]
    np.testing.assert_array_equal(np.isnan(cut.scores), cut.item_rows < 0)
