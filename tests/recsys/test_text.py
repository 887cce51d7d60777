import polars as pl

from recsys.retrieval.text import MAX_TEXT_CHARS, item_text, item_texts


def test_the_title_comes_first_and_the_description_last() -> None:
    text = item_text("Red lipstick", "Lasts all day.", ["Makeup", "Lips"], {"brand": "OPI"})
    assert text == "Red lipstick. Makeup, Lips, OPI. Lasts all day."


def test_truncation_keeps_the_title() -> None:
    text = item_text("Red lipstick", "word " * 20_000, ["Makeup"], {})
    assert text.startswith("Red lipstick. Makeup. word word")
    assert len(text) == MAX_TEXT_CHARS


def test_an_item_that_says_nothing_becomes_an_empty_text() -> None:
    assert item_text("", "", [], {}) == ""
    assert item_text("  ", "\n", ["", " "], {"price": 3.5}) == ""


def test_a_brand_that_is_also_a_tag_is_said_once() -> None:
    assert item_text("Polish", "", ["OPI", "Nails"], {"brand": "opi"}) == "Polish. OPI, Nails"


def test_numbers_addresses_and_prose_attributes_are_left_out() -> None:
    attributes = {
        "price": 12.5,
        "in_stock": True,
        "image": "https://shop.example/a.jpg",
        "care": "wash cold " * 20,
        "size": {"eu": 38},
        "colors": ["red", "blue"],
        "brand": "Acme",
    }
    assert item_text("Shirt", "", [], attributes) == "Shirt. Acme, red, blue"


def test_the_order_of_attributes_does_not_change_the_text() -> None:
    one = item_text("Shirt", "", [], {"brand": "Acme", "color": "red"})
    assert one == item_text("Shirt", "", [], {"color": "red", "brand": "Acme"})


def test_every_script_passes_unchanged() -> None:
    for title in ("长袖 T 恤", "قميص أزرق", "👕🔥", "Crème brûlée"):
        assert item_text(title, "", [], {}) == title


def test_a_table_gives_one_text_per_row_and_nulls_are_nothing() -> None:
    items = pl.DataFrame(
        {
            "title": ["Shirt", None, ""],
            "description": ["Soft.", None, ""],
            "tags": [["Men"], None, []],
            "attributes": ['{"brand": "Acme"}', None, "{}"],
        },
        schema_overrides={"tags": pl.List(pl.String)},
    )
    assert item_texts(items) == ["Shirt. Men, Acme. Soft.", "", ""]
