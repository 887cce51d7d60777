import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.training.encoder.batches import WINDOW
from recsys.training.encoder.validation import Recalls, Validation, held_out_users
from tests.recsys.encoder_sequences import sequences, shopper_ids


def test_recall_counts_next_items_among_the_nearest_unseen() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.9, 0.1, 0.0, 0.0]  # next to item 0
    validation = Validation.of(sequences([0, 1], [0, 3]), np.array([0, 1]))
    assert validation.recall(vectors, np.arange(4), k=1) == Recalls(0.5, 2)
    assert validation.items.tolist() == [0, 1, 3]


def test_equal_vectors_find_nothing() -> None:
    vectors = np.full((30, 4), 0.5, np.float32)
    validation = Validation.of(sequences([0, 1, 2]), np.array([0]))
    assert validation.recall(vectors, np.arange(30)).all == 0.0


def test_recall_equals_a_ranking_written_out() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    users = [rng.permutation(40)[: rng.integers(2, 25)].tolist() for _ in range(30)]
    hits = []
    for items in (user[-WINDOW:] for user in users):
        for step in range(1, len(items)):
            past = items[max(0, step - 10) : step]
            weights = 0.7 ** np.arange(len(past))[::-1]
            scores = weights @ vectors[past]
            order = np.argsort(-(vectors @ scores))
            unseen = [row for row in order if row not in items[:step]]
            hits.append(items[step] in unseen[:10])
    recalls = Validation.of(sequences(*users), np.arange(30)).recall(vectors, np.arange(40))
    assert recalls.n == len(hits)
    np.testing.assert_allclose(recalls.all, np.mean(hits))


def test_new_items_are_those_that_nobody_had_met() -> None:
    # Item 1 is new to the first shopper only; item 2 is new to everybody.
    distinct = sequences([0, 1, 2], [3, 1], times=[[1, 12, 13], [1, 2]])
    validation = Validation.of(distinct, np.array([0]), since_us=10)
    assert validation.is_new is not None
    assert validation.is_new.tolist() == [False, True]
    vectors = np.eye(5, dtype=np.float32)
    vectors[2] = vectors[1]  # item 2 is found from item 1, item 1 not from item 0
    recalls = validation.recall(vectors, np.arange(5), k=1)
    assert recalls == Recalls(0.5, 2, new=1.0, n_new=1, old=0.0, n_old=1)


def test_where_nothing_is_new_there_is_no_recall_of_it() -> None:
    distinct = sequences([0, 1])
    recalls = Validation.of(distinct, np.array([0]), since_us=99).recall(
        np.eye(2, dtype=np.float32), np.arange(2)
    )
    assert (recalls.new, recalls.n_new, recalls.n_old) == (None, 0, 1)


def test_nobody_held_out_asks_nothing() -> None:
    distinct = sequences([0, 1])
    for since_us in (None, 0):
        validation = Validation.of(distinct, np.empty(0, np.int64), since_us)
        recalls = validation.recall(np.eye(2, dtype=np.float32), np.arange(2))
        assert (recalls.all, recalls.n) == (0.0, 0)
        assert validation.items.tolist() == []


def test_a_shopper_is_held_out_for_good_whatever_becomes_of_rows_and_histories() -> None:
    rng = np.random.default_rng(0)
    users = [rng.permutation(50)[:4].tolist() for _ in range(1_000)]
    ids = shopper_ids(1_000)
    asked, _ = held_out_users(sequences(*users, ids=ids))
    assert len(asked) == pytest.approx(100, abs=30)

    left = list(range(0, 1_000, 2))  # half of them go, one comes, items are others
    later = sequences([0, 1], *([7, *users[u]] for u in left), ids=["new", *(ids[u] for u in left)])
    again, _ = held_out_users(later)
    assert {later.user_ids[u] for u in again} - {"new"} == {ids[u] for u in asked if u % 2 == 0}


@given(share=st.floats(0, 1), most=st.integers(1, 40), n=st.integers(0, 80))
def test_nobody_in_the_share_is_trained_on_though_only_some_are_asked(
    share: float, most: int, n: int
) -> None:
    everybody = sequences(*([u % 7, 7 + u % 5] for u in range(80)))
    held_out, _ = held_out_users(everybody, share=share, most=80)
    asked, trained = held_out_users(
        sequences(*([u % 7, 7 + u % 5] for u in range(n)), [3]), share=share, most=most
    )
    share_of_these = set(held_out[held_out < n].tolist())
    assert len(asked) == min(most, len(share_of_these))
    assert set(asked.tolist()) <= share_of_these
    assert set(trained.tolist()) == set(range(n)) - share_of_these  # one item teaches nothing


def test_a_gain_is_told_with_the_standard_error_of_its_mean_over_shoppers() -> None:
    before = Recalls(0.25, 8, found=np.array([1, 0, 1, 0]))
    after = Recalls(0.625, 8, found=np.array([2, 1, 1, 1]))  # gained 1, 1, 0, 1
    gain, error = after.gain_over(before)
    assert gain == 0.375
    assert error == pytest.approx(4 * 0.5 / math.sqrt(4) / 8)


def test_one_shopper_proves_nothing() -> None:
    found, lost = Recalls(1.0, 1, found=np.array([1])), Recalls(0.0, 1, found=np.array([0]))
    assert found.gain_over(lost) == (1.0, math.inf)


def test_recalls_know_how_much_each_shopper_found() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = vectors[0]
    asked = Validation.of(sequences([0, 1], [0, 3, 2], [1, 0]), np.arange(3))
    assert asked.recall(vectors, np.arange(4), k=1).found.tolist() == [1, 0, 1]
