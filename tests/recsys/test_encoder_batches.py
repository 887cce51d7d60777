import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.training.encoder.batches import (
    WINDOW,
    ContrastiveBatch,
    ContrastiveData,
    PlannedBatch,
    Visit,
    build_batch,
    decayed_weights,
    plan_visits,
)
from recsys.training.encoder.negatives import BatchRules
from recsys.training.encoder.sequences import DistinctSequences
from recsys.training.encoder.tuning import contrastive_loss
from tests.recsys.encoder_sequences import distinct_texts, sequences

USERS = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=30), min_size=1, max_size=12)


def whole_visits(distinct: DistinctSequences) -> list[Visit]:
    """Everybody's latest WINDOW items, with the weights of their events."""
    return [
        Visit(u, distinct.items(u)[-WINDOW:], distinct.weights_of(u)[-WINDOW:])
        for u in range(len(distinct.indptr) - 1)
        if len(distinct.items(u))
    ]


def batch_of(
    distinct: DistinctSequences,
    rules: BatchRules | None = None,
    texts: list[str] | None = None,
    hard: tuple[int, ...] = (),
) -> ContrastiveBatch:
    data = ContrastiveData.of(texts or distinct_texts(100), distinct, rules or BatchRules())
    return build_batch(PlannedBatch(whole_visits(distinct), np.array(hard, np.int64)), data)


def test_a_repeated_item_counts_where_it_was_first_met_and_as_its_strongest_event() -> None:
    distinct = sequences(
        [3, 3, 1, 3, 2],
        [],
        [1, 1],
        weights=[[1, 5, 1, 2, 1], [], [3, 1]],
        times=[[10, 20, 30, 40, 50], [], [7, 8]],
    )
    assert distinct.items(0).tolist() == [3, 1, 2]
    assert distinct.weights_of(0).tolist() == [5, 1, 1]
    assert distinct.times(0).tolist() == [10, 30, 50]
    assert distinct.items(1).tolist() == []
    assert distinct.items(2).tolist() == [1]
    assert distinct.weights_of(2).tolist() == [3]
    assert distinct.users_with(2).tolist() == [0]


def test_only_some_shoppers_keep_their_rows() -> None:
    distinct = sequences([1, 2], [3], [4, 5]).only(np.array([2, 1]))
    assert [distinct.items(user).tolist() for user in range(3)] == [[], [3], [4, 5]]
    assert distinct.times(2).tolist() == [0, 1]


def test_the_query_is_a_decayed_mean_of_the_last_ten_items() -> None:
    weights = decayed_weights(13)
    np.testing.assert_allclose(weights[1, :3], [0.7 / 1.7, 1 / 1.7, 0.0], rtol=1e-6)
    assert weights.shape == (12, 13)
    assert (weights[11] > 0).tolist() == [False] * 2 + [True] * 10 + [False]


def test_a_batch_asks_for_every_next_item_and_hides_the_shoppers_other_items() -> None:
    distinct = sequences([5, 2, 9, 7], [2, 4])
    ones = np.ones(3, np.float32)
    visits = [
        Visit(0, np.array([5, 2, 9], np.int32), ones),
        Visit(1, np.array([2, 4], np.int32), ones[:2]),
    ]
    data = ContrastiveData.of(distinct_texts(10), distinct, BatchRules())
    batch = build_batch(PlannedBatch(visits, np.array([7, 8])), data)
    assert batch.items.tolist() == [2, 4, 5, 7, 8, 9]
    assert batch.items[batch.targets].tolist() == [2, 9, 4]
    assert batch.excluded.tolist() == [
        [False, False, True, True, False, True],
        [True, False, True, True, False, False],
        [True, False, False, False, False, False],
    ]
    np.testing.assert_allclose(batch.weights[0], [0, 0, 1, 0, 0, 0])
    assert batch.question_weights.tolist() == [1, 1, 1]


def test_a_purchase_weighs_more_than_a_view() -> None:
    distinct = sequences([1, 2, 3], [4, 5], weights=[[9, 1, 4], [1, 1]])
    batch = batch_of(distinct)
    assert batch.items[batch.targets].tolist() == [2, 3, 5]
    np.testing.assert_allclose(batch.question_weights, [0.5, 2.0, 0.5])


def test_an_item_asked_for_more_often_than_the_cap_weighs_less_each_time() -> None:
    distinct = sequences(*[[row, 90] for row in range(8)], [90, 50])
    batch = batch_of(distinct, BatchRules(popularity_cap=2))
    popular = batch.items[batch.targets] == 90
    np.testing.assert_allclose(batch.question_weights[~popular], 4 * batch.question_weights[0])
    assert batch.question_weights.sum() == pytest.approx(9)


def test_a_twin_of_the_answer_or_of_an_own_item_is_no_negative() -> None:
    texts = distinct_texts(10)
    texts[4], texts[6] = texts[1], texts[0]
    batch = batch_of(sequences([0, 1], [4, 5], [6, 7]), texts=texts)
    assert batch.items.tolist() == [0, 1, 4, 5, 6, 7]
    assert batch.items[batch.targets[0]] == 1
    assert batch.excluded[0].tolist() == [True, False, True, False, True, False]


def test_identical_titles_leave_nothing_to_ask() -> None:
    batch = batch_of(sequences([0, 1, 2], [3, 4]), texts=["a shirt"] * 10)
    assert batch.weights.shape == (0, 5)
    assert len(batch.targets) == len(batch.excluded) == len(batch.question_weights) == 0


def test_one_shopper_alone_is_asked_nothing() -> None:
    assert len(batch_of(sequences([0, 1, 2])).targets) == 0


def test_shoppers_with_one_item_are_not_visited() -> None:
    distinct = sequences([1], [2], [])
    rng = np.random.default_rng(0)
    assert (
        plan_visits(distinct, distinct.users_with(2), batch_items=256, max_texts=50, rng=rng) == []
    )
    assert len(batch_of(distinct).targets) == 0


@given(USERS, st.integers(1, 61), st.integers(0, 3), st.integers(0, 4), st.sets(st.integers(0, 60)))
@settings(deadline=None, max_examples=50)
def test_a_batch_equals_its_questions_written_out(
    users: list[list[int]], n_texts: int, co_engaged: int, cap: int, hard: set[int]
) -> None:
    rng = np.random.default_rng(0)
    distinct = sequences(
        *users, weights=[rng.integers(1, 4, len(items)).tolist() for items in users]
    )
    texts = [f"text {row % n_texts}" for row in range(61)]
    rules = BatchRules(co_engaged=co_engaged, popularity_cap=cap)
    batch = batch_of(distinct, rules, texts, tuple(sorted(hard)))

    visits = whole_visits(distinct)
    everything = [distinct.items(user).tolist() for user in range(len(users))]
    items = sorted({int(i) for visit in visits for i in visit.items} | hard)
    expected = []
    for visit in visits:
        for step, answer in enumerate(visit.items.tolist()[1:], start=1):
            wrong = set()
            for item in items:
                shared = sum(item in row and answer in row for row in everything)
                own = texts[item] in {texts[i] for i in everything[visit.user]}
                twin = texts[item] == texts[answer]
                if not (own or twin or (co_engaged and shared >= co_engaged)):
                    wrong.add(item)
            asked = sum(answer in row[1:] for row in everything)
            weight = float(visit.weights[step]) * (min(1, cap / asked) if cap else 1)
            if wrong:
                expected.append((answer, wrong, weight))

    assert batch.items.tolist() == items
    assert batch.items[batch.targets].tolist() == [answer for answer, _, _ in expected]
    for row, (answer, wrong, _) in enumerate(expected):
        assert set(batch.items[~batch.excluded[row]].tolist()) == wrong | {answer}
    weights = np.array([weight for _, _, weight in expected])
    np.testing.assert_allclose(
        batch.question_weights, weights / weights.mean() if len(weights) else [], rtol=1e-5
    )


@given(USERS, st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_few_distinct_titles_still_give_a_finite_loss(users: list[list[int]], n_texts: int) -> None:
    texts = [f"text {row % n_texts}" for row in range(61)]
    batch = batch_of(sequences(*users), BatchRules(co_engaged=1), texts)
    if not len(batch.targets):
        return
    of_text = torch.nn.functional.normalize(torch.randn(n_texts, 8), dim=1)
    vectors = of_text[torch.from_numpy(batch.items) % n_texts].requires_grad_()
    loss = contrastive_loss(vectors, batch, torch.tensor(0.1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
