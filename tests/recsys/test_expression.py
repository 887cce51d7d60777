import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from features.errors import DataError
from recsys.conditions import AllOf, AnyOf, Not
from recsys.expression import MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH, parse
from recsys.placements import ExpressionText
from tests.recsys.filtered_items import NOW_US, item, matching, of


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
@pytest.mark.parametrize("c", [0, 1])
def test_not_binds_tighter_than_and_and_and_tighter_than_or(a: int, b: int, c: int) -> None:
    catalog = of(item(a=a, b=b, c=c))
    for text, expected in {
        "a = 1 or b = 1 and c = 1": a or (b and c),
        "a = 1 and b = 1 or c = 1": (a and b) or c,
        "not a = 1 and b = 1": (not a) and b,
        "not a = 1 or b = 1": (not a) or b,
        "not (a = 1 or b = 1)": not (a or b),
        "not not a = 1": a,
        "a between 0 and 1 and b = 1": b,
        "(a = 1 or b = 1) and c = 1": (a or b) and c,
    }.items():
        assert matching(catalog, text) == [bool(expected)], text


def test_an_expression_is_what_was_written() -> None:
    text = ' brand  =  "Acme" '
    assert (str(parse(text)), parse(text).text) == (text, text)
    assert {parse(text), parse(text)} == {parse(text)}
    assert parse(text) != parse('brand = "Acme"')
    assert parse('b = 1 and a exists or not b in ("x")').fields == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: found the end, expected a field, not or (; write a whole condition"),
        ("price <", "character 8: found the end, expected a value"),
        ("price", "found the end, expected not, =, !=, <, <=, >, >=, in, between or exists"),
        (
            "brand = Acme",
            'character 9: found Acme, expected a value; text stands in quotes, "Acme"',
        ),
        ('"brand" = 1', 'found "brand", expected a field, not or (; a field stands bare or in `'),
        ("a = 1 b = 2", "character 7: found b, expected and, or or the end"),
        ("(a = 1", "expected )"),
        ("a = 1)", "character 6: found ), expected the end; no bracket is open here"),
        ("a in ()", "found ), expected a value"),
        ("a in (1 2)", "character 9: found 2, expected a comma or )"),
        ("a == 1", "one sign of comparison"),
        ("a = 1 && b = 2", "character 7: found &"),
        ("a = 1 && b = 2", "write and"),
        ("a = 1 || b = 2", "write or"),
        ("!a = 1", "write not"),
        ("a = “x”", "quotes are straight"),
        ('a = "x', "close the quote"),
        ("größe = 1", "unusual field names into `backquotes`"),
        ("in = 1", "`in`"),
        (r'a = "\q"', r"found the escape \q"),
        ("a < true", "found true, expected a number"),
        ('title < "m"', "only numbers and published_at have an order"),
        ("a between 3 and 1", "the smaller first; swap them"),
        ("a = 1e999", "below 1e308"),
        ("tags = 5", "found 5, expected text in quotes: tags"),
        ('available = "yes"', "expected true or false"),
        ('age_days < "x"', "expected a number"),
        ('published_at > "2026-11-23"', "an ISO-8601 time with its zone"),
        ('published_at > "2026-11-23T10:00:00"', "an ISO-8601 time with its zone"),
        ('published_at > "soon"', "an ISO-8601 time with its zone"),
        ("published_at > 5", "an ISO-8601 time with its zone"),
        ("a = 1 or " * 250 + "a = 1", "2255 characters, expected at most 2000"),
        ("a=1 or " * MAX_CONDITIONS + "a=1", "51 conditions, expected at most 50"),
        ("not " * MAX_DEPTH + "a = 1", "31 deep, expected at most 30"),
    ],
)
def test_an_error_says_where_what_was_found_what_was_expected_and_what_to_do(
    text: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_pydantic_reports_the_same_words() -> None:
    with pytest.raises(ValidationError, match="character 9: found Acme, expected a value"):
        TypeAdapter(ExpressionText).validate_python("brand = Acme")


def test_deep_and_long_texts_are_read_or_refused_without_recursion() -> None:
    deep = (MAX_LENGTH - 6) // 2
    assert matching(of(item(a=1)), "(" * deep + "a=1" + ")" * deep) == [True]
    nested = "not(" * 390 + "a=1" + ")" * 390
    with pytest.raises(DataError, match="391 deep"):
        parse(nested)
    zigzag = "a=1 or(a=1 and(" * 20 + "a=1" + "))" * 20
    with pytest.raises(DataError, match="41 deep"):
        parse(zigzag)
    longest = f"a in ({','.join('1' * 990)})"
    assert len(longest) < MAX_LENGTH
    assert matching(of(item(a=1)), longest) == [True]
    assert parse("not " * (MAX_DEPTH - 1) + "a=1").text == "not " * (MAX_DEPTH - 1) + "a=1"


PIECES = "and or not in between exists ( ) , = < != a tags published_at 'x' ' ` \\ 1 - .5e3 true \0"
HOSTILE = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(PIECES.split(" ")), max_size=12).map(" ".join)
)


@given(HOSTILE)
@example("a = 1 --")
@example('__import__("os").system("ls")')
@example("a = '\ud800'")
@settings(max_examples=400, deadline=None)
def test_any_text_is_either_read_or_refused_with_a_reason(text: str) -> None:
    try:
        expression = parse(text)
    except DataError as error:
        refused = str(error)
    else:
        assert of(item(a=1)).matching(expression, NOW_US).dtype == np.bool_
        return
    assert refused.startswith("the filter")


def test_flat_joins_are_one_node() -> None:
    root = parse("a=1 or b=1 or c=1").root
    assert isinstance(root, AnyOf)
    assert len(root.parts) == 3
    root = parse("a=1 and not b=1 and c=1").root
    assert isinstance(root, AllOf)
    assert isinstance(root.parts[1], Not)
