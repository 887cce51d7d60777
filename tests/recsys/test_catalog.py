import numpy as np
import polars as pl
import pytest

from features.items import ITEM_SCHEMA
from recsys.catalog import MAX_TAGS, Catalog
from recsys.expression import parse
from recsys.growing import GrowingArray

NOW_US = 1_800_000_000_000_000


def items(*rows: dict[str, object]) -> pl.DataFrame:
    blank = {
        "title": "",
        "description": "",
        "tags": [],
        "attributes": "{}",
        "available": True,
        "published_at_us": None,
    }
    return pl.DataFrame([{**blank, **row} for row in rows], schema=ITEM_SCHEMA)


def shop() -> Catalog:
    return Catalog(
        items(
            {"item_id": "lamp", "tags": ["light", "room"], "attributes": '{"price":20,"size":1}'},
            {"item_id": "bulb", "tags": ["light"], "attributes": '{"price":0}'},
            {"item_id": "chair", "tags": ["room"], "attributes": '{"sale":true,"wood":"oak"}'},
            {"item_id": "gone", "tags": ["room"], "available": False},
        )
    )


def shown(catalog: Catalog, *filters: str) -> set[str]:
    mask = catalog.allowed([parse(text) for text in filters], NOW_US)
    return {catalog.item_ids[row] for row in np.flatnonzero(mask)}


def test_rows_are_in_the_order_of_arrival_and_unknown_ids_are_minus_one() -> None:
    catalog = shop()
    assert catalog.rows(["chair", "no", "lamp"]).tolist() == [2, -1, 0]
    assert (len(catalog), catalog.n_available, catalog.n_tags) == (4, 3, 2)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], {"lamp", "bulb", "chair"}),
        (['tags in ("light", "unknown")'], {"lamp", "bulb"}),
        (['tags = "light" and tags = "room"'], {"lamp"}),
        (['tags = "light"', 'tags = "room"'], {"lamp"}),
        (['tags = "light" and tags = "unknown"'], set()),
        (['not tags = "light"'], {"chair"}),
        (["price <= 20"], {"lamp", "bulb"}),  # an unpriced item is not known to cost less
        (["price >= 20"], {"lamp"}),
        (["price > 20"], set()),
        (['wood in ("oak", "elm")'], {"chair"}),
        (["size = 1.0"], {"lamp"}),
        (["sale = true"], {"chair"}),
        (["sale = 1"], set()),  # the number is not the truth value
        (['unknown = "x"'], set()),
        (["available = false"], set()),
    ],
)
def test_only_available_items_that_match_every_filter_are_allowed(
    filters: list[str], expected: set[str]
) -> None:
    assert shown(shop(), *filters) == expected


def test_a_removed_item_keeps_its_row_and_is_shown_again_when_put() -> None:
    catalog = shop()
    catalog.remove(["lamp", "unknown"])
    assert shown(catalog) == {"bulb", "chair"}
    assert catalog.row("lamp") == 0
    catalog.put(items({"item_id": "lamp", "title": "Lamp again"}))
    assert shown(catalog) == {"lamp", "bulb", "chair"}
    assert catalog.titles[0] == "Lamp again"
    assert shown(catalog, 'tags = "light"') == {"bulb"}  # its tags were replaced


def test_new_and_known_items_may_come_together() -> None:
    catalog = shop()
    rows = catalog.put(
        items(
            {"item_id": "table", "tags": ["wood", "room"], "attributes": '{"wood":"elm"}'},
            {"item_id": "bulb", "attributes": '{"wood":"oak"}'},
        )
    )
    assert rows.tolist() == [4, 1]
    assert shown(catalog, 'tags = "wood"') == {"table"}


def test_an_attribute_that_was_filtered_by_before_follows_later_items() -> None:
    catalog = shop()
    wood = 'wood = "oak"'
    assert shown(catalog, wood) == {"chair"}
    catalog.put(items({"item_id": "shelf", "attributes": '{"wood":"oak"}'}, {"item_id": "chair"}))
    assert shown(catalog, wood) == {"shelf"}


def test_an_attribute_that_no_item_has_is_met_by_none_and_costs_nothing() -> None:
    catalog = shop()
    assert shown(catalog, 'colour = "red"') == set()
    assert catalog._columns == {}
    catalog.put(items({"item_id": "rug", "attributes": '{"colour":"red"}'}))
    assert shown(catalog, 'colour = "red"') == {"rug"}


def test_tags_beyond_the_limit_are_not_compared() -> None:
    many = [f"t{n}" for n in range(MAX_TAGS + 3)]
    catalog = Catalog(items({"item_id": "a", "tags": many}, {"item_id": "b", "tags": None}))
    assert catalog.tags.shape == (2, MAX_TAGS)
    assert catalog.n_tags == MAX_TAGS
    assert (catalog.tags[1] == -1).all()


def test_tags_beyond_the_limit_are_filtered_by() -> None:
    many = [f"t{n}" for n in range(MAX_TAGS)]
    catalog = Catalog(items({"item_id": "a", "tags": [*many, "adult"]}, {"item_id": "b"}))
    assert shown(catalog, 'not tags = "adult"') == {"b"}
    assert shown(catalog, 'tags in ("adult", "t0")') == {"a"}
    catalog.put(items({"item_id": "a", "tags": many}, {"item_id": "b", "tags": ["adult"]}))
    assert shown(catalog, 'tags = "adult"') == {"b"}


def test_values_of_one_item_are_its_attributes_or_all_its_tags() -> None:
    many = [f"t{n}" for n in range(MAX_TAGS + 2)]
    attributes = '{"size":["S",2,true,null,{"inner":1}],"brand":"Acme","nested":{"brand":"Bolt"}}'
    catalog = Catalog(items({"item_id": "a", "tags": many, "attributes": attributes}))
    assert catalog.values(0, "size") == ("S", 2, True)
    assert catalog.values(0, "brand") == ("Acme",)
    assert catalog.values(0, "nested") == catalog.values(0, "colour") == ()
    assert catalog.values(0, "tags") == tuple(many)
    catalog.put(items({"item_id": "b", "tags": ["later", "t1"]}))
    assert catalog.values(1, "tags") == ("later", "t1")


def test_prices_are_logarithms_and_missing_where_unknown() -> None:
    prices = shop().log_price
    assert prices[0] == pytest.approx(np.log(20))
    assert np.isfinite(prices[1])
    assert np.isnan(prices[2:]).all()


def test_an_empty_catalogue_allows_nothing() -> None:
    catalog = Catalog(items())
    assert catalog.allowed([parse('tags = "x" or price < 3')], NOW_US).shape == (0,)
    assert catalog.put(items({"item_id": "first"})).tolist() == [0]


def test_an_array_grows_without_moving_what_was_read() -> None:
    array = GrowingArray(np.arange(3))
    before = array.rows
    for n in range(3, 100):
        array.append(np.array([n]))
    assert array.rows.tolist() == list(range(100))
    assert before.tolist() == [0, 1, 2]
    array.append(np.empty(0, np.int64))
    assert len(array.rows) == 100
