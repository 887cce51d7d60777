import operator
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import US_PER_DAY
from recsys.catalog import US_PER_MINUTE, Catalog
from recsys.expression import parse
from tests.recsys.filtered_items import NOW, NOW_US, Item, item, matching, of, table

Answer = Callable[[Item], bool]  # the naive meaning of a generated text

WORDS = ["lamp", "Lamp", "a b", 'quo"te', "it's", "back\\slash", "größe", "1", "true"]
TAGS = [f"t{n}" for n in range(20)]
NUMBERS = [-1, 0, 1, 1.0, 2, 2.5, 1e3]
NAMES = ["brand", "size", "sale", "weight", "in", "two words", "größe", "nobody-has-this"]
PUBLISHED = [None, -5, 0, 1, 30, 400]  # days ago


def values_of(item: Item, name: str) -> list[Any]:
    """What a naive reader of one item would compare."""
    published = item["published_at_us"]
    if name == "age_days":
        minute = NOW_US // US_PER_MINUTE * US_PER_MINUTE
        return [] if published is None else [(minute - published) / US_PER_DAY]
    found = {**item["attributes"], **item}.get(name)
    if name == "title" and not found:
        return []
    several = found if isinstance(found, list) else [found]
    return [value for value in several if isinstance(value, str | int | float)]


def equals(found: object, wanted: object) -> bool:
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def quoted(text: str, sign: str) -> str:
    return sign + text.replace("\\", "\\\\").replace(sign, f"\\{sign}") + sign


def named(name: str) -> str:
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and name != "in"
    return name if is_bare else quoted(name, "`")


def literal(value: object) -> st.SearchStrategy[str]:
    if isinstance(value, str):
        return st.sampled_from([quoted(value, '"'), quoted(value, "'")])
    if isinstance(value, bool):
        return st.sampled_from([str(value).lower(), str(value).upper()])
    return st.just(repr(value))


# fields with the values they are compared with, and whether they have an order
FIELDS: dict[str, tuple[list[Any], bool]] = {
    **{name: ([*WORDS, *NUMBERS, True, False], True) for name in NAMES},
    "tags": ([*TAGS, "lamp"], False),
    "title": (WORDS, False),
    "item_id": (["item-0", "item-1", "item-99"], False),
    "available": ([True, False], False),
    "age_days": ([*NUMBERS, 30, 400], True),
}
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@st.composite
def equalities(draw: st.DrawFn) -> tuple[str, Answer]:
    name = draw(st.sampled_from(list(FIELDS)))
    wanted = draw(st.lists(st.sampled_from(FIELDS[name][0]), min_size=1, max_size=6))
    texts = [draw(literal(value)) for value in wanted]
    negated = draw(st.booleans())
    if len(wanted) == 1 and draw(st.booleans()):
        text = f"{named(name)} {'!=' if negated else '='} {texts[0]}"
    else:
        word = draw(st.sampled_from(["in", "IN"]))
        text = f"{named(name)} {'not ' if negated else ''}{word} ({', '.join(texts)})"

    def holds(item: Item) -> bool:
        values = values_of(item, name)
        meets = any(equals(value, other) for value in values for other in wanted)
        return bool(values) and not meets if negated else meets

    return text, holds


@st.composite
def orders(draw: st.DrawFn) -> tuple[str, Answer]:
    name = draw(st.sampled_from([name for name, (_, ordered) in FIELDS.items() if ordered]))
    bound = draw(st.sampled_from([*NUMBERS, 30, 400]))
    if draw(st.booleans()):
        low, high = sorted([bound, draw(st.sampled_from(NUMBERS))])
        text = f"{named(name)} between {low!r} and {high!r}"
        return text, lambda i: any(low <= v <= high for v in filter(is_number, values_of(i, name)))
    sign = draw(st.sampled_from(list(SIGNS)))
    meets = SIGNS[sign]
    return f"{named(name)}{sign}{bound!r}", lambda i: any(
        meets(value, bound) for value in filter(is_number, values_of(i, name))
    )


@st.composite
def dates(draw: st.DrawFn) -> tuple[str, Answer]:
    sign = draw(st.sampled_from([*SIGNS, "=", "!="]))
    meets = {**SIGNS, "=": operator.eq, "!=": operator.ne}[sign]
    day = NOW - timedelta(days=draw(st.sampled_from([-5, 0, 1, 2, 30])))
    zoned = draw(st.sampled_from([day.isoformat(), day.isoformat().replace("+00:00", "Z")]))
    day_us = int(day.timestamp()) * 1_000_000
    return f'published_at {sign} "{zoned}"', lambda i: any(
        meets(value, day_us) for value in values_of(i, "published_at_us")
    )


@st.composite
def existences(draw: st.DrawFn) -> tuple[str, Answer]:
    name = draw(st.sampled_from(list(FIELDS)))
    return f"{named(name)} exists", lambda item: bool(values_of(item, name))


def joined(inner: st.SearchStrategy[tuple[str, Answer]]) -> st.SearchStrategy[tuple[str, Answer]]:
    """In brackets everywhere, so that precedence is not what is tested here."""

    def all_of(parts: list[tuple[str, Answer]]) -> tuple[str, Answer]:
        text = " and ".join(f"({text})" for text, _ in parts)
        return text, lambda item: all(holds(item) for _, holds in parts)

    def any_of(parts: list[tuple[str, Answer]]) -> tuple[str, Answer]:
        text = " OR ".join(f"({text})" for text, _ in parts)
        return text, lambda item: any(holds(item) for _, holds in parts)

    def negation(part: tuple[str, Answer]) -> tuple[str, Answer]:
        return f"not ({part[0]})", lambda item: not part[1](item)

    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(several.map(all_of), several.map(any_of), inner.map(negation))


EXPRESSIONS = st.recursive(
    st.one_of(equalities(), orders(), dates(), existences()), joined, max_leaves=6
)
SINGLE = st.one_of(st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.booleans())
ATTRIBUTES = st.dictionaries(
    st.sampled_from(NAMES[:-1]),
    st.one_of(SINGLE, st.lists(SINGLE, max_size=3), st.just({"brand": "lamp"}), st.just([None])),
)


@st.composite
def items(draw: st.DrawFn, numbers: range) -> list[Item]:
    return [
        {
            "item_id": f"item-{n}",
            "title": draw(st.sampled_from(["", *WORDS])),
            "tags": draw(st.lists(st.sampled_from([*TAGS, "lamp"]), max_size=21, unique=True)),
            "attributes": draw(ATTRIBUTES),
            "available": draw(st.booleans()),
            "published_at_us": None if age is None else NOW_US - age * US_PER_DAY,
        }
        for n in numbers
        for age in [draw(st.sampled_from(PUBLISHED))]
    ]


@given(items(range(6)), items(range(4, 9)), EXPRESSIONS)
@settings(max_examples=100, deadline=None)
def test_columns_answer_what_a_reader_of_each_item_would_also_after_a_change(
    known: list[Item], later: list[Item], expression: tuple[str, Answer]
) -> None:
    text, holds = expression
    catalog = Catalog(table(known))
    assert matching(catalog, text) == [holds(item) for item in known]
    catalog.put(table(later))
    now = {item["item_id"]: item for item in [*known, *later]}
    assert matching(catalog, text) == [holds(item) for item in now.values()]
    catalog.remove(["item-1", "item-99"])
    now["item-1"]["available"] = False
    assert matching(catalog, text) == [holds(item) for item in now.values()]
    available = [holds(item) and item["available"] for item in now.values()]
    assert catalog.allowed((parse(text),), NOW_US).tolist() == available


def test_what_an_item_lacks_meets_no_comparison_and_not_is_plain_negation() -> None:
    catalog = of(item("has", brand="Acme"), item("other", brand="Bolt"), item("lacks"))
    assert matching(catalog, 'brand = "Acme"') == [True, False, False]
    assert matching(catalog, 'brand != "Acme"') == [False, True, False]
    assert matching(catalog, 'brand not in ("Acme", "Cog")') == [False, True, False]
    assert matching(catalog, 'not brand = "Acme"') == [False, True, True]
    assert matching(catalog, "brand exists") == [True, True, False]


def test_one_of_several_values_is_enough_but_the_same_one_must_be_between() -> None:
    catalog = of(item(size=[1, 10]))
    assert matching(catalog, "size = 10 and size < 2") == [True]
    assert matching(catalog, "size between 4 and 5") == [False]
    assert matching(catalog, "size >= 4 and size <= 5") == [True]
    assert matching(catalog, "size != 10") == [False]


def test_comparisons_with_a_bound_are_exact() -> None:
    catalog = of(item("a", price=0.1 + 0.2), item("b", price=0.3))
    assert matching(catalog, "price <= 0.3") == [False, True]
    assert matching(catalog, "price < 0.3") == [False, False]
    assert matching(catalog, "price > .3") == [True, False]
    ids = of(item("a", maker=2**60), item("b", maker=2**60 + 1))
    assert matching(ids, f"maker = {2**60 + 1}") == [False, True]


def test_ages_are_of_the_full_minute_and_follow_the_clock() -> None:
    published = {**item(), "published_at_us": NOW_US // US_PER_MINUTE * US_PER_MINUTE - US_PER_DAY}
    catalog = of(published)
    young = parse("age_days <= 1")
    assert catalog.matching(young, NOW_US).tolist() == [True]
    assert catalog.matching(young, NOW_US + 29_000_000).tolist() == [True]
    assert catalog.matching(young, NOW_US + 30_000_000).tolist() == [False]


def test_a_remembered_mask_cannot_be_damaged_and_an_allowed_one_is_the_callers_own() -> None:
    catalog = of(item("a", n=1), item("b", n=2))
    expression = parse("n = 1")
    mask = catalog.matching(expression, NOW_US)
    assert catalog.matching(expression, NOW_US) is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False
    allowed = catalog.allowed((expression,), NOW_US)
    allowed[:] = False
    assert catalog.allowed((expression,), NOW_US).tolist() == [True, False]
    catalog.put(table([item("a", n=2), item("c", n=1)]))
    assert mask.tolist() == [True, False]  # who still holds the old answer keeps it whole
    assert catalog.matching(expression, NOW_US).tolist() == [False, False, True]


def test_masks_are_right_after_more_changes_than_are_remembered() -> None:
    catalog = of(*(item(f"i{n}", n=0) for n in range(3)))
    assert matching(catalog, "n = 1") == [False, False, False]
    for n in range(250):
        catalog.put(table([item(f"i{n % 3}", n=n % 2)]))
    assert matching(catalog, "n = 1") == [bool(n % 2) for n in (249, 247, 248)]
    many = [item(f"i{n}", n=1) for n in range(10_500)]
    catalog.put(table(many))
    assert all(matching(catalog, "n = 1"))
    assert len(matching(catalog, "n = 1")) == len(many)


def test_no_more_masks_are_kept_than_fit() -> None:
    catalog = of(item(n=1))
    first = catalog.matching(parse("n = 1"), NOW_US)
    for n in range(5_000):
        catalog.matching(parse(f"n > {n}"), NOW_US)
        if n % 100 == 0:
            assert catalog.matching(parse("n = 1"), NOW_US) is first  # asked for again and again
    assert len(catalog._masks._kept) < 5_000


def test_fields_that_no_item_has_are_named() -> None:
    catalog = of(item(brand="Acme"))
    known = parse("brand exists or age_days < 3 or tags exists or title exists")
    assert not catalog.unknown_fields(known)
    slip = parse('barnd = "Acme" and `two words` = 1 and brand exists and not barnd = "x"')
    assert list(catalog.unknown_fields(slip)) == ["barnd", "two words"]
    catalog.put(table([item("y", barnd="Acme")]))
    assert list(catalog.unknown_fields(slip)) == ["two words"]


def test_columns_can_be_built_before_they_are_asked_for() -> None:
    catalog = of(item(brand="Acme"))
    assert not catalog.columns
    catalog.prepare(["brand", "title", "tags", "made up"])
    assert list(catalog.columns) == ["brand", "title"]
