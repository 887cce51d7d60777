from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import Float32Array
from recsys.ranking.filters import keep_mask
from recsys.ranking.slate import diversify, explore, utility


def f32(values: Sequence[float] | Sequence[Sequence[float]]) -> Float32Array:
    return np.array(values, np.float32)


def test_utility_is_the_weighted_sum_of_the_chances() -> None:
    chances = np.array([[0.5, 0.1], [0.2, 0.0]], np.float32)
    found = utility(chances, np.array([1.0, 8.0], np.float32))
    assert found.tolist() == pytest.approx([1.3, 0.2])


def test_without_strength_the_order_stays() -> None:
    order = np.array([2, 0, 1])
    found = diversify(order, f32([2, 1, 3]), np.eye(3, dtype=np.float32), 2, 0.0)
    np.testing.assert_array_equal(found, order)


def test_a_twin_of_the_first_item_gives_way_to_something_else() -> None:
    # utilities scaled to the pool: 1, .9, .5, 0; items 0 and 1 are twins
    utilities = f32([10, 9, 5, 0])
    vectors = f32([[1, 0], [1, 0], [0, 1], [0, 1]])
    order = np.arange(4)
    # strength .5: after 0, item 1 earns .45 - .5, item 2 earns .25 - 0
    assert diversify(order, utilities, vectors, 2, 0.5).tolist() == [0, 2, 1, 3]
    # strength .1: .81 - .1 against .45
    assert diversify(order, utilities, vectors, 2, 0.1).tolist() == [0, 1, 2, 3]


def test_diversity_never_reaches_beyond_its_pool() -> None:
    n, k = 40, 2
    vectors = np.tile(f32([[1, 0]]), (n, 1))
    vectors[-1] = (0, 1)  # the only other one, far below
    found = diversify(np.arange(n), np.arange(n, 0, -1, dtype=np.float32), vectors, k, 0.9)
    assert set(found[:k].tolist()) <= set(range(4 * k))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 30), k=st.integers(1, 12), strength=st.floats(0, 1), seed=st.integers(0, 9))
def test_diversified_is_a_permutation(n: int, k: int, strength: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    utilities = rng.random(n).astype(np.float32)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-utilities)
    found = diversify(order, utilities, vectors, k, strength)
    assert sorted(found.tolist()) == list(range(n))
    assert n < 3 or found[0] == order[0]


@pytest.mark.parametrize(("k", "pool_size", "n"), [(4, 6, 30), (4, 3, 30), (5, 10, 7), (3, 50, 12)])
def test_logged_propensities_are_the_frequencies_of_many_draws(
    k: int, pool_size: int, n: int
) -> None:
    rng = np.random.default_rng(0)
    order, draws, exploration = rng.permutation(n), 20_000, 0.3
    shown = np.zeros((k, n))
    logged = np.full((k, n), np.nan)
    for _ in range(draws):
        choice = explore(order, k, exploration=exploration, pool_size=pool_size, rng=rng)
        assert len(set(choice.chosen.tolist())) == k
        position = np.arange(k)
        shown[position, choice.chosen] += 1
        before = logged[position, choice.chosen]
        assert np.array_equal(before, choice.propensities) or np.isnan(before).any()
        logged[position, choice.chosen] = choice.propensities
    np.testing.assert_allclose(np.nansum(logged, axis=1), 1, atol=1e-5)  # a distribution
    error = 4 * np.sqrt(0.25 / draws)  # four standard errors of a share, at its widest
    np.testing.assert_allclose(shown / draws, np.nan_to_num(logged), atol=error)


def test_equal_seeds_explore_alike() -> None:
    choices = [
        explore(
            np.arange(60), 10, exploration=0.5, pool_size=20, rng=np.random.default_rng(7)
        ).chosen
        for _ in range(2)
    ]
    np.testing.assert_array_equal(choices[0], choices[1])


def test_nothing_to_explore_leaves_the_plan_certain() -> None:
    rng = np.random.default_rng(0)
    for order, exploration in ((np.arange(4), 0.9), (np.arange(30), 0.0), (np.arange(0), 0.9)):
        choice = explore(order, 4, exploration=exploration, pool_size=10, rng=rng)
        np.testing.assert_array_equal(choice.chosen, order[:4])
        assert (choice.propensities == 1).all()


def test_the_first_rule_that_removes_a_candidate_gives_the_reason() -> None:
    keep, removed = keep_mask(
        np.array([1, 2, 3, 4], np.int32),
        {"excluded": np.array([2, 9], np.int32), "viewed": np.array([2, 3, -1], np.int32)},
    )
    assert keep.tolist() == [True, False, False, True]
    assert removed == {"excluded": 1, "viewed": 1}


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.integers(0, 20), unique=True),
    rules=st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(-1, 20))),
)
def test_every_candidate_is_kept_or_removed_for_one_reason(
    rows: list[int], rules: dict[str, list[int]]
) -> None:
    removals = {reason: np.array(found, np.int32) for reason, found in rules.items()}
    keep, removed = keep_mask(np.array(rows, np.int32), removals)
    assert int(keep.sum()) + sum(removed.values()) == len(rows)
    forbidden = {row for found in rules.values() for row in found}
    assert [row for row, kept in zip(rows, keep, strict=True) if kept] == [
        row for row in rows if row not in forbidden
    ]
