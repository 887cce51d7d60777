from pathlib import Path

import numpy as np
import pytest

from features.covisitation import (
    CovisitationConfig,
    Neighbours,
    fit_covisitation,
    positions,
    step_weights,
)
from tests.features.logs import Line, log_of, visits

PLAIN = CovisitationConfig(
    max_distance=10, distance_decay=0.5, backward=0.25, neighbour_power=0.0, item_power=0.0
)
A, B, C, D = range(4)


def fitted(config: CovisitationConfig, *lines: Line, items: str = "abcd") -> Neighbours:
    return fit_covisitation(log_of(*lines, items=items), len(items), config)


def as_dict(neighbours: Neighbours, item_row: int) -> dict[int, float]:
    rows, scores = neighbours.of(item_row)
    return dict(zip(rows.tolist(), scores.tolist(), strict=True))


def test_a_pair_counts_the_neighbours_action_and_decays_by_step_and_direction() -> None:
    lines = [("ann", "a", "view", 1), ("ann", "b", "click", 2), ("ann", "c", "share", 3)]
    neighbours = fitted(PLAIN, *lines)
    # weights: view 1, click 2, share 4; decay .5 a further step; backward .25
    assert as_dict(neighbours, A) == {C: 0.5 * 4, B: 2.0}
    assert as_dict(neighbours, B) == {C: 4.0, A: 0.25 * 1}
    assert as_dict(neighbours, C) == {B: 0.25 * 2, A: 0.25 * 0.5 * 1}
    assert as_dict(neighbours, D) == {}


def test_pairs_further_apart_than_the_distance_do_not_count() -> None:
    config = CovisitationConfig(max_distance=1, neighbour_power=0, item_power=0)
    assert set(as_dict(fitted(config, *visits("ann", "abc")), A)) == {B}


def test_a_repeat_right_after_itself_is_one_step() -> None:
    assert as_dict(fitted(PLAIN, *visits("ann", "aab")), A) == {B: 1.0}


def test_returning_to_an_item_is_no_neighbour_of_itself() -> None:
    assert set(as_dict(fitted(PLAIN, *visits("ann", "aba")), A)) == {B}


def test_a_dismissed_item_is_no_step_at_all() -> None:
    lines = [("ann", "a", "view", 1), ("ann", "b", "dismiss", 2), ("ann", "c", "view", 3)]
    assert as_dict(fitted(PLAIN, *lines), A) == {C: 1.0}


def test_steps_do_not_cross_from_one_shopper_to_the_next() -> None:
    neighbours = fitted(PLAIN, *visits("ann", "a"), *visits("bob", "b"))
    assert all(not as_dict(neighbours, row) for row in range(4))


def test_popularity_of_both_items_is_divided_out_by_their_powers() -> None:
    config = CovisitationConfig(max_distance=1, backward=0.0, neighbour_power=0.5, item_power=1.0)
    lines = [line for n in range(4) for line in visits(f"u{n}", "ab")]
    # 4 pairs a → b, a and b counted 4 times each: 4 / 4^.5 / 4^1
    assert as_dict(fitted(config, *lines), A)[B] == pytest.approx(4 / 2 / 4)


def test_only_the_best_are_kept_and_ties_go_to_the_earlier_row() -> None:
    config = CovisitationConfig(
        max_distance=1, backward=0, neighbour_power=0, item_power=0, neighbours=2
    )
    lines = [line for other in "dcb" for line in visits(f"u{other}", f"a{other}")]
    rows, scores = fitted(config, *lines).of(A)
    assert rows.tolist() == [B, C]
    assert scores.tolist() == [1.0, 1.0]


def test_a_list_is_best_first() -> None:
    rng = np.random.default_rng(0)
    lines = [
        line
        for n in range(30)
        for line in visits(f"u{n}", "".join(rng.choice(list("abcdefgh"), 6)))
    ]
    neighbours = fitted(CovisitationConfig(), *lines, items="abcdefgh")
    for row in range(8):
        assert (np.diff(neighbours.of(row)[1]) <= 0).all()


def test_positions_count_from_zero_for_every_shopper() -> None:
    steps = positions(log_of(*visits("ann", "aab"), *visits("bob", "c"), items="abc"))
    assert steps["user_row"].to_list() == [0, 0, 1]
    assert steps["position"].to_list() == [0, 1, 0]


def test_older_events_count_less_and_the_last_one_fully() -> None:
    assert step_weights(4).tolist() == pytest.approx([4**-0.75, 3**-0.75, 2**-0.75, 1])
    assert len(step_weights(0)) == 0


def test_the_share_of_next_steps_starts_with_steps_elsewhere() -> None:
    neighbours = fitted(PLAIN, *visits("ann", "abc"), *visits("bob", "ab"), *visits("cat", "ad"))
    places, _ = neighbours.places(np.array([A, B], np.int32))
    rows, share = neighbours.item_rows[places], neighbours.follows[places]
    found = [dict(zip(rows[part], share[part], strict=True)) for part in (slice(3), slice(3, None))]
    # of three steps after a, two went to b and one to d; c came later; of two after b, one to c
    assert found[0] == pytest.approx({B: 2 / 5, C: 0, D: 1 / 5})
    assert found[1] == pytest.approx({A: 0, C: 1 / 4})


def test_no_events_give_empty_lists() -> None:
    neighbours = fitted(PLAIN)
    assert len(neighbours.indptr) == 5
    assert as_dict(neighbours, A) == {}


def test_an_item_newer_than_the_counts_has_no_neighbours() -> None:
    neighbours = fitted(PLAIN, *visits("ann", "ab"))
    for row in (-1, 4, 400):
        assert len(neighbours.of(row)[0]) == 0


def test_saved_lists_load_as_they_were(tmp_path: Path) -> None:
    neighbours = fitted(PLAIN, *visits("ann", "abcd"))
    neighbours.save(tmp_path / "covisitation")
    loaded = Neighbours.load(tmp_path / "covisitation")
    for row in range(4):
        assert as_dict(loaded, row) == as_dict(neighbours, row)
