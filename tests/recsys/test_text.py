import random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from recsys.retrieval.text import MAX_TEXT_CHARS, item_text, item_texts

WORDS = st.text(max_size=60)
LABELS = st.lists(WORDS, max_size=4)
ATTRIBUTES = st.dictionaries(
    WORDS, st.none() | st.booleans() | st.integers() | st.floats() | WORDS | LABELS, max_size=4
)


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


@given(WORDS, WORDS, LABELS, ATTRIBUTES, st.integers(0, 3_000))
def test_every_text_begins_with_its_title_and_ends_in_time(
    title: str, description: str, tags: list[str], attributes: dict[str, object], repeats: int
) -> None:
    text = item_text(title, description * repeats, tags, attributes)
    assert text.startswith(" ".join(title.split()))
    assert len(text) <= MAX_TEXT_CHARS
    assert "  " not in text


@given(WORDS, WORDS, LABELS, ATTRIBUTES)
def test_a_text_says_nothing_that_its_item_does_not(
    title: str, description: str, tags: list[str], attributes: dict[str, object]
) -> None:
    said = item_text(title, description, tags, attributes)
    told = [title, description, *tags]
    for value in attributes.values():
        told += [
            part
            for part in (value if isinstance(value, list) else [value])
            if isinstance(part, str)
        ]
    known = {character for part in told for character in part} | set(". ,")
    assert set(said) <= known


@given(WORDS, LABELS, ATTRIBUTES, st.randoms())
def test_neither_repeated_tags_nor_the_order_of_attributes_change_a_text(
    title: str, tags: list[str], attributes: dict[str, object], shuffler: random.Random
) -> None:
    keys = list(attributes)
    shuffler.shuffle(keys)
    shuffled = {key: attributes[key] for key in keys}
    assert item_text(title, "", tags, attributes) == item_text(title, "", tags + tags, shuffled)
