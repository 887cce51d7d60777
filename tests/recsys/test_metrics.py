"""Ranking metrics against numbers worked out by hand and against ir_measures."""

import math
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from features.arrays import Int32Array
from features.errors import DataError
from recsys.evaluation.metrics import (
    RowSets,
    accuracy,
    average_popularity,
    average_precision,
    catalogue_coverage,
    full_ranking,
    gini,
    intra_list_diversity,
    judge,
    judge_ranks,
    miscalibration,
    mrr,
    ndcg,
    novelty,
    personalisation,
    tag_shares,
)

N_ITEMS = 12

# For each user a list without repeats (perhaps short or empty) and a set of relevant items.
users_strategy = st.lists(
    st.tuples(
        st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=8),
        st.lists(st.integers(0, N_ITEMS - 1), max_size=10),
    ),
    min_size=1,
    max_size=6,
)


def padded(lists: list[list[int]], width: int = 8) -> Int32Array:
    return np.array([one + [-1] * (width - len(one)) for one in lists], np.int32).reshape(-1, width)


def test_a_worked_example_gives_the_numbers_worked_out_by_hand() -> None:
    judged = judge(padded([[3, 1, 4, 5]]), RowSets.of([[1, 5, 9]]))

    found = {name: values[0] for name, values in accuracy(judged, ks=(4,)).items()}

    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert found == pytest.approx(
        {
            "recall@4": 2 / 3,
            "hit_rate@4": 1.0,
            "precision@4": 2 / 4,
            "mrr@4": 1 / 2,
            "ndcg@4": (1 / math.log2(3) + 1 / math.log2(5)) / ideal,
            "map@4": (1 / 2 + 2 / 4) / 3,
        }
    )


@settings(max_examples=150, deadline=None)
@given(users_strategy, st.sampled_from([1, 3, 5, 10]))
def test_accuracy_equals_ir_measures(users: list[tuple[list[int], list[int]]], k: int) -> None:
    ranked, relevant = [list(u[0]) for u in users], [list(u[1]) for u in users]
    judged = judge(padded(ranked), RowSets.of(relevant))

    ours = accuracy(judged, ks=(k,))

    oracle = _by_ir_measures(ranked, relevant, k)
    sizes = np.array([len(set(relevant[user])) for user in judged.users])
    ours[f"map@{k}"] = ours[f"map@{k}"] * np.minimum(sizes, k) / sizes  # trec_eval divides by n
    for name, values in ours.items():
        expected = [oracle[name].get(str(user), 0.0) for user in judged.users]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9, err_msg=name)


def _by_ir_measures(
    ranked: list[list[int]], relevant: list[list[int]], k: int
) -> dict[str, dict[str, float]]:
    measures = {
        f"recall@{k}": R @ k,
        f"hit_rate@{k}": Success @ k,
        f"precision@{k}": P @ k,
        f"mrr@{k}": RR @ k,
        f"ndcg@{k}": nDCG @ k,
        f"map@{k}": AP @ k,
    }
    # The filler keeps the run of a user without an answer from being left out altogether.
    run = {
        str(user): {"filler": -1.0, **{f"i{row}": 100.0 - i for i, row in enumerate(rows)}}
        for user, rows in enumerate(ranked)
    }
    qrels = {str(u): {f"i{row}": 1 for row in rows} for u, rows in enumerate(relevant) if rows}
    names = {str(measure): name for name, measure in measures.items()}
    result: dict[str, dict[str, float]] = {name: {} for name in measures}
    for metric in ir_measures.iter_calc(list(measures.values()), qrels, run):
        result[names[str(metric.measure)]][metric.query_id] = metric.value
    return result


@given(users_strategy, st.integers(1, 12))
def test_every_accuracy_metric_lies_between_zero_and_one(
    users: list[tuple[list[int], list[int]]], k: int
) -> None:
    judged = judge(padded([list(u[0]) for u in users]), RowSets.of([u[1] for u in users]))
    for values in accuracy(judged, ks=(k,)).values():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


def test_a_perfect_list_scores_one_even_with_fewer_relevant_items_than_k() -> None:
    judged = judge(padded([[7, 2, 5, 0]]), RowSets.of([[2, 7]]))
    assert ndcg(judged, 4)[0] == pytest.approx(1)
    assert average_precision(judged, 4)[0] == pytest.approx(1)


def test_users_without_an_answer_score_zero_and_users_without_relevant_items_are_counted() -> None:
    judged = judge(padded([[], [1], [2]]), RowSets.of([[4], [], [2]]))
    assert judged.users.tolist() == [0, 2]
    assert judged.n_excluded == 1
    for values in accuracy(judged).values():
        assert values[0] == 0
        assert values[1] > 0


def test_no_users_give_no_numbers_rather_than_an_error() -> None:
    judged = judge(padded([]), RowSets.of([]))
    assert all(len(values) == 0 for values in accuracy(judged).values())


def test_a_relevant_item_named_twice_counts_once() -> None:
    judged = judge(padded([[1]]), RowSets.of([[1, 1]]))
    assert accuracy(judged, ks=(5,))["recall@5"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: judge(padded([[1, 1]]), RowSets.of([[1]])), "twice"),
        (lambda: judge(padded([[1]]), RowSets.of([[1], [2]])), "lists for 1 users"),
        (lambda: accuracy(judge(padded([[1]]), RowSets.of([[1]])), ks=(0,)), "cut-offs"),
    ],
)
def test_what_cannot_be_measured_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ask()


def test_ties_are_never_broken_in_the_targets_favour() -> None:
    scores = np.array([[1, 1, 1, 1], [0, 3, 2, 3]], np.float32)
    ranks = full_ranking(scores, RowSets.of([[], []]), np.array([0, 1], np.int32))
    assert ranks.tolist() == [3, 1]


def test_items_of_the_history_are_out_of_the_running() -> None:
    scores = np.array([[9, 8, 1, 5], [9, 8, 1, 5], [9, 8, 1, 5]], np.float32)
    history = RowSets.of([[0, 1], [], [2]])
    ranks = full_ranking(scores, history, np.array([2, 2, 2], np.int32))
    assert ranks.tolist() == [1, 3, -1]


def test_a_target_without_a_score_has_no_rank() -> None:
    scores = np.array([[np.nan, 1], [-np.inf, 1], [1, np.nan], [1, 2]], np.float32)
    ranks = full_ranking(scores, RowSets.of([[]] * 4), np.array([0, 0, 0, -1], np.int32))
    assert ranks.tolist() == [-1, -1, 0, -1]
    assert mrr(judge_ranks(ranks, 10), 10).tolist() == [0, 0, 1, 0]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_a_full_ranking_equals_the_position_in_the_sorted_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_users = 1_500 if seed % 5 == 0 else 3  # more than one block of users now and then
    scores = rng.permuted(np.tile(np.arange(9, dtype=np.float32), (n_users, 1)), axis=1)
    targets = rng.integers(0, 9, n_users).astype(np.int32)
    ranked = np.argsort(-scores, axis=1).astype(np.int32)

    ranks = full_ranking(scores, RowSets.of([[]] * n_users), targets)

    by_list = judge(ranked, RowSets.of(targets[:, None].tolist()))
    by_rank = judge_ranks(ranks, 9)
    assert (by_list.hits == by_rank.hits).all()


def test_coverage_and_gini_count_the_items_that_are_never_shown() -> None:
    everyone_alike = padded([[0], [0], [0]])
    all_different = padded([[0], [1], [2], [3]])
    assert catalogue_coverage(everyone_alike, 4) == 1 / 4
    assert gini(everyone_alike, 4) == pytest.approx(1 - 1 / 4)
    assert catalogue_coverage(all_different, 4) == 1
    assert gini(all_different, 4) == pytest.approx(0)
    assert gini(padded([[]]), 4) == 0


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_gini_equals_its_definition_by_mean_difference(shown: list[int]) -> None:
    counts = np.bincount(shown, minlength=7)
    mean_difference = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(padded([[row] for row in shown]), 7) == pytest.approx(
        mean_difference / (2 * counts.mean())
    )


def test_novelty_is_the_self_information_of_what_is_shown() -> None:
    item_users = np.array([8, 2, 0])
    values = novelty(padded([[0, 1], [2], []]), item_users, n_users=8)
    np.testing.assert_allclose(values, [(0 + 2) / 2, 3, np.nan])
    np.testing.assert_allclose(average_popularity(padded([[0, 1], []]), item_users), [5, np.nan])


def test_intra_list_diversity_equals_the_mean_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(20, 5)).astype(np.float32)
    vectors[3] = 0  # an item without a text
    lists = [[1, 3, 5, 7], [2, 3], [4], []]

    found = intra_list_diversity(padded(lists), vectors)

    def cosine(a: int, b: int) -> float:
        norms = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return float(vectors[a] @ vectors[b] / norms) if norms else 0.0

    expected = [
        1 - float(np.mean([cosine(a, b) for i, a in enumerate(one) for b in one[i + 1 :]]))
        if len(one) > 1
        else np.nan
        for one in lists
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_personalisation_equals_the_mean_over_all_pairs_of_users() -> None:
    lists = [[0, 1, 2], [2, 3], [4, 5, 6, 7], [], [0, 1, 2]]
    sets = [set(one) for one in lists if one]
    cosines = [
        len(a & b) / math.sqrt(len(a) * len(b)) for i, a in enumerate(sets) for b in sets[i + 1 :]
    ]
    assert personalisation(padded(lists), 8) == pytest.approx(1 - np.mean(cosines))
    assert personalisation(padded([[1, 2], [1, 2]]), 8) == pytest.approx(0)
    assert personalisation(padded([[1, 2], [3, 4]]), 8) == pytest.approx(1)
    assert math.isnan(personalisation(padded([[1, 2], []]), 8))


def test_tags_of_several_items_are_shared_out_as_worked_out_by_hand() -> None:
    tags = np.array([[0, 1], [1, -1], [-1, -1], [2, -1]], np.int32)
    shares = tag_shares(RowSets.of([[0, 1], [2], [], [2, 3, 3]]), tags, 3)
    expected = np.array([[0.25, 0.75, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(shares.toarray(), expected)


def test_miscalibration_is_the_divergence_worked_out_by_hand() -> None:
    tags = np.array([[0], [1], [2], [-1]], np.int32)
    wanted = tag_shares(RowSets.of([[0, 0, 0, 1], [0, 1], [0], [0], []]), tags, 3)
    shown = tag_shares(RowSets.padded(padded([[0, 1], [1, 0], [2], [3], [0]])), tags, 3)
    found = miscalibration(shown, wanted, smoothing=0.01)
    some = 0.75 * math.log(0.75 / (0.99 * 0.5 + 0.0075)) + 0.25 * math.log(
        0.25 / (0.99 * 0.5 + 0.0025)
    )
    nothing_of_it = math.log(1 / 0.01)
    np.testing.assert_allclose(found, [some, 0, nothing_of_it, np.nan, np.nan], atol=1e-12)


def test_padded_rows_are_the_sets_they_hold() -> None:
    found = RowSets.padded(padded([[3, 1], [], [-1, 2]]))
    assert [found.of_user(user).tolist() for user in range(3)] == [[3, 1], [], [2]]
