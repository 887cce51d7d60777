from math import log, log1p, log2, sqrt

import numpy as np
import pytest

from features.arrays import Float32Array
from features.covisitation import Neighbours
from features.events import US_PER_DAY
from features.history import (
    HISTORY_VIEWS,
    PRICE_SPREAD,
    STEP_DECAY,
    History,
    ItemRelations,
    history_views,
    neighbour_scores,
)

LAMP, SHADE, CHAIR = range(3)
LIGHT, ROOM, OAK = range(3)
NOW_US = 100 * US_PER_DAY
UNRELATED = np.eye(3, dtype=np.float32)


def relations(**changes: object) -> ItemRelations:
    """A lamp and a shade share words and a tag; the chair is of oak and of unknown price."""
    given: dict[str, object] = {
        "vectors": {
            "text": np.array([[2, 0], [0.6, 0.8], [0, 3]], np.float32),  # cosines .6, 0, .8
            "sequence": UNRELATED,
            "factors": UNRELATED,
        },
        "neighbours": Neighbours(
            np.array([0, 2, 3, 3]),
            np.array([CHAIR, SHADE, LAMP], np.int32),
            np.array([0.9, 0.4, 0.7], np.float32),
            np.array([0.3, 0.1, 0.2], np.float32),
        ),
        "tags": np.array([[LIGHT, ROOM], [LIGHT, -1], [ROOM, OAK]], np.int32),
        "tag_rarity": np.array([1, 1, 3, 0], np.float32),
        "log_price": np.array([log(100), log(50), np.nan], np.float32),
    }
    return ItemRelations(**(given | changes))  # type: ignore[arg-type]


def history(*events: tuple[int, float, float]) -> History:
    """(item row, weight, days ago), oldest first."""
    rows, weights, days = zip(*events, strict=True) if events else ((), (), ())
    return History(
        np.array(rows, np.int32),
        np.array(weights, np.float32),
        NOW_US - (np.array(days, np.float64) * US_PER_DAY).astype(np.int64),
    )


def views(
    past: History, candidates: list[int], known: ItemRelations | None = None
) -> dict[str, list[float]]:
    rows: Float32Array = history_views(
        past, np.array(candidates, np.int32), NOW_US, known or relations()
    )
    return {name: rows[:, column].tolist() for column, name in enumerate(HISTORY_VIEWS)}


def near(*values: float) -> object:
    return pytest.approx(list(values), abs=1e-6, nan_ok=True)


# The share that each of two events has in the weighted means: a view, then a click (weight 2).
OLDER, NEWER = (w / (STEP_DECAY * 1 + 2) for w in (STEP_DECAY * 1, 2))
LAMP_THEN_SHADE = history((LAMP, 1, 10), (SHADE, 2, 4))


def test_likeness_by_text_to_the_last_the_best_and_the_recent() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, SHADE, CHAIR])
    assert found["text_to_last"] == near(0.6, 1.0, 0.8)
    assert found["text_to_best"] == near(1.0, 1.0, 0.8)
    assert found["text_to_recent"] == near(
        OLDER * 1 + NEWER * 0.6, OLDER * 0.6 + NEWER, OLDER * 0 + NEWER * 0.8
    )


def test_likeness_by_co_visitation_reads_the_history_items_lists() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, SHADE, CHAIR])
    # lamp's list: chair .9, shade .4; shade's list: lamp .7
    assert found["co_visited_to_last"] == near(0.7, 0, 0)
    assert found["co_visited_to_best"] == near(0.7, 0.4, 0.9)
    assert found["co_visited_to_recent"] == near(NEWER * 0.7, OLDER * 0.4, OLDER * 0.9)


def test_aversion_pulls_the_recent_mean_below_zero() -> None:
    found = views(history((LAMP, -4, 1)), [LAMP, SHADE])
    assert found["text_to_recent"] == near(-1, -0.6)
    assert found["text_to_best"] == near(1, 0.6)
    assert found["action_strength"] == near(-4, -4)


def test_seen_counts_events_and_days_since_the_latest() -> None:
    found = views(history((LAMP, 1, 9), (SHADE, 1, 7), (LAMP, 1, 3)), [LAMP, CHAIR])
    assert found["times_seen"] == near(2, 0)
    assert found["days_since_seen"] == near(log1p(3), np.nan)


def test_tag_affinity_is_the_mean_taste_of_the_candidates_tags() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, SHADE, CHAIR])
    # taste: light 1 (both), room OLDER (lamp only), oak 0
    assert found["tag_affinity"] == near((1 + OLDER) / 2, 1, OLDER / 2)
    assert found["tag_match_last"] == near(1 / 2, 1, 0)


def test_without_any_tags_there_is_no_affinity() -> None:
    bare = relations(tags=np.full((3, 2), -1, np.int32), tag_rarity=np.zeros(1, np.float32))
    found = views(LAMP_THEN_SHADE, [LAMP, CHAIR], bare)
    assert found["tag_affinity"] == near(0, 0)
    assert found["tag_match_last"] == near(0, 0)


def test_the_price_gap_is_against_the_weighted_mean_of_liked_priced_items() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, SHADE, CHAIR])
    usual = OLDER * log(100) + NEWER * log(50)
    assert found["price_gap"] == near(log(100) - usual, log(50) - usual, np.nan)
    found = views(history((LAMP, 1, 9), (SHADE, -4, 8), (CHAIR, 1, 7)), [SHADE])
    assert found["price_gap"] == near(log(50) - log(100))  # neither the disliked nor the unpriced
    assert views(history((CHAIR, 1, 1)), [LAMP])["price_gap"] == near(np.nan)


def test_the_shoppers_own_views_are_equal_for_every_candidate() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, CHAIR])
    assert found["history_length"] == near(log1p(2), log1p(2))
    assert found["days_since_last_event"] == near(log1p(4), log1p(4))
    assert found["action_strength"] == near(1.5, 1.5)


def test_without_history_only_its_length_is_known() -> None:
    found = views(history(), [LAMP, CHAIR])
    assert found.pop("history_length") == [0, 0]
    assert all(np.isnan(values).all() for values in found.values())


def test_no_candidates_make_no_rows() -> None:
    assert history_views(LAMP_THEN_SHADE, np.empty(0, np.int32), NOW_US, relations()).shape == (
        0,
        len(HISTORY_VIEWS),
    )


def test_events_that_weigh_nothing_say_nothing_about_taste() -> None:
    found = views(history((LAMP, 0, 1)), [LAMP])
    assert found["text_to_recent"] == near(0)
    assert found["times_seen"] == near(1)


def test_likeness_to_the_three_most_alike_is_averaged() -> None:
    past = history((LAMP, 1, 5), (SHADE, 1, 4), (CHAIR, 1, 3), (SHADE, 1, 2))
    assert views(past, [LAMP])["text_to_top3"] == near((1 + 0.6 + 0.6) / 3)
    assert views(LAMP_THEN_SHADE, [LAMP])["text_to_top3"] == near((1 + 0.6) / 2)


def test_next_steps_are_read_forwards_and_backwards() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, SHADE, CHAIR])
    # after the lamp .3 went to the chair and .1 to the shade; after the shade .2 to the lamp
    assert found["follows_last"] == near(0.2, 0, 0)
    assert found["follows_second_last"] == near(0, 0.1, 0.3)
    assert found["preceded_last"] == near(0.1, 0, 0)
    assert found["co_visited_lists"] == near(log1p(1), log1p(1), log1p(1))
    assert views(history((LAMP, 1, 1)), [CHAIR])["follows_second_last"] == near(np.nan)


def test_what_was_seen_counts_by_type_and_by_how_long_ago() -> None:
    found = views(history((LAMP, 2, 6), (SHADE, 1, 3), (LAMP, -4, 0)), [LAMP, CHAIR])
    assert found["seen_strength"] == near(2 / log2(8) - 4 / log2(2), 0)
    assert found["seen_last_day"] == near(1, 0)
    assert views(LAMP_THEN_SHADE, [LAMP])["seen_last_day"] == near(0)


def test_tag_vectors_are_compared_by_rarity() -> None:
    found = views(LAMP_THEN_SHADE, [LAMP, SHADE, CHAIR])
    # by rarity the lamp is (1, 1, 0), the shade (1, 0, 0), the chair (0, 1, 3)
    lamp_shade, lamp_chair = 1 / sqrt(2), 1 / sqrt(2 * 10)
    assert found["tags_to_last"] == near(lamp_shade, 1, 0)
    assert found["tags_to_best"] == near(1, 1, lamp_chair)
    assert found["tags_to_recent"] == near(
        OLDER + NEWER * lamp_shade, OLDER * lamp_shade + NEWER, OLDER * lamp_chair
    )


def test_rare_tags_say_more_about_taste() -> None:
    found = views(history((LAMP, 1, 2)), [SHADE, CHAIR])
    # taste: light 1, room 1, oak 0
    assert found["tag_affinity"] == near(1, 1 / 2)
    assert found["rare_tag_affinity"] == near(1, 1 / 4)
    assert found["rarest_tag_affinity"] == near(1, 0)
    assert found["best_tag_affinity"] == near(1, 1)
    averse = views(history((CHAIR, -4, 1)), [CHAIR])
    assert averse["rarest_tag_affinity"] == near(-1)
    assert averse["best_tag_affinity"] == near(-1)


def test_the_price_gap_is_measured_in_the_shoppers_own_spread() -> None:
    found = views(history((LAMP, 1, 2), (SHADE, 1, 1)), [LAMP])
    older, newer = STEP_DECAY / (1 + STEP_DECAY), 1 / (1 + STEP_DECAY)
    usual = older * log(100) + newer * log(50)
    variance = older * (log(100) - usual) ** 2 + newer * (log(50) - usual) ** 2
    assert found["usual_price"] == near(usual)
    assert found["price_gap_z"] == near((log(100) - usual) / sqrt(variance + PRICE_SPREAD**2))


def test_activity_is_counted_by_day_week_and_session() -> None:
    half_hour = 30 / (24 * 60)
    past = history((LAMP, 1, 9), (LAMP, 1, 6), (SHADE, -4, 0.5 + half_hour), (LAMP, 1, 0.5))
    found = views(past, [CHAIR])
    assert found["events_last_day"] == near(log1p(2))
    assert found["events_last_week"] == near(log1p(3))
    assert found["session_length"] == near(log1p(2))
    assert found["tag_breadth"] == near(log1p(2))


def test_neighbour_scores_do_not_depend_on_the_order_of_candidates() -> None:
    rows = np.array([CHAIR, LAMP, SHADE], np.int32)
    past = np.array([LAMP, SHADE], np.int32)
    found = neighbour_scores(past, rows, relations().neighbours)
    expected = np.array([[0.9, 0], [0, 0.7], [0.4, 0]], np.float32)
    np.testing.assert_array_equal(found, expected)
