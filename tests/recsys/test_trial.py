from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, US_PER_DAY
from features.interactions import Interactions
from recsys.evaluation.trial import (
    TrialResult,
    Window,
    live_lists,
    of_that_moment,
    queries_at,
    run_trial,
)
from recsys.policy import Policy
from recsys.progress import Silent
from recsys.recommender import Recommender
from tests.tiny import FIRST_DAY_US, N_DAYS, TINY_COLORS, tiny_events

# Days that the tiny release has not seen.
WINDOW = Window(FIRST_DAY_US + N_DAYS * US_PER_DAY, FIRST_DAY_US + (N_DAYS + 3) * US_PER_DAY)


@pytest.fixture
def log(tiny_recommender: Recommender) -> Interactions:
    return Interactions.build(all_events(), tiny_recommender.catalog.item_ids, DEFAULT_EVENT_TYPES)


def all_events() -> pl.DataFrame:
    return pl.concat([tiny_events(), tiny_events(first_day=N_DAYS, n_days=3)])


def test_the_release_beats_popularity_on_days_it_has_not_seen(
    tiny_recommender: Recommender, log: Interactions
) -> None:
    result = run_trial(tiny_recommender.bundle, log, WINDOW, Policy(), Silent())
    assert isinstance(result, TrialResult)
    assert result.users > 50
    assert result.metrics["ranker"]["ndcg@10"] > 2 * result.metrics["trending"]["ndcg@10"]
    assert result.against["trending"].low > 0
    assert result.candidate_recall > 0.9
    check_parts(result, tiny_recommender)


def check_parts(result: TrialResult, recommender: Recommender) -> None:
    """What is told beside the means agrees with them."""
    (headline,) = [one for one in result.comparisons if one.metric == "ndcg@10"]
    assert headline.difference == result.against["trending"]
    assert headline.ours == result.metrics["ranker"]["ndcg@10"]
    assert headline.p_holm < 0.01
    for dimension in {part.dimension for part in result.slices}:
        parts = [part for part in result.slices if part.dimension == dimension]
        assert sum(part.shoppers for part in parts) == result.users
        mean = sum(part.shoppers * part.ndcg["ranker"].mean for part in parts) / result.users
        assert mean == pytest.approx(headline.ours)
    assert {part.name for part in result.slices if part.dimension == "category"} <= set(TINY_COLORS)
    assert result.beyond.keys() == result.metrics.keys()
    ranker, trending = result.beyond["ranker"], result.beyond["trending"]
    assert ranker.answered == trending.answered == 1
    assert ranker.personalisation > trending.personalisation
    assert ranker.miscalibration < trending.miscalibration  # everyone loves one colour
    assert trending.popularity_lift > 1  # more popular than what is then taken
    taken = [one.popularity / one.popularity_lift for one in (ranker, trending)]
    assert taken[0] == pytest.approx(taken[1])
    by_action = {one.action: one for one in result.reliability}
    assert by_action.keys() == {"view", "click", "share", "purchase"}
    assert all(0 < one.brier < 0.5 for one in by_action.values())
    assert len(result.samples) == 6
    for sample in result.samples:
        assert len(sample.reasons) == len(sample.lists["ranker"]) == 10
        assert len(sample.history) == len(sample.history_events) <= sample.events_known
        assert sample.taken
        assert not set(sample.taken) & set(sample.history)
    assert orjson.loads(orjson.dumps(result))["users"] == result.users
    assert recommender.catalog.titles[result.samples[-1].history[0]]


def test_strangers_are_asked_without_a_history_and_found_among_the_slices(
    tiny_recommender: Recommender,
) -> None:
    newcomers = tiny_events(first_day=N_DAYS, n_days=3).with_columns(
        user_id=pl.lit("new-") + pl.coalesce("user_id", "session_id"), session_id=pl.lit(None)
    )
    events = pl.concat([all_events(), newcomers.cast(pl.Schema(EVENT_SCHEMA))])
    log = Interactions.build(events, tiny_recommender.catalog.item_ids, DEFAULT_EVENT_TYPES)
    past = queries_at(log, WINDOW)
    strangers = np.diff(past.seen_indptr) == 0
    assert 50 < strangers.sum() < len(past)
    assert (past.queries.history_rows[strangers] == -1).all()
    result = run_trial(tiny_recommender.bundle, log, WINDOW, Policy(), Silent())
    assert result is not None
    assert result.strangers == strangers.sum()
    (new,) = [part for part in result.slices if part.name == "new"]
    assert new.shoppers == result.strangers
    assert result.samples[0].history == ()
    assert result.metrics["next_item"]["answered"] < 1  # it has nothing to say to a stranger
    assert result.metrics["ranker"]["answered"] == 1


def test_shoppers_without_an_answer_score_zero(
    tiny_recommender: Recommender, log: Interactions
) -> None:
    live = np.full((len(log.user_ids), 20), -1, np.int32)
    result = run_trial(tiny_recommender.bundle, log, WINDOW, Policy(), Silent(), live=live)
    assert result is not None
    assert result.metrics["live"]["ndcg@10"] == result.metrics["live"]["answered"] == 0
    assert np.isnan(result.beyond["live"].novelty)
    assert all(sample.lists["live"] == () for sample in result.samples)


def test_each_shopper_is_asked_once_at_the_cut(log: Interactions) -> None:
    past = queries_at(log, WINDOW)
    assert len(set(past.users.tolist())) == len(past)
    assert (past.queries.now_us == WINDOW.start_us).all()
    assert past.queries.history_time_us.max() < WINDOW.start_us


def test_the_live_release_alone_is_as_good_as_itself(
    tiny_recommender: Recommender, log: Interactions
) -> None:
    live = live_lists(
        tiny_recommender.bundle,
        all_events(),
        WINDOW,
        user_ids=log.user_ids,
        item_ids=tiny_recommender.catalog.item_ids,
        policy=Policy(),
        progress=Silent(),
    )
    result = run_trial(tiny_recommender.bundle, log, WINDOW, Policy(), Silent(), live=live)
    assert result is not None
    assert result.metrics["live"] == result.metrics["ranker"]
    assert result.against["live"].low == result.against["live"].high == 0


def test_live_lists_speak_the_rows_of_the_new_catalogue(tiny_recommender: Recommender) -> None:
    item_ids = tiny_recommender.catalog.item_ids
    events = all_events()
    log = Interactions.build(events, item_ids, DEFAULT_EVENT_TYPES)
    asked: dict[str, Any] = {"user_ids": log.user_ids, "policy": Policy(), "progress": Silent()}
    same = live_lists(tiny_recommender.bundle, events, WINDOW, item_ids=item_ids, **asked)
    turned = live_lists(tiny_recommender.bundle, events, WINDOW, item_ids=item_ids[::-1], **asked)
    np.testing.assert_array_equal(np.where(turned >= 0, len(item_ids) - 1 - turned, -1), same)
    fewer = live_lists(tiny_recommender.bundle, events, WINDOW, item_ids=item_ids[:30], **asked)
    for before, after in zip(same, fewer, strict=True):  # what is gone leaves its place
        assert after[after >= 0].tolist() == before[(before >= 0) & (before < 30)].tolist()
        assert (np.diff((after < 0).astype(int)) >= 0).all()


def test_the_live_release_is_asked_also_by_those_who_took_only_what_it_does_not_know(
    tiny_recommender: Recommender,
) -> None:
    events = all_events().with_columns(
        item_id=pl.when(pl.col("event_time_us") >= WINDOW.start_us)
        .then(pl.lit("new-hat"))
        .otherwise("item_id")
    )
    item_ids = [*tiny_recommender.catalog.item_ids, "new-hat"]
    log = Interactions.build(events, item_ids, DEFAULT_EVENT_TYPES)
    live = live_lists(
        tiny_recommender.bundle,
        events,
        WINDOW,
        user_ids=log.user_ids,
        item_ids=item_ids,
        policy=Policy(),
        progress=Silent(),
    )
    asked = queries_at(log, WINDOW).users
    assert len(asked) > 50
    assert (live[asked, 0] >= 0).all()


def test_nobody_shows_what_came_after_the_cut(
    tiny_recommender: Recommender, log: Interactions
) -> None:
    catalog = tiny_recommender.catalog
    is_glove = np.array([item_id.endswith("glove") for item_id in catalog.item_ids])
    unseen = log.where(~(is_glove[log.item_rows] & (log.time_us < WINDOW.start_us)))
    result = run_trial(tiny_recommender.bundle, unseen, WINDOW, Policy(), Silent())
    assert result is not None
    assert shown(result) & set(np.flatnonzero(is_glove))
    catalog.published_at_us[is_glove] = WINDOW.start_us
    later = run_trial(tiny_recommender.bundle, unseen, WINDOW, Policy(), Silent())
    assert later is not None
    assert later.users == result.users  # those who took gloves are still asked
    assert not shown(later) & set(np.flatnonzero(is_glove))
    past = queries_at(log, WINDOW)  # events say that gloves were there
    there = of_that_moment(past, tiny_recommender.bundle, log, WINDOW.start_us)
    assert there.queries.allowed is None


def shown(result: TrialResult) -> set[int]:
    return {row for one in result.samples for rows in one.lists.values() for row in rows}


def test_a_window_in_which_nobody_came_has_no_result(
    tiny_recommender: Recommender, log: Interactions
) -> None:
    later = Window(WINDOW.end_us + US_PER_DAY, WINDOW.end_us + 2 * US_PER_DAY)
    assert run_trial(tiny_recommender.bundle, log, later, Policy(), Silent()) is None
    live = live_lists(
        tiny_recommender.bundle,
        all_events(),
        later,
        user_ids=log.user_ids,
        item_ids=tiny_recommender.catalog.item_ids,
        policy=Policy(),
        progress=Silent(),
    )
    assert (live == -1).all()
