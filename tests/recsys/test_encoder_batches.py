from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import Int32Array, Int64Array
from recsys.training.encoder.batches import (
    BATCH_ITEMS,
    WINDOW,
    DistinctSequences,
    Visit,
    build_batch,
    decayed_weights,
    plan_visits,
)
from recsys.training.encoder.validation import next_item_recall, validation_visits


@dataclass(frozen=True)
class Sequences:
    indptr: Int64Array
    item_rows: Int32Array


def sequences(*users: list[int]) -> DistinctSequences:
    lengths = [len(items) for items in users]
    flat = np.array([item for items in users for item in items], np.int32)
    return DistinctSequences.of(Sequences(np.concatenate([[0], np.cumsum(lengths)]), flat))


def test_a_repeated_item_counts_where_it_was_first_met() -> None:
    distinct = sequences([3, 3, 1, 3, 2], [], [1, 1])
    assert distinct.items(0).tolist() == [3, 1, 2]
    assert distinct.items(1).tolist() == []
    assert distinct.items(2).tolist() == [1]
    assert distinct.users_with(2).tolist() == [0]


def test_the_query_is_a_decayed_mean_of_the_last_ten_items() -> None:
    weights = decayed_weights(13)
    np.testing.assert_allclose(weights[1, :3], [0.7 / 1.7, 1 / 1.7, 0.0], rtol=1e-6)
    assert weights.shape == (12, 13)
    assert (weights[11] > 0).tolist() == [False] * 2 + [True] * 10 + [False]


def test_a_batch_asks_for_every_next_item_and_hides_the_shoppers_other_items() -> None:
    all_items = sequences([5, 2, 9, 7], [2, 4])
    visits = [Visit(0, np.array([5, 2, 9], np.int32)), Visit(1, np.array([2, 4], np.int32))]
    batch = build_batch(visits, all_items)
    assert batch.items.tolist() == [2, 4, 5, 9]
    assert batch.items[batch.targets].tolist() == [2, 9, 4]
    assert batch.excluded.tolist() == [
        [False, False, True, True],
        [True, False, True, False],
        [True, False, False, False],
    ]
    np.testing.assert_allclose(batch.weights[0], [0, 0, 1, 0])


@given(
    st.lists(st.lists(st.integers(0, 400), min_size=2, max_size=60), min_size=1, max_size=30),
    st.floats(0.5, 3.0),
)
def test_a_plan_stays_near_its_budget_and_visits_whole_rounds(
    users: list[list[int]], epochs: float
) -> None:
    distinct = sequences(*users)
    eligible = distinct.users_with(2)
    if not len(eligible):
        return
    max_texts = max(1, int(epochs * len(np.unique(distinct.item_rows))))
    rng = np.random.default_rng(0)
    batches = plan_visits(distinct, eligible, max_texts=max_texts, rng=rng)
    sizes = [len(build_batch(batch, distinct).items) for batch in batches]
    assert max_texts <= sum(sizes) <= max_texts + WINDOW
    assert max(sizes) < BATCH_ITEMS + WINDOW
    counts = np.bincount([v.user for batch in batches for v in batch], minlength=len(users))
    assert np.ptp(counts[eligible]) <= 1


def test_equal_seeds_plan_equal_batches() -> None:
    distinct = sequences(*[[i, i + 1, i + 2] for i in range(50)])
    first, second = (
        plan_visits(distinct, distinct.users_with(2), max_texts=90, rng=np.random.default_rng(seed))
        for seed in (4, 4)
    )
    assert [[v.user for v in batch] for batch in first] == [
        [v.user for v in batch] for batch in second
    ]


def test_recall_counts_next_items_among_the_nearest_unseen() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.9, 0.1, 0.0, 0.0]  # next to item 0
    visits = validation_visits(sequences([0, 1], [0, 3]), np.array([0, 1]))
    found, questions = next_item_recall(vectors, visits, np.arange(4), k=1)
    assert (found, questions) == (0.5, 2)


def test_equal_vectors_find_nothing() -> None:
    vectors = np.full((30, 4), 0.5, np.float32)
    visits = validation_visits(sequences([0, 1, 2]), np.array([0]))
    assert next_item_recall(vectors, visits, np.arange(30))[0] == 0.0


def test_recall_equals_a_ranking_written_out() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    users = [rng.permutation(40)[: rng.integers(2, 25)].tolist() for _ in range(30)]
    distinct = sequences(*users)
    hits = []
    for items in (user[-WINDOW:] for user in users):
        for step in range(1, len(items)):
            past = items[max(0, step - 10) : step]
            weights = 0.7 ** np.arange(len(past))[::-1]
            scores = weights @ vectors[past]
            order = np.argsort(-(vectors @ scores))
            unseen = [row for row in order if row not in items[:step]]
            hits.append(items[step] in unseen[:10])
    visits = validation_visits(distinct, np.arange(len(users)))
    recall, questions = next_item_recall(vectors, visits, np.arange(40))
    assert questions == len(hits)
    np.testing.assert_allclose(recall, np.mean(hits))
