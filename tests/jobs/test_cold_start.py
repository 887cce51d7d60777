from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.items import ITEM_SCHEMA
from jobs.benchmark import cold_fold_of, sequence_data
from jobs.cold_start import remembering, run_cold_start, with_cold
from jobs.cold_start_table import ColdStart, Found, ItemCase, ShopperCase, shopper_case
from recsys.progress import Silent
from recsys.training.queries import PastQueries, window_queries
from recsys.training.recipe import TrainingData
from tests.jobs.test_benchmark import LENGTH, N_USERS, sequences
from tests.tiny import TINY_COLORS, TINY_THINGS, item_row, tiny_config


def shop() -> pl.DataFrame:
    rows = [item_row(color, thing) for color in TINY_COLORS for thing in TINY_THINGS]
    return pl.DataFrame(rows, schema=ITEM_SCHEMA)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return sequence_data(shop(), sequences())


@pytest.fixture(scope="module")
def report(tiny_text_encoder: Path) -> ColdStart:
    recipe = tiny_config(tiny_text_encoder).recipe
    return run_cold_start(
        shop(),
        sequences(),
        dataset="walks",
        config=replace(recipe, ranker=replace(recipe.ranker, epochs=10)),
        seed=3,
        folds=1,
        progress=Silent(),
    )


@pytest.fixture
def past(data: TrainingData) -> PastQueries:
    test_us = int(data.log.time_us.max())
    rng = np.random.default_rng(0)
    return window_queries(data.log, test_us, test_us + 1, per_user=1, max_labels=1, rng=rng)


def test_only_the_last_events_are_told(past: PastQueries) -> None:
    told = remembering(past, 2)
    known = told.queries.history_rows >= 0
    assert (known.sum(axis=1) == 2).all()
    assert np.array_equal(told.queries.history_rows[:, -2:], past.queries.history_rows[:, -2:])
    assert np.array_equal(told.seen_rows.reshape(-1, 2), past.queries.history_rows[:, -2:])
    assert (told.queries.user_rows == -1).all()
    assert np.array_equal(told.label_rows, past.label_rows)


def test_who_has_fewer_events_tells_them_all(past: PastQueries) -> None:
    told = remembering(past, LENGTH + 3)
    assert np.array_equal(told.queries.history_rows, past.queries.history_rows)
    assert np.array_equal(told.seen_indptr, past.seen_indptr)
    assert np.array_equal(told.seen_rows, past.seen_rows)
    nothing = remembering(past, 0)
    assert (nothing.queries.history_rows == -1).all()
    assert len(nothing.seen_rows) == 0


def test_nobody_met_a_cold_item_before_it_arrived(data: TrainingData) -> None:
    cold = cold_fold_of(60) == 0
    assert cold.sum() == 6
    arriving = with_cold(data, cold)
    test_us = int(data.log.time_us.max())
    met = cold[arriving.log.item_rows]
    assert 0 < met.sum() == cold[data.log.item_rows[data.log.time_us == test_us]].sum()
    assert (arriving.log.time_us[met] == test_us).all()
    dates = arriving.items["published_at_us"]
    assert (dates.filter(pl.Series(cold)) == test_us).all()
    assert dates.filter(pl.Series(~cold)).null_count() == 54
    assert arriving.items.schema == data.items.schema


def shoppers(report: ColdStart, name: str) -> ShopperCase:
    return next(case for case in report.shoppers if case.name == name)


def test_the_last_event_says_what_follows_and_nothing_says_little(report: ColdStart) -> None:
    assert report.users == N_USERS
    assert shoppers(report, "all events").scores["ranker"].recall.mean > 0.8
    assert shoppers(report, "last event").scores["co_visited"].recall.mean > 0.9
    nothing = shoppers(report, "nothing")
    assert nothing.scores["co_visited"].recall.mean == 0
    assert nothing.scores["next_item"].recall.mean == 0
    assert nothing.candidate_recall < shoppers(report, "last event").candidate_recall
    assert nothing.ndcg_minus_known.high < 0


def test_the_collaborative_source_places_the_unknown_by_their_history(report: ColdStart) -> None:
    known, anonymous, nothing = (
        shoppers(report, name).scores["collaborative"].recall.mean
        for name in ("all events", "all events, anonymous", "nothing")
    )
    assert known == anonymous > 0
    assert nothing == 0


def items(report: ColdStart, name: str) -> ItemCase:
    return next(case for case in report.cold.cases if case.name == name)


def test_items_without_events_are_found_by_what_is_written_and_dated(report: ColdStart) -> None:
    cold = report.cold
    assert cold.cold_items == 6
    assert 0 < cold.questions < N_USERS == cold.slates
    assert cold.chance_among_cold == 1
    assert items(report, "co_visited").among_all.mean == 0
    assert items(report, "new_items").among_all.mean == 1  # six are new, ten are shown
    assert items(report, "new_items").slates_with_cold.mean == 1
    assert items(report, "new_items").among_cold.mean == 1
    assert items(report, "trending").slates_with_cold.mean == 0
    assert cold.candidate_recall == 1


def test_cases_are_compared_by_shopper() -> None:
    def found(ndcg: list[float]) -> Found:
        values = {"ranker": np.array(ndcg), "trending": np.zeros(2)}
        return Found(values, values, np.ones(2))

    case = shopper_case("few", found([0.5, 0.1]), found([1.0, 0.4]), 0)
    assert case.ndcg_minus_known.mean == pytest.approx(-0.4)
    assert case.ndcg_minus_known.low == pytest.approx(-0.5)
    assert case.ndcg_minus_popularity.mean == pytest.approx(0.3)
