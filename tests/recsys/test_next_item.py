import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation.metrics import RowSets
from recsys.evaluation.next_item import NextItems, rank_next_items, target_ranks, tastes
from recsys.training.encoder.sequences import DistinctSequences
from tests.recsys.encoder_sequences import shopper_ids


def sequences(*lists: list[int]) -> DistinctSequences:
    """Row n of everything happened at time n."""
    rows = np.array([row for one in lists for row in one], np.int32)
    indptr = np.cumsum([0, *map(len, lists)])
    weights, times = np.ones(len(rows), np.float32), np.arange(len(rows))
    return DistinctSequences(shopper_ids(len(lists)), indptr, rows, weights, times)


def test_the_last_item_is_asked_after_all_the_others() -> None:
    asked = NextItems.last(sequences([4, 1, 2], [3], [], [0, 5]))

    assert asked.targets.tolist() == [2, 5]
    assert asked.histories.rows.tolist() == [4, 1, 0]
    assert asked.histories.indptr.tolist() == [0, 2, 3]


def test_only_what_is_new_is_asked_after_where_a_moment_is_given() -> None:
    asked = NextItems.last(sequences([4, 1, 2], [0, 5]), since_us=3)
    assert asked.targets.tolist() == [5]


def test_taste_is_the_decayed_mean_newest_first() -> None:
    found = tastes(np.eye(3, dtype=np.float32), RowSets.of([[0, 1], [2], []]))
    assert found == pytest.approx(np.array([[0.7, 1, 0], [0, 0, 1], [0, 0, 0]]))


def test_the_nearest_item_that_is_not_had_comes_first() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    asked = NextItems(RowSets.of([[0], [2]]), np.array([1, 3], np.int32))

    ranking = rank_next_items(vectors, asked, k=2)

    assert ranking.ranks.tolist() == [0, 2]  # item 3 and item 0 tie for the second shopper
    assert ranking.top[0].tolist() == [1, 2]
    assert ranking.n_ranked.tolist() == [3, 3]
    assert ranking.percentiles.tolist() == [1.0, 0.0]


def test_lists_are_padded_where_few_items_are_in_the_running() -> None:
    asked = NextItems(RowSets.of([[0, 1]]), np.array([2], np.int32))
    ranking = rank_next_items(np.eye(3, dtype=np.float32), asked, k=5)
    assert ranking.top.tolist() == [[2, -1, -1, -1, -1]]


def test_a_target_is_ranked_among_the_items_named_only() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    asked = NextItems(RowSets.of([[0]]), np.array([3], np.int32))

    assert target_ranks(vectors, asked).tolist() == [2]
    assert target_ranks(vectors, asked, np.array([True, False, True, True])).tolist() == [1]
    assert target_ranks(vectors, asked, np.array([True, True, True, False])).tolist() == [-1]


@given(st.integers(0, 1_000))
def test_ranks_and_lists_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 3)).astype(np.float32)
    lists = [rng.permutation(12)[: rng.integers(2, 6)].tolist() for _ in range(5)]
    asked = NextItems.last(sequences(*lists))

    ranking = rank_next_items(vectors, asked, k=12)

    where = np.argmax(ranking.top == asked.targets[:, None], axis=1)
    assert (ranking.ranks == where).all()
    assert (target_ranks(vectors, asked) == ranking.ranks).all()
    assert ((ranking.top >= 0).sum(axis=1) == ranking.n_ranked).all()
