"""Ranking rows of the tiny release: which candidates are labelled, kept and drawn."""

from collections.abc import Iterator

import numpy as np
import pytest

from features.arrays import Int8Array
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.interactions import Interactions
from recsys.bundle import Bundle
from recsys.evaluation.offline import DEPTH, ranked_lists, relevant_rows
from recsys.policy import Policy
from recsys.progress import Silent
from recsys.recommender import Recommender
from recsys.training.queries import PastQueries, window_queries
from recsys.training.rows import Labelled, labelled_batches, ranking_rows
from tests.tiny import FIRST_DAY_US, N_DAYS, tiny_events

ACTIONS = ("view", "click", "purchase")


@pytest.fixture
def bundle(tiny_recommender: Recommender) -> Bundle:
    return tiny_recommender.bundle


def past_of(bundle: Bundle, days: int = 3) -> PastQueries:
    log = Interactions.build(tiny_events(), bundle.catalog.item_ids, DEFAULT_EVENT_TYPES)
    end_us = FIRST_DAY_US + N_DAYS * US_PER_DAY
    start_us = end_us - days * US_PER_DAY
    rng = np.random.default_rng(0)
    return window_queries(log, start_us, end_us, per_user=2, max_labels=10, rng=rng)


def batches(bundle: Bundle, past: PastQueries, policy: Policy) -> Iterator[Labelled]:
    return labelled_batches(bundle, past, ACTIONS, policy, Silent(), "rows")


def followed(past: PastQueries, query: int) -> dict[int, set[str]]:
    """Item row → the types of the later events on it."""
    span = slice(*past.label_indptr[query : query + 2])
    types: Int8Array = past.label_types[span]
    out: dict[int, set[str]] = {}
    for row, kind in zip(past.label_rows[span].tolist(), types, strict=True):
        out.setdefault(row, set()).add(DEFAULT_EVENT_TYPES[kind].name)
    return out


def test_a_candidate_is_labelled_with_exactly_the_actions_that_followed(bundle: Bundle) -> None:
    (batch,) = batches(bundle, past_of(bundle), Policy())
    n_labels = 0
    for row, query, labels in zip(
        batch.candidates.item_rows, batch.candidates.query_index, batch.labels, strict=True
    ):
        actions = followed(batch.past, int(query)).get(int(row), set())
        assert {a for a, label in zip(ACTIONS, labels, strict=True) if label} == actions & set(
            ACTIONS
        )
        n_labels += int(labels.sum())
    assert n_labels > 50


def test_outcomes_that_no_source_proposed_are_never_put_in(bundle: Bundle) -> None:
    past = past_of(bundle)
    few = Policy(sources={"trending": 3})
    (batch,) = batches(bundle, past, few)
    assert np.diff(batch.candidates.offsets).max() <= 3
    rows = ranking_rows(iter([batch]), max_negatives=100, rng=np.random.default_rng(0))
    hit = {
        int(query)
        for query, label in zip(batch.candidates.query_index, batch.labels, strict=True)
        if label.any()
    }
    assert len(rows.offsets) - 1 == len(hit) < len(past)
    assert rows.labels.sum() == batch.labels.sum()


def test_what_a_shopper_had_seen_is_no_candidate_unless_the_policy_shows_it(
    bundle: Bundle,
) -> None:
    past = past_of(bundle)
    for policy, expected in ((Policy(), False), (Policy(filter_viewed=False), True)):
        (batch,) = batches(bundle, past, policy)
        seen_somewhere = False
        for query in range(len(past)):
            span = slice(*batch.candidates.offsets[query : query + 2])
            seen = past.seen_rows[slice(*past.seen_indptr[query : query + 2])]
            seen_somewhere |= bool(np.isin(batch.candidates.item_rows[span], seen).any())
        assert seen_somewhere is expected


def test_negatives_are_capped_and_positives_all_kept(bundle: Bundle) -> None:
    (batch,) = batches(bundle, past_of(bundle), Policy())
    rows = ranking_rows(iter([batch]), max_negatives=5, rng=np.random.default_rng(0))
    taken = rows.labels.max(axis=1) > 0
    for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        assert taken[start:stop].any()
        assert (~taken[start:stop]).sum() <= 5
    assert rows.labels.sum() == batch.labels.sum()
    known = {row.tobytes() for row in batch.features}
    assert all(row.tobytes() in known for row in rows.features)


def test_no_queries_make_no_rows(bundle: Bundle) -> None:
    past = past_of(bundle, days=0)
    rows = ranking_rows(batches(bundle, past, Policy()), max_negatives=5, rng=_rng())
    assert rows.offsets.tolist() == [0]
    lists = ranked_lists(bundle, past, Policy(), Silent())
    assert lists.by_name["ranker"].shape == (0, DEPTH)
    assert len(lists.relevant) == 0


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_lists_hold_each_item_once_and_nothing_seen(bundle: Bundle) -> None:
    past = past_of(bundle)
    lists = ranked_lists(bundle, past, Policy(), Silent())
    for ranked in lists.by_name.values():
        assert ranked.shape == (len(past), DEPTH)
        for query, rows in enumerate(ranked):
            found = rows[rows >= 0]
            seen = past.seen_rows[slice(*past.seen_indptr[query : query + 2])]
            assert len(set(found.tolist())) == len(found)
            assert not np.isin(found, seen).any()


def test_a_sources_list_is_its_own_answer_without_what_was_seen(bundle: Bundle) -> None:
    past = past_of(bundle)
    lists = ranked_lists(bundle, past, Policy(sources={"trending": 5}), Silent())
    (trending,) = (source for source in bundle.sources if source.name == "trending")
    answer = trending.candidates(past.queries, len(bundle.catalog))
    for query, ranked in enumerate(lists.by_name["trending"]):
        seen = past.seen_rows[slice(*past.seen_indptr[query : query + 2])]
        expected = [row for row in answer.item_rows[query] if row not in set(seen.tolist())]
        assert ranked[ranked >= 0].tolist() == expected[:5]


def test_only_new_finds_are_relevant(bundle: Bundle) -> None:
    past = past_of(bundle)
    relevant = relevant_rows(past)
    for query in range(len(past)):
        seen = set(past.seen_rows[slice(*past.seen_indptr[query : query + 2])].tolist())
        rows = relevant.rows[slice(*relevant.indptr[query : query + 2])].tolist()
        assert set(rows) == set(followed(past, query)) - seen


def test_without_a_ranker_lists_keep_the_best_source_rank(bundle: Bundle) -> None:
    bundle.ranker = None
    lists = ranked_lists(bundle, past_of(bundle), Policy(sources={"trending": 30}), Silent())
    np.testing.assert_array_equal(lists.by_name["ranker"], lists.by_name["trending"])
