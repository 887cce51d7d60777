import numpy as np
import pytest

from features.arrays import Int32Array
from features.errors import ConfigError
from recsys.training.encoder.batches import ContrastiveData, plan_batches
from recsys.training.encoder.negatives import (
    MAX_SHOPPER_ITEMS,
    MAX_SHOPPERS,
    BatchRules,
    Categories,
    Negatives,
)
from tests.recsys.encoder_sequences import distinct_texts, sequences


def test_items_that_share_enough_shoppers_are_not_each_others_negatives() -> None:
    distinct = sequences([0, 1, 2], [1, 0], [2, 3], [4])
    once, twice = (
        Negatives.of(distinct_texts(5), distinct, BatchRules(co_engaged=n)).forbidden(np.arange(5))
        for n in (1, 2)
    )
    assert np.argwhere(np.triu(once)).tolist() == [[0, 1], [0, 2], [1, 2], [2, 3]]
    assert np.argwhere(np.triu(twice)).tolist() == [[0, 1]]
    np.testing.assert_array_equal(once, once.T)


def test_without_rules_only_twins_are_forbidden() -> None:
    negatives = Negatives.of(["a", "b", "a", ""], sequences([0, 1, 2, 3]), BatchRules())
    assert np.argwhere(negatives.forbidden(np.arange(4))).tolist() == [[0, 2], [2, 0]]


def test_a_popular_items_company_is_known_from_a_bounded_sample() -> None:
    # Items 0 and 1 share all of their many shoppers, item 2 shares its few with item 0.
    both = [[0, 1]] * (2 * MAX_SHOPPERS)
    distinct = sequences(*both, *[[0, 2]] * 3, [3])
    negatives = Negatives.of(distinct_texts(4), distinct, BatchRules(co_engaged=MAX_SHOPPERS // 2))
    assert negatives.shoppers is not None
    assert negatives.shoppers.nnz == 2 * MAX_SHOPPERS + 3 + 1
    assert np.argwhere(negatives.forbidden(np.arange(4))).tolist() == [[0, 1], [1, 0]]


def test_a_crawler_ties_only_its_latest_items_together() -> None:
    n_items = MAX_SHOPPER_ITEMS + 50
    distinct = sequences(list(range(n_items)))
    negatives = Negatives.of(distinct_texts(n_items), distinct, BatchRules(co_engaged=1))
    forbidden = negatives.forbidden(np.arange(n_items))
    assert not forbidden[:50].any()
    assert forbidden[50:, 50:].sum() == MAX_SHOPPER_ITEMS * (MAX_SHOPPER_ITEMS - 1)


def test_hard_negatives_are_engaged_items_of_the_answers_categories() -> None:
    category = np.array([0, 0, 0, 0, 1, 1, 1, -1, -1, 0], np.int32)  # nobody has met item 9
    distinct = sequences([7, 0], [1, 4], [2, 3], [5, 6, 8])
    categories = Categories.of(category, distinct)
    rng = np.random.default_rng(0)
    answers = np.array([0, 4], np.int32)
    drawn = categories.draw(answers, np.array([0, 4, 7]), 50, rng)
    assert sorted(drawn.tolist()) == [1, 2, 3, 5, 6]
    assert len(categories.draw(answers, np.array([0, 4, 7]), 2, rng)) == 2
    assert categories.draw(np.array([7, 8], np.int32), np.array([7, 8]), 5, rng).tolist() == []


def test_hard_negatives_come_as_often_as_they_are_engaged_with() -> None:
    distinct = sequences(*[[0, 1]] * 9, [0, 2])
    categories = Categories.of(np.zeros(3, np.int32), distinct)
    rng = np.random.default_rng(0)
    answer, taken = np.array([0], np.int32), np.array([0])
    drawn = np.concatenate([categories.draw(answer, taken, 1, rng) for _ in range(1_000)])
    assert len(drawn) > 900  # the rest drew nothing but the answer
    assert np.mean(drawn == 1) == pytest.approx(0.9, abs=0.03)


def hard_items(categories: Int32Array | None) -> list[int]:
    distinct = sequences(*[[row, row + 1] for row in range(0, 40, 2)])
    rules = BatchRules(hard_negatives=4)
    data = ContrastiveData.of(distinct_texts(40), distinct, rules, categories)
    users = np.arange(4)
    planned = plan_batches(data, users, max_texts=20, rng=np.random.default_rng(0))
    for batch in planned:
        met = {int(item) for visit in batch.visits for item in visit.items}
        assert not met & set(batch.hard.tolist())
        assert met | set(batch.hard.tolist()) == set(batch.items.tolist())
    return [int(item) for batch in planned for item in batch.hard]


def test_a_plan_encodes_hard_negatives_besides_the_visits() -> None:
    drawn = hard_items((np.arange(40) % 2).astype(np.int32))
    assert len(drawn) >= 4
    assert all(row % 2 == 1 for row in drawn)  # the answers are odd rows


def test_without_categories_there_are_no_hard_negatives() -> None:
    assert hard_items(None) == []
    assert hard_items(np.full(40, -1, np.int32)) == []


def test_impossible_rules_are_refused() -> None:
    for values in ({"co_engaged": -1}, {"batch_items": 1}):
        with pytest.raises(ConfigError, match=r"expected at least two batch_items.*Correct"):
            BatchRules(**values)
