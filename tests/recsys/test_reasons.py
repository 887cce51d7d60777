import numpy as np

from features.arrays import Float32Array, Int32Array
from features.covisitation import Neighbours
from features.history import History, ItemRelations
from features.views import SOURCES
from recsys.ranking.reasons import Evidence, reasons

LAMP, SHADE, CHAIR, UNTITLED = range(4)
TITLES = ["Desk lamp", "Lamp shade", "Oak chair", ""]
WEIGHT = {"view": 1.0, "purchase": 8.0, "dismiss": -4.0, "wave": 1.0}


def relations() -> ItemRelations:
    """The lamp's list names the shade, the chair is like the untitled."""
    text: Float32Array = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], np.float32)
    return ItemRelations(
        vectors={"text": text},
        neighbours=lists(LAMP, SHADE),
        tags=np.full((4, 1), -1, np.int32),
        tag_rarity=np.zeros(1, np.float32),
        log_price=np.full(4, np.nan, np.float32),
    )


def lists(of: int, names: int) -> Neighbours:
    indptr = (np.arange(5) > of).astype(np.int64)
    return Neighbours(indptr, np.array([names], np.int32), *np.array([[0.5], [0]], np.float32))


def said(
    item: int, *events: tuple[int, str], found_by: tuple[str, ...] = ("co_visited",), **more: object
) -> tuple[str, ...]:
    """The reasons for one item."""
    ranks = np.full((1, len(SOURCES)), np.nan, np.float32)
    for source in found_by:
        ranks[0, SOURCES.index(source)] = 0
    rows: Int32Array = np.array([row for row, _ in events], np.int32)
    weights = np.array([WEIGHT[verb] for _, verb in events], np.float32)
    given: dict[str, object] = {
        "item_rows": np.array([item], np.int32),
        "source_ranks": ranks,
        "is_popular": np.array(["trending" in found_by]),
        "is_new": np.array([False]),
        "titles": TITLES,
        "relations": relations(),
        "history": History(rows, weights, np.arange(len(rows), dtype=np.int64)),
        "verbs": [verb for _, verb in events],
    }
    (words,) = reasons(Evidence(**(given | more)))  # type: ignore[arg-type]
    return words


def test_what_nobody_acted_on_is_not_called_popular() -> None:
    """In a small shop the source of trending items answers with all there are."""
    nobody = {"found_by": ("trending",), "is_popular": np.array([False])}
    assert said(SHADE, **nobody) == ("worth a look",)  # type: ignore[arg-type]


def test_the_event_that_led_to_an_item_is_named_with_what_was_done() -> None:
    assert said(SHADE, (LAMP, "purchase")) == ("because you bought Desk lamp",)
    assert said(SHADE, (LAMP, "wave")) == ("because you wave Desk lamp",)  # a shop's own type


def test_words_alike_count_where_nobody_took_both() -> None:
    assert said(UNTITLED, (LAMP, "view"), (CHAIR, "view")) == ("because you viewed Oak chair",)


def test_a_dismissed_item_is_no_reason() -> None:
    assert said(SHADE, (LAMP, "dismiss")) == ("picked for you",)


def test_an_item_is_not_its_own_reason() -> None:
    assert said(CHAIR, (CHAIR, "view")) == ("picked for you",)


def test_an_item_without_a_title_is_called_something() -> None:
    assert said(CHAIR, (UNTITLED, "view")) == ("because you viewed something like it",)


NEW = np.array([True])
ABOUT_LAMP = np.array([LAMP], np.int32)


def test_popular_and_new_items_say_so_too() -> None:
    assert said(SHADE, (LAMP, "view"), found_by=("trending",), is_new=NEW) == (
        "because you viewed Desk lamp",
        "popular right now",
        "new",
    )


def test_popular_in_a_tag_says_more_than_popular() -> None:
    assert said(SHADE, found_by=("trending",), charts=("Lighting",)) == (
        "popular in Lighting this week",
    )


def test_only_what_sources_of_taste_found_for_a_known_shopper_was_picked_for_them() -> None:
    assert said(SHADE) == ("worth a look",)  # a stranger
    assert said(SHADE, (LAMP, "dismiss"), found_by=()) == ("worth a look",)  # a pin, a top-up
    assert said(SHADE, found_by=(), is_new=NEW) == ("new",)


def test_what_goes_with_the_context_says_how() -> None:
    assert said(SHADE, about_rows=ABOUT_LAMP) == ("viewed together with Desk lamp",)
    assert said(SHADE, about_rows=ABOUT_LAMP, bought=lists(LAMP, SHADE)) == (
        "often bought with Desk lamp",
    )
    assert said(SHADE, about_rows=ABOUT_LAMP, bought=lists(SHADE, LAMP)) == (
        "viewed together with Desk lamp",
    )
    assert said(UNTITLED, about_rows=np.array([LAMP, CHAIR], np.int32)) == ("like Oak chair",)
    assert said(CHAIR, (CHAIR, "view"), about_rows=ABOUT_LAMP) == ("picked for you",)


def test_words_come_first_and_are_claimed_of_what_they_found_alone() -> None:
    assert said(SHADE, (LAMP, "view"), matches=np.array([True])) == (
        "matches your words",
        "because you viewed Desk lamp",
    )
    assert said(SHADE, matches=np.array([False])) == ("worth a look",)
