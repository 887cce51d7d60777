"""What may be known at a time: later events never change an earlier row."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.arrays import Float32Array
from features.covisitation import CovisitationConfig, fit_covisitation
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.history import ItemRelations
from features.interactions import Interactions
from features.snapshot import item_snapshots
from features.views import FEATURE_NAMES, FEATURE_VIEWS, SOURCES, views_hash
from recsys.ranking.features import FeatureInputs, feature_rows
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.merge import merge
from recsys.retrieval.sources import CoVisited, NewItems, SimilarText, Trending
from recsys.training.queries import PastQueries, window_queries
from tests.features.logs import Line, log_of

ITEMS = "abcdef"
FIRST, LAST, CUT = 1, 12, 8  # days: events, the end of time, when first stages were fitted
WEIGHTS = np.array([kind.weight for kind in DEFAULT_EVENT_TYPES], np.float32)
PUBLISHED_US = np.arange(len(ITEMS)).astype(np.float64) * (2 * US_PER_DAY)


def rows_of(log: Interactions, past: PastQueries) -> Float32Array:
    """Feature rows of the queries, by first stages of before CUT and snapshots of every day."""
    n, rng = len(ITEMS), np.random.default_rng(0)
    text = rng.normal(size=(n, 4)).astype(np.float32)
    neighbours = fit_covisitation(log.before(CUT * US_PER_DAY), n, CovisitationConfig())
    ticks = [day * US_PER_DAY for day in range(FIRST, LAST + 1)]
    snapshots = item_snapshots(log, ticks, PUBLISHED_US, np.zeros(n, np.int32))
    index = VectorIndex(text)
    sources = (
        CoVisited(neighbours, WEIGHTS),
        SimilarText(index, WEIGHTS),
        Trending(snapshots),
        NewItems(index, PUBLISHED_US, WEIGHTS),
    )
    answers = {source.name: source.candidates(past.queries, 4) for source in sources}
    relations = ItemRelations(
        vectors={"text": text, "sequence": text, "factors": text},
        neighbours=neighbours,
        tags=np.zeros((n, 1), np.int32),
        tag_rarity=np.array([1, 0], np.float32),
        log_price=np.zeros(n, np.float32),
    )
    inputs = FeatureInputs(relations, snapshots, WEIGHTS)
    return feature_rows(past.queries, merge(answers, len(past)), inputs)


def events(first_day: int, last_day: int) -> st.SearchStrategy[list[Line]]:
    return st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob", "cat"]),
            st.sampled_from(ITEMS),
            st.sampled_from(["view", "share", "purchase", "dismiss"]),
            st.integers(first_day * 24, last_day * 24 - 1).map(lambda hour: hour / 24),
        ),
        max_size=20,
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=events(FIRST, 10), after=events(10, LAST))
def test_future_events_never_change_a_past_feature_row(
    before: list[Line], after: list[Line]
) -> None:
    now = 10 * US_PER_DAY
    known, all_events = log_of(*before, items=ITEMS), log_of(*before, *after, items=ITEMS)
    users = {user: row for row, user in enumerate(all_events.user_ids)}
    for log in (known, all_events):
        assert set(known.user_ids) <= set(log.user_ids)
    asked = [_asked(log, now) for log in (known, all_events)]
    assert [users[known.user_ids[u]] for u in asked[0].users] == asked[1].users.tolist()
    np.testing.assert_array_equal(
        rows_of(known, asked[0]), rows_of(all_events, asked[1]), strict=True
    )


def _asked(log: Interactions, now_us: int) -> PastQueries:
    """Every moment of [CUT, now), asked with what the log says."""
    return window_queries(
        log,
        CUT * US_PER_DAY,
        now_us,
        per_user=100,
        max_labels=100,
        rng=np.random.default_rng(0),
    )


def test_the_first_columns_are_the_ranks_by_source() -> None:
    log = log_of(("ann", "a", "view", 2), ("ann", "b", "view", 9), items=ITEMS)
    past = _asked(log, 10 * US_PER_DAY)
    rows = rows_of(log, past)
    trending = rows[:, SOURCES.index("trending")]
    # only `a` has events before day 9, so it leads; the others follow in the order of their rows
    assert sorted(trending[trending > 0].tolist(), reverse=True) == pytest.approx(
        [1, 1 / 2, 1 / 3, 1 / 4]
    )
    assert (rows[:, SOURCES.index("next_item")] == 0).all()  # a source that was not asked
    agreeing = rows[:, FEATURE_NAMES.index("sources_agreeing")]
    np.testing.assert_array_equal(agreeing, (rows[:, : len(SOURCES)] > 0).sum(axis=1))


def test_z_scores_are_within_the_request() -> None:
    log = log_of(("ann", "a", "view", 2), ("ann", "b", "view", 9), items=ITEMS)
    rows = rows_of(log, _asked(log, 10 * US_PER_DAY))
    z = rows[:, FEATURE_NAMES.index("similar_text_affinity_z")]
    assert z.mean() == pytest.approx(0, abs=1e-5)
    assert z.std() == pytest.approx(1, abs=1e-5)


def test_every_view_is_declared_once_and_the_hash_depends_on_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_VIEWS)
    before = views_hash()
    monkeypatch.setattr("features.views.FEATURE_VIEWS", FEATURE_VIEWS[1:])
    assert views_hash() != before


def test_values_lie_where_their_view_says() -> None:
    lines: list[Line] = [("ann", "a", "view", 2), ("ann", "b", "share", 7), ("ann", "a", "view", 9)]
    lines += [("bob", "a", "view", 3), ("bob", "c", "dismiss", 8.5), ("bob", "b", "view", 9)]
    log = log_of(*lines, items=ITEMS)
    rows = rows_of(log, _asked(log, 10 * US_PER_DAY))
    least = {"float32": -np.inf, "float32 ≥ 0": 0, "float32 in [0, 1]": 0}
    for view, column in zip(FEATURE_VIEWS, rows.T, strict=True):
        known = column[~np.isnan(column)]
        greatest = 1 if view.dtype.endswith("1]") else np.inf
        assert ((known >= least[view.dtype]) & (known <= greatest)).all(), view.name
