"""The public Python API: what goes in as pandas comes out as pandas, and so for Polars."""

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import recsys
from features.errors import DataError, NotReady
from recsys.notebook import Dataset, TwoStageRecommender
from tests.tiny import tiny_config, tiny_events, tiny_items


@pytest.fixture(scope="module")
def interactions() -> pl.DataFrame:
    return (
        tiny_events()
        .drop_nulls("user_id")
        .select(
            "user_id",
            "item_id",
            "event_type",
            datetime=pl.from_epoch("event_time_us", time_unit="us"),
        )
    )


@pytest.fixture(scope="module")
def model(interactions: pl.DataFrame, tiny_text_encoder: Path) -> TwoStageRecommender:
    recipe = tiny_config(tiny_text_encoder).recipe
    return TwoStageRecommender(config=recipe).fit(Dataset.construct(interactions, tiny_items()))


def test_the_package_offers_its_api_by_name() -> None:
    assert recsys.TwoStageRecommender is TwoStageRecommender
    assert recsys.Dataset is Dataset


def test_every_user_gets_k_unseen_items_best_first(
    model: TwoStageRecommender, interactions: pl.DataFrame
) -> None:
    users = interactions["user_id"].unique().sort().to_list()[:5]
    answer = model.recommend(users, k=4)
    assert isinstance(answer, pl.DataFrame)
    assert answer.columns == ["user_id", "item_id", "score", "rank"]
    assert answer["rank"].to_list() == [1, 2, 3, 4] * 5
    seen = interactions.select("user_id", "item_id").unique()
    assert answer.join(seen, on=["user_id", "item_id"]).is_empty()
    falls = answer.select((pl.col("score").diff().over("user_id") <= 0).fill_null(value=True))
    assert falls.to_series().all()


def test_viewed_items_come_back_when_they_are_not_filtered(
    model: TwoStageRecommender, interactions: pl.DataFrame
) -> None:
    user = interactions["user_id"][0]
    answer = model.recommend([user], k=60, filter_viewed=False)
    seen = set(interactions.filter(pl.col("user_id") == user)["item_id"])
    assert seen & set(answer["item_id"])


def test_a_stranger_is_answered(model: TwoStageRecommender) -> None:
    assert len(model.recommend(["nobody has seen me"], k=3)) == 3


def test_items_are_recommended_to_items(model: TwoStageRecommender) -> None:
    item = tiny_items()["item_id"][0]
    answer = model.recommend_to_items([item], k=3)
    assert answer.columns == ["target_item_id", "item_id", "score", "rank"]
    assert item not in answer["item_id"].to_list()
    with pytest.raises(DataError, match="no item 'unheard of'"):
        model.recommend_to_items(["unheard of"])


def test_a_saved_model_answers_as_before(model: TwoStageRecommender, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    loaded = TwoStageRecommender.load(tmp_path / "model")
    before, after = model.recommend(["a stranger"], k=5), loaded.recommend(["a stranger"], k=5)
    assert isinstance(before, pl.DataFrame)
    assert isinstance(after, pl.DataFrame)
    assert before.equals(after)
    with pytest.raises(DataError, match="exists"):
        model.save(tmp_path / "model")


def test_pandas_tables_without_times_or_items_come_back_as_pandas(tiny_text_encoder: Path) -> None:
    rows = [(f"u{u}", f"i{(u % 2) + 2 * step}") for u in range(40) for step in range(6)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id"])
    recipe = tiny_config(tiny_text_encoder).recipe
    model = TwoStageRecommender(config=recipe).fit(Dataset.construct(table))
    answer = model.recommend(["u1"], k=2)
    assert isinstance(answer, pd.DataFrame)
    assert len(answer) == 2


def test_what_cannot_be_used_is_named() -> None:
    with pytest.raises(DataError, match="lack the columns"):
        Dataset.construct(pl.DataFrame({"user": ["a"]}))
    with pytest.raises(NotReady, match="call fit"):
        TwoStageRecommender().recommend(["a"])
    anonymous = pl.DataFrame({"user_id": ["a", None], "item_id": ["b", "c"]})
    with pytest.raises(DataError, match="1 interactions have no user_id or no item_id"):
        Dataset.construct(anonymous)
    ann = {"user_id": ["a"], "item_id": ["b"]}
    with pytest.raises(DataError, match="without a datetime"):
        Dataset.construct(pd.DataFrame({**ann, "datetime": pd.to_datetime(pd.Series([None]))}))
    with pytest.raises(DataError, match="datetime has type Int64"):
        Dataset.construct(pl.DataFrame({**ann, "datetime": [1_700_000_000]}))
    odd = pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "event_type": ["sniff"]})
    with pytest.raises(DataError, match="sniff"):
        TwoStageRecommender().fit(Dataset.construct(odd))
    with pytest.raises(DataError, match="no saved recommender"):
        TwoStageRecommender.load("nowhere")
