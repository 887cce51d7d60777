import numpy as np
import pytest

from features.within import quantiles, z_scores

NAN = np.nan
VALUES = np.array([[1, 5], [3, NAN], [3, 7], [5, NAN], [9, 2]], np.float32)
OFFSETS = np.array([0, 4, 4, 5])  # four candidates, none, one


def test_z_scores_are_by_request_and_column() -> None:
    found = z_scores(VALUES, OFFSETS)
    expected = [[-np.sqrt(2), -1], [0, NAN], [0, 1], [np.sqrt(2), NAN], [0, 0]]
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


def test_equal_values_have_no_z_score_to_speak_of() -> None:
    assert z_scores(np.full((3, 1), 0.1, np.float32), np.array([0, 3])) == pytest.approx(0)


def test_quantiles_count_what_is_below_and_half_of_what_is_equal() -> None:
    found = quantiles(VALUES, OFFSETS)
    expected = [[0.5 / 4, 0.5 / 2], [2 / 4, NAN], [2 / 4, 1.5 / 2], [3.5 / 4, NAN], [0.5, 0.5]]
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


def test_places_do_not_depend_on_the_order_or_on_other_requests() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (60, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = NAN
    alone, mixed = values[20:50], rng.permutation(30)
    for places in (quantiles, z_scores):
        together = places(values, np.array([0, 20, 50, 60]))[20:50]
        np.testing.assert_array_equal(places(alone, np.array([0, 30])), together)
        np.testing.assert_allclose(places(alone[mixed], np.array([0, 30])), together[mixed], 1e-5)
