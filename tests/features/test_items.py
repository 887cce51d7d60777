from typing import Any

import polars as pl
import pytest

from features.event_checks import parse_times
from features.events import CheckedRows
from features.items import ITEM_SCHEMA, check_items
from tests.features.rows import NOON_US, item


def check(*rows: dict[str, Any]) -> CheckedRows:
    return check_items(pl.DataFrame(list(rows), infer_schema_length=None, strict=False))


def test_titles_of_any_script_are_accepted() -> None:
    titles = ["😀 mug", "נעלי ריצה", "跑步鞋", "é" * 2_000]
    checked = check(*(item(str(n), title=title) for n, title in enumerate(titles)))
    assert checked.accepted["title"].to_list() == titles
    assert checked.accepted.schema == pl.Schema(ITEM_SCHEMA)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"item_id": None}, "item_id is missing, expected 1 to 256 characters"),
        ({"title": "x" * 2_001}, "title has 2001 characters, expected at most 2000"),
        ({"description": "x" * 50_001}, "description has 50001 characters"),
        ({"title": "a\0b"}, "title contains a NUL character"),
        ({"tags": [str(n) for n in range(65)]}, "tags holds 65 tags, expected at most 64"),
        ({"tags": ["x" * 201]}, "a tag has 201 characters, expected at most 200"),
        ({"title": " ", "tags": []}, "title, description and tags are all empty"),
        ({"attributes": '{"price": NaN}'}, "price is nan, expected a finite number from 0 up"),
        ({"attributes": '{"price": -1}'}, "price is -1, expected a finite number from 0 up"),
        ({"attributes": '{"price": 1e999}'}, "price is inf, expected a finite number"),
        ({"attributes": '{"price": "9"}'}, "price is '9', expected a finite number"),
        ({"attributes": '{"size": NaN}'}, "attributes: Out of range float values"),
        ({"attributes": f'{{"price": 1{"0" * 400}}}'}, "attributes: int too large"),
        ({"attributes": f'{{"size": 1{"0" * 400}}}'}, "attributes: number is infinity"),
        ({"attributes": "[1]"}, "attributes: found list, expected a JSON object"),
        ({"attributes": "{"}, "attributes: Expecting"),
        ({"attributes": '{"a": "\\ud800"}'}, "attributes: 'utf-8' codec can't encode"),
        ({"attributes": "[" * 100_000}, "attributes: maximum recursion depth"),
        ({"published_at_us": 2**62}, "published_at_us 4611686018427387904, expected"),
    ],
)
def test_a_bad_item_is_rejected_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    checked = check(item("good"), item("bad") | changes)
    assert checked.accepted["item_id"].to_list() == ["good"]
    assert checked.rejected["row"].to_list() == [1]
    assert reason in checked.rejected["reason"][0]


def test_missing_optional_columns_are_filled() -> None:
    row = check_items(pl.DataFrame({"item_id": [5], "title": ["Mug"]})).accepted.to_dicts()[0]
    assert row == item("5", title="Mug", tags=[], attributes="{}")


def test_tags_are_stripped_and_deduplicated_in_order() -> None:
    checked = check(item("a", tags=[" red ", "mug", "red", "", None]))
    assert checked.accepted["tags"].to_list() == [["red", "mug"]]


def test_attributes_have_one_spelling_whether_text_or_struct() -> None:
    text = check(item("a", attributes='{"price": 2.5,\n "brand": "Öl", "size": null}'))
    struct = check(item("a", attributes={"price": 2.5, "brand": "Öl", "size": None}))
    expected = '{"brand":"Öl","price":2.5}'
    assert text.accepted["attributes"].to_list() == [expected]
    assert struct.accepted["attributes"].to_list() == [expected]


def test_columns_of_the_wrong_type_are_named() -> None:
    assert "tags has type String" in check(item("a", tags="red")).rejected["reason"][0]
    assert "available has type Int64" in check(item("a", available=1)).rejected["reason"][0]


def test_why_a_publishing_time_was_not_read_is_the_reason() -> None:
    times = parse_times(pl.Series(["2023-11-15T12:00:00Z", "2023-11-15"]), name="published_at")
    frame = pl.DataFrame({"item_id": ["a", "b"], "title": ["x", "y"]}).hstack(times)
    checked = check_items(frame)
    assert checked.accepted["published_at_us"].to_list() == [NOON_US]
    assert "has no time zone" in checked.rejected["reason"][0]
