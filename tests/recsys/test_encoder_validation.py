import numpy as np
import pytest

from recsys.training.encoder.batches import WINDOW
from recsys.training.encoder.validation import Recalls, Validation, held_out_users
from tests.recsys.encoder_sequences import distinct_texts, sequences


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


def test_the_same_shoppers_are_held_out_when_rows_shift_and_histories_grow() -> None:
    rng = np.random.default_rng(0)
    users = [rng.permutation(50)[:4].tolist() for _ in range(1_000)]
    times = [(1_000 * u + np.arange(4)).tolist() for u in range(1_000)]
    texts = distinct_texts(50)
    before = held_out_users(sequences(*users, times=times), texts, share=0.1, most=1_000)
    assert len(before) == pytest.approx(100, abs=30)

    shifted = [[0, 1], *([row + 1 for row in items] + [0] for items in users)]
    later = [[5, 6], *([*row, row[-1] + 1] for row in times)]
    after = held_out_users(sequences(*shifted, times=later), ["new", *texts], share=0.1, most=1_000)
    assert [user for user in after.tolist() if user] == (before + 1).tolist()


def test_shoppers_who_join_never_pull_a_trained_one_into_validation() -> None:
    users = [[u % 50, (u + 7) % 50] for u in range(2_000)]
    times = [[u, u + 1] for u in range(2_000)]
    texts = distinct_texts(50)
    few, many = (
        held_out_users(sequences(*users[:n], times=times[:n]), texts, share=0.2, most=100)
        for n in (1_000, 2_000)
    )
    assert len(few) == len(many) == 100
    assert set(many[many < 1_000].tolist()) <= set(few.tolist())


def test_somebody_is_held_out_and_somebody_left_even_where_all_look_alike() -> None:
    alike = sequences([0], *[[0, 1]] * 4, times=[[0], *[[0, 0]] * 4])
    for share in (1e-9, 1.0):
        chosen = held_out_users(alike, ["a", "a"], share=share, most=9)
        assert 1 <= len(chosen) <= 2
        assert 0 not in chosen  # one item asks nothing
    for lonely in (sequences([0]), sequences([0, 1]), sequences()):
        assert held_out_users(lonely, ["a", "b"], share=1.0, most=9).tolist() == []
