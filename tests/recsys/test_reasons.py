import numpy as np

from features.arrays import Float32Array, Int32Array
from features.covisitation import Neighbours
from features.history import History, ItemRelations
from features.views import SOURCES
from recsys.ranking.reasons import reasons

LAMP, SHADE, CHAIR, UNTITLED = range(4)
TITLES = ["Desk lamp", "Lamp shade", "Oak chair", ""]
WEIGHT = {"view": 1.0, "purchase": 8.0, "dismiss": -4.0, "wave": 1.0}


def said(item: int, *events: tuple[int, str], found_by: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The reasons for one item; the lamp's list names the shade, the chair is like the untitled."""
    text: Float32Array = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], np.float32)
    relations = ItemRelations(
        vectors={"text": text},
        neighbours=Neighbours(
            np.array([0, 1, 1, 1, 1]),
            np.array([SHADE], np.int32),
            *np.array([[0.5], [0]], np.float32),
        ),
        tags=np.full((4, 1), -1, np.int32),
        tag_rarity=np.zeros(1, np.float32),
        log_price=np.full(4, np.nan, np.float32),
    )
    ranks = np.full((1, len(SOURCES)), np.nan, np.float32)
    for source in found_by:
        ranks[0, SOURCES.index(source)] = 0
    rows: Int32Array = np.array([row for row, _ in events], np.int32)
    weights = np.array([WEIGHT[verb] for _, verb in events], np.float32)
    history = History(rows, weights, np.arange(len(rows), dtype=np.int64))
    (words,) = reasons(
        np.array([item], np.int32), ranks, history, [verb for _, verb in events], TITLES, relations
    )
    return words


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


def test_popular_and_new_items_say_so_too() -> None:
    found_by = ("trending", "new_items")
    assert said(SHADE, (LAMP, "view"), found_by=found_by) == (
        "because you viewed Desk lamp",
        "popular right now",
        "new",
    )


def test_a_stranger_is_not_told_it_was_picked_for_them() -> None:
    assert said(SHADE) == ("popular",)
    assert said(SHADE, found_by=("new_items",)) == ("new",)
