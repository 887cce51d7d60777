import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigError
from recsys.training.encoder.batches import (
    HISTORY,
    WINDOW,
    ContrastiveData,
    Visit,
    plan_batches,
    plan_visits,
)
from recsys.training.encoder.negatives import BatchRules
from tests.recsys.encoder_sequences import distinct_texts, sequences


@given(
    st.lists(st.lists(st.integers(0, 400), min_size=2, max_size=60), min_size=1, max_size=30),
    st.floats(0.5, 3.0),
    st.sampled_from([2, 64, 256]),
)
def test_a_plan_stays_near_its_budget_and_visits_whole_rounds(
    users: list[list[int]], epochs: float, batch_items: int
) -> None:
    distinct = sequences(*users)
    eligible = distinct.users_with(2)
    if not len(eligible):
        return
    max_texts = max(1, int(epochs * len(np.unique(distinct.item_rows))))
    rng = np.random.default_rng(0)
    data = ContrastiveData.of(distinct_texts(401), distinct, BatchRules(batch_items=batch_items))
    batches = plan_batches(data, eligible, max_texts=max_texts, rng=rng)
    sizes = [len(batch.items) for batch in batches]
    assert max_texts <= sum(sizes) <= max_texts + WINDOW
    assert max(sizes) < batch_items + WINDOW
    counts = np.bincount([v.user for batch in batches for v in batch.visits], minlength=len(users))
    assert np.ptp(counts[eligible]) <= 1


def users_and_items(batches: list[list[Visit]]) -> list[list[tuple[int, list[int]]]]:
    return [[(visit.user, visit.items.tolist()) for visit in batch] for batch in batches]


def test_equal_seeds_plan_equal_batches() -> None:
    distinct = sequences(*[[i, i + 1, i + 2] for i in range(50)])
    data = ContrastiveData.of(
        distinct_texts(52), distinct, BatchRules(hard_negatives=5), np.zeros(52, np.int32)
    )
    first, second = (
        plan_batches(data, distinct.users_with(2), max_texts=90, rng=np.random.default_rng(4))
        for _ in range(2)
    )
    assert users_and_items([list(b.visits) for b in first]) == users_and_items(
        [list(b.visits) for b in second]
    )
    assert [b.hard.tolist() for b in first] == [b.hard.tolist() for b in second]


def test_without_rules_the_plan_is_the_one_that_the_first_figures_were_measured_with() -> None:
    # Users and first items as version 0 planned them.
    distinct = sequences(*[[(41 * u + 3 * i) % 400 for i in range(2 + 7 * u)] for u in range(9)])
    data = ContrastiveData.of(distinct_texts(400), distinct, BatchRules())
    rng = np.random.default_rng(7)
    (planned,) = plan_batches(data, distinct.users_with(2), max_texts=150, rng=rng)
    assert [v.user for v in planned.visits] == [8, 0, 7, 1, 3, 6, 2, 4, 5, 3, 8]
    starts = [int(v.items[0]) for v in planned.visits]
    assert starts == [30, 0, 374, 41, 123, 282, 82, 191, 211, 126, 385]


def test_news_since_ever_are_the_ordinary_plan() -> None:
    distinct = sequences(*[list(range(u, u + 2 + u)) for u in range(40)])
    ordinary, news = (
        plan_visits(
            distinct,
            distinct.users_with(2),
            batch_items=256,
            max_texts=300,
            rng=np.random.default_rng(1),
            since_us=since_us,
        )
        for since_us in (None, 0)
    )
    assert users_and_items(news) == users_and_items(ordinary)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=20),
    st.integers(0, 60),
    st.sampled_from([0.0, 0.3, 0.5]),
)
@settings(deadline=None)
def test_news_are_visited_up_to_a_new_item(lengths: list[int], since: int, replay: float) -> None:
    distinct = sequences(*[list(range(n)) for n in lengths])  # item = position = time
    users = distinct.users_with(2)
    planned = plan_visits(
        distinct,
        users,
        batch_items=256,
        max_texts=200,
        rng=np.random.default_rng(0),
        since_us=since,
        replay=replay,
    )
    fresh = {u for u, n in enumerate(lengths) if n >= 2 and n > since}
    assert set(distinct.users_since(since).tolist()) == fresh
    assert bool(planned) == bool(fresh)
    for visit in (visit for batch in planned for visit in batch):
        met = visit.items.tolist()
        assert met == list(range(met[0], met[0] + len(met)))
        assert 2 <= len(met) <= WINDOW
        if visit.user in fresh:
            assert met[-1] >= since
            assert met[0] >= since - HISTORY
        else:
            assert replay > 0


def test_a_replay_share_goes_to_shoppers_without_news() -> None:
    old, new = [[0, 1, 2]] * 90, [[0, 1, 2, 3]] * 30
    distinct = sequences(*old, *new)
    planned = plan_visits(
        distinct,
        distinct.users_with(2),
        batch_items=256,
        max_texts=4 * 64 // 4,
        rng=np.random.default_rng(0),
        since_us=3,
        replay=0.25,
    )
    visited = np.array([visit.user for batch in planned for visit in batch])
    assert len(visited) > 400
    assert np.mean(visited < 90) == pytest.approx(0.25, abs=0.03)
    assert len(np.unique(visited[visited < 90])) > 60


def test_a_replay_of_everything_is_refused() -> None:
    distinct = sequences([0, 1])
    with pytest.raises(ConfigError, match=r"replay share in \[0, 1\), found 1.0"):
        plan_visits(
            distinct,
            np.array([0]),
            batch_items=256,
            max_texts=9,
            rng=np.random.default_rng(0),
            replay=1.0,
        )
