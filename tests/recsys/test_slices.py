"""Shoppers parted by hand-sized tables."""

import numpy as np
import polars as pl
import pytest

from features.items import ITEM_SCHEMA
from recsys.catalog import Catalog
from recsys.evaluation.metrics import RowSets
from recsys.evaluation.samples import varied_shoppers
from recsys.evaluation.slices import (
    MAX_CATEGORIES,
    Partition,
    head,
    history_bucket,
    item_categories,
    partitions,
)


def catalog(*tags: list[str]) -> Catalog:
    row = {"title": "", "description": "", "attributes": "{}", "available": True}
    rows = [{**row, "item_id": str(number), "tags": names} for number, names in enumerate(tags)]
    return Catalog(pl.DataFrame(rows, schema=ITEM_SCHEMA))


BOOKS_AND_TOYS = catalog(["book"], ["book"], ["toy", "red"], ["toy"], [])


def parted(relevant: list[list[int]], known: list[int]) -> dict[str, list[str | None]]:
    found = partitions(
        np.array(known), RowSets.of(relevant), np.array([6, 1, 2, 2, 1]), BOOKS_AND_TOYS
    )
    return {
        part.dimension: [part.names[code] if code >= 0 else None for code in part.codes]
        for part in found
    }


def test_shoppers_are_parted_by_what_was_known_of_them() -> None:
    found = parted([[0]] * 7, [0, 1, 2, 5, 6, 20, 21])
    assert found["shopper"] == ["new"] + ["returning"] * 6
    assert found["events known"] == ["0", "1", "2-5", "2-5", "6-20", "6-20", "21 and more"]


def test_the_head_are_the_fewest_items_that_hold_half_of_all_there_was() -> None:
    assert head(np.array([6, 1, 2, 2, 1])).tolist() == [True, False, False, False, False]
    assert head(np.array([1, 2, 2, 1])).tolist() == [False, True, True, False]
    assert not head(np.zeros(3, np.int64)).any()


def test_shoppers_are_parted_by_the_most_of_what_they_took() -> None:
    found = parted([[0], [0, 1], [0, 1, 2], [2, 3, 1], [4], [4, 3]], [1] * 6)
    assert found["items taken"] == ["head", "head", "tail", "tail", "tail", "tail"]
    assert found["category"] == ["book", "book", "book", "toy", None, "toy"]


def test_a_tag_that_every_item_carries_is_no_category() -> None:
    beauty = catalog(*[["beauty", "hair" if number % 2 else "skin"] for number in range(20)])
    names = list(beauty.tag_row_of)
    assert [names[tag] for tag in item_categories(beauty.tags, beauty.n_tags)[:2]] == [
        "skin",
        "hair",
    ]
    alike = catalog(*[["beauty"]] * 20)
    assert item_categories(alike.tags, alike.n_tags).tolist() == [0] * 20


def test_small_categories_are_told_together() -> None:
    shop = catalog(*[[f"tag-{number:02}"] for number in range(30)])
    relevant = RowSets.of([[number] for number in range(30)] + [[7], [7], [9]])
    *_, category = partitions(np.zeros(33, np.int64), relevant, np.zeros(30, np.int64), shop)
    assert len(category.names) == MAX_CATEGORIES
    assert category.names[:2] == ("tag-07", "tag-09")
    assert category.names[-1] == "other"
    assert (category.codes == MAX_CATEGORIES - 1).sum() == 30 - (MAX_CATEGORIES - 1)


def test_slices_hold_everyone_once_with_their_own_means_and_paired_differences() -> None:
    rng = np.random.default_rng(0)
    users = rng.random(90)
    ndcg = {"ranker": users + 0.1, "trending": users, "live": users + 0.05}
    part = Partition("shopper", ("new", "returning", "nobody"), np.arange(90) % 3 // 2)
    new, returning = part.slices(ndcg, seed=0)
    assert (new.shoppers, returning.shoppers) == (60, 30)
    assert new.ndcg["trending"].mean == pytest.approx(users[np.arange(90) % 3 < 2].mean())
    assert returning.ndcg["ranker"].low < returning.ndcg["ranker"].mean
    for one in (new, returning):  # every shopper gains the same, whoever is drawn
        gain = one.against["trending"]
        assert [gain.low, gain.mean, gain.high] == pytest.approx([0.1] * 3)
        assert one.against["live"].mean == pytest.approx(0.05)


def test_a_slice_of_one_shopper_is_told_as_such() -> None:
    part = Partition("shopper", ("new",), np.zeros(1, np.int64))
    (alone,) = part.slices({"ranker": np.array([0.5])}, seed=0)
    assert (alone.shoppers, alone.against) == (1, {})
    assert alone.ndcg["ranker"].low == alone.ndcg["ranker"].high == 0.5


def test_sample_shoppers_differ_in_what_is_known_of_them() -> None:
    known = np.array([0] * 500 + [1] * 3 + [4] * 2 + [300])
    chosen = varied_shoppers(known, seed=3)
    assert len(set(chosen.tolist())) == 6
    assert set(history_bucket(known[chosen]).tolist()) == {0, 1, 2, 4}
    assert known[chosen].tolist() == sorted(known[chosen].tolist())
    assert varied_shoppers(known, seed=3).tolist() == chosen.tolist()
    assert varied_shoppers(known, seed=4).tolist() != chosen.tolist()
    assert varied_shoppers(np.array([2]), seed=0).tolist() == [0]
    assert varied_shoppers(np.empty(0, np.int64), seed=0).tolist() == []
