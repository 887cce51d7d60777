import numpy as np
import polars as pl
import pytest

from features.arrays import Int32Array, Int64Array
from features.items import ITEM_SCHEMA
from recsys.evaluation.metrics import RowSets
from recsys.evaluation.next_item import NextItems, Ranking
from recsys.evaluation.text_bias import group_changes, item_groups, text_bias

N_ITEMS, N_SHOPPERS = 200, 1_000
NAMES = [f"brand-{item // 20}" for item in range(N_ITEMS)]
GROUPS = {"brand": NAMES}


def questions(rng: np.random.Generator) -> NextItems:
    targets = rng.integers(0, N_ITEMS, N_SHOPPERS).astype(np.int32)
    return NextItems(RowSets.of([[int(item)] for item in rng.permutation(N_SHOPPERS) % 5]), targets)


def ranking(rng: np.random.Generator, ranks: Int64Array, top: Int32Array | None = None) -> Ranking:
    lists = rng.permuted(np.tile(np.arange(N_ITEMS, dtype=np.int32), (N_SHOPPERS, 1)), axis=1)
    shown = lists[:, :10] if top is None else top
    return Ranking(ranks, shown, np.full(N_SHOPPERS, N_ITEMS - 1))


def test_where_brands_fare_alike_none_is_called_pushed_down() -> None:
    called = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        asked = questions(rng)
        report = text_bias(ranking(rng, rng.integers(0, N_ITEMS - 1, N_SHOPPERS)), asked, GROUPS)
        called += report.pushed_down
        assert (report.groups, report.shoppers) == (10, N_SHOPPERS)
    assert called == 0


def test_a_brand_that_text_hides_is_named() -> None:
    rng = np.random.default_rng(0)
    asked = questions(rng)
    hidden = asked.targets < 20
    ranks = np.where(hidden, N_ITEMS - 2, rng.integers(0, 50, N_SHOPPERS))
    top = rng.integers(20, N_ITEMS, (N_SHOPPERS, 10)).astype(np.int32)

    report = text_bias(ranking(rng, ranks, top), asked, GROUPS)

    worst = report.worst[0]
    assert [group.name for group in report.worst if group.pushed_down] == ["brand-0"]
    assert (worst.kind, worst.name, worst.items) == ("brand", "brand-0", 20)
    assert worst.exposure_share == 0.0
    assert worst.catalogue_share == pytest.approx(0.1)
    assert worst.percentile.high < -0.5
    assert worst.exposure.mean == pytest.approx(-worst.demand_share)
    assert report.pushed_down_share == pytest.approx(0.1)


def test_a_brand_that_is_hard_to_foresee_but_shown_is_not_pushed_down() -> None:
    rng = np.random.default_rng(0)
    asked = questions(rng)
    hard = asked.targets < 20
    ranks = np.where(hard, N_ITEMS - 2, rng.integers(0, 50, N_SHOPPERS))

    report = text_bias(ranking(rng, ranks), asked, GROUPS)

    assert report.worst[0].name == "brand-0"
    assert report.worst[0].percentile.high < -0.5
    assert report.pushed_down == 0


def test_a_brand_is_compared_with_items_of_its_popularity() -> None:
    """Rare items lie far back here, whoever makes them; brand-0 has only rare ones."""
    rng = np.random.default_rng(0)
    rare = np.arange(N_ITEMS) < 100
    targets = rng.integers(0, N_ITEMS, N_SHOPPERS).astype(np.int32)
    histories = RowSets.of([[int(item)] for item in rng.integers(100, N_ITEMS, N_SHOPPERS)])
    ranks = np.where(rare[targets], 150, 20) + rng.integers(0, 5, N_SHOPPERS)
    top = rng.integers(100, N_ITEMS, (N_SHOPPERS, 10)).astype(np.int32)

    report = text_bias(ranking(rng, ranks, top), NextItems(histories, targets), GROUPS)

    assert report.pushed_down == 0
    assert all(abs(group.percentile.mean) < 0.02 for group in report.worst)


def test_a_brand_is_compared_with_other_brands_only() -> None:
    """Two brands of the same popularity: the larger one is not its own yardstick."""
    rng = np.random.default_rng(0)
    large = np.arange(N_SHOPPERS) % 4 > 0
    targets = np.where(large, rng.integers(0, 100, N_SHOPPERS), rng.integers(100, N_ITEMS))
    asked = NextItems(RowSets.of([[]] * N_SHOPPERS), targets.astype(np.int32))
    names = ["large" if item < 100 else "small" for item in range(N_ITEMS)]

    report = text_bias(ranking(rng, np.where(large, 99, 0)), asked, {"brand": names})

    below = {group.name: group.percentile.mean for group in report.worst}
    assert below == pytest.approx({"large": -0.5, "small": 0.5})


def test_a_brand_without_others_as_popular_is_not_judged() -> None:
    rng = np.random.default_rng(0)
    asked = questions(rng)
    alone = {"brand": ["only"] * N_ITEMS}
    report = text_bias(ranking(rng, np.zeros(N_SHOPPERS, np.int64)), asked, alone)
    assert (report.groups, report.pushed_down, report.worst) == (0, 0, ())


def test_attention_that_one_item_gets_is_counted() -> None:
    rng = np.random.default_rng(0)
    asked = questions(rng)
    top = np.tile(np.arange(10, dtype=np.int32), (N_SHOPPERS, 1))
    report = text_bias(ranking(rng, np.zeros(N_SHOPPERS, np.int64), top), asked, GROUPS)

    share = 10 / N_ITEMS
    assert report.never_shown == pytest.approx(1 - share)
    assert report.gini == pytest.approx(1 - share)
    assert report.hubness == pytest.approx((1 - 2 * share) / np.sqrt(share * (1 - share)))
    assert report.mean_percentile == 1.0


def test_a_group_that_loses_against_the_baseline_is_named_first() -> None:
    rng = np.random.default_rng(0)
    asked = questions(rng)
    before = np.full(N_SHOPPERS, 14)
    after = np.where(asked.targets < 20, 30, rng.choice([12, 17], N_SHOPPERS))

    changes = group_changes(ranking(rng, after), ranking(rng, before), asked, GROUPS)

    assert changes[0].name == "brand-0"
    assert changes[0].is_loss
    assert changes[0].baseline_gain == pytest.approx(1 / 4)  # rank 15, from 0
    assert changes[0].gain.mean == pytest.approx(1 / 5 - 1 / 4)
    assert not any(change.is_loss for change in changes[1:])


def test_few_targets_are_no_group_to_judge() -> None:
    rng = np.random.default_rng(0)
    asked = questions(rng).take(np.arange(100))
    placed = Ranking(np.zeros(100, np.int64), np.zeros((100, 1), np.int32), np.full(100, 199))
    assert text_bias(placed, asked, GROUPS).groups == 0


def test_groups_are_the_first_tag_and_the_brand_attribute() -> None:
    rows = [
        {"item_id": "a", "tags": ["soap", "rose"], "attributes": '{"brand":"Dove"}'},
        {"item_id": "b", "tags": [], "attributes": '{"brand":3}'},
    ]
    items = pl.DataFrame(rows, schema=ITEM_SCHEMA)
    assert item_groups(items) == {"category": ["soap", None], "brand": ["Dove", None]}
    assert item_groups(items[1:]) == {"category": [None]}
