from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from features.errors import DataError
from recsys.evaluation.experiment.allocation import MIN_UNITS, best_chances, shares
from recsys.evaluation.experiment.estimates import Arm
from recsys.experiments.lifecycle import FLOOR


def test_two_variants_have_the_chance_of_the_difference() -> None:
    means, ses = np.array([1.0, 1.1]), np.array([0.1, 0.2])
    second = stats.norm.cdf(0.1 / np.hypot(0.1, 0.2))
    assert best_chances(means, ses) == pytest.approx([1 - second, second], abs=1e-9)


def test_several_variants_have_the_chances_of_drawing_many_times() -> None:
    means, ses = np.array([0.0, 0.1, 0.15, -3.0]), np.array([0.1, 0.05, 0.2, 0.1])
    drawn = np.random.default_rng(0).normal(means, ses, (400_000, 4)).argmax(axis=1)
    assert best_chances(means, ses) == pytest.approx(
        np.bincount(drawn, minlength=4) / 4e5, abs=4e-3
    )


def test_unequal_scales_do_not_lose_the_narrow_one() -> None:
    assert best_chances(np.array([0.0, 0.0]), np.array([1e-6, 10.0])) == pytest.approx([0.5, 0.5])


def arms(means: Sequence[float], ses: Sequence[float], n: int = 10 * MIN_UNITS) -> list[Arm]:
    return [Arm(n, mean, se**2) for mean, se in zip(means, ses, strict=True)]


def test_the_better_variant_gets_more_and_the_worst_the_floor() -> None:
    found = shares(arms((1.0, 1.2, 0.2), (0.05,) * 3))
    assert sum(found) == pytest.approx(1)
    assert found[1] > 0.9
    assert found[2] == pytest.approx(FLOOR, abs=1e-6)
    assert min(found) >= FLOOR
    turned = shares(arms((1.0, 1.2, 0.2), (0.05,) * 3), up=False)
    assert turned[2] == max(turned) > 0.9


def test_a_variant_that_nobody_takes_from_gets_the_floor() -> None:
    taken, never = Arm(5_000, 0.05, 0.05 * 0.95 / 5_000), Arm(5_000, 0.0, 0.0)
    assert shares([taken, never]) == pytest.approx([1 - FLOOR, FLOOR], abs=1e-6)


@pytest.mark.parametrize(
    "known",
    [
        [*arms((1.0, 2.0), (0.1, 0.1)), Arm(MIN_UNITS - 1, 3.0, 0.01)],
        arms((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        arms((np.nan, 1.0, 1.0), (0.1, 0.1, 0.1)),
        arms((1.0, 1.0, 1.0), (np.inf, 0.1, 0.1)),
    ],
)
def test_without_knowledge_shares_are_equal(known: list[Arm]) -> None:
    assert shares(known) == pytest.approx([1 / 3] * 3)


def test_a_floor_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(DataError, match=r"the floor 0\.5 for 2 variants"):
        shares(arms((1.0, 2.0), (1.0, 1.0)), floor=0.5)
