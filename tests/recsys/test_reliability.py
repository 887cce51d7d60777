"""Probabilities beside outcomes, against figures worked out by hand and known truths."""

import numpy as np
import pytest

from recsys.evaluation.reliability import N_BINS, Reliability, Tally


def told(probabilities: list[float], labels: list[int], batch: int = 3) -> Reliability:
    tally = Tally(("view", "share"))
    p, taken = np.array(probabilities, np.float32), np.array(labels, np.float32)
    for start in range(0, len(p), batch):
        tally.add("share", p[start : start + batch], taken[start : start + batch])
    (found,) = tally.reliability()
    return found


def test_few_candidates_give_the_figures_worked_out_by_hand() -> None:
    found = told([0.2, 0.2, 0.2, 0.2, 0.6, 0.6], [0, 0, 1, 0, 1, 1])
    assert (found.action, found.candidates, found.base_rate) == ("share", 6, 0.5)
    assert found.brier == pytest.approx((3 * 0.04 + 0.64 + 2 * 0.16) / 6)
    assert found.brier_of_base_rate == 0.25
    assert [one.candidates for one in found.bins] == [4, 2]  # equal predictions stay together
    assert [one.predicted for one in found.bins] == pytest.approx([0.2, 0.6])
    assert [one.observed for one in found.bins] == [0.25, 1.0]
    assert found.calibration_error == pytest.approx((4 * 0.05 + 2 * 0.4) / 6)


def test_honest_probabilities_lie_on_the_diagonal_and_doubled_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.beta(1, 12, 60_000)
    taken = (rng.random(len(truth)) < truth).astype(int).tolist()
    honest = told(truth.tolist(), taken, batch=10_000)
    boastful = told(np.minimum(2 * truth, 1).tolist(), taken, batch=10_000)
    assert honest.calibration_error < 0.005
    assert boastful.calibration_error == pytest.approx(truth.mean(), rel=0.05)
    assert honest.brier < boastful.brier
    assert honest.brier < honest.brier_of_base_rate


def test_bins_are_about_equally_full_and_in_order() -> None:
    rng = np.random.default_rng(1)
    found = told(rng.random(20_000).tolist(), rng.integers(0, 2, 20_000).tolist(), batch=7_000)
    assert len(found.bins) == N_BINS
    assert all(1_900 < one.candidates < 2_100 for one in found.bins)
    predicted = [one.predicted for one in found.bins]
    assert predicted == sorted(predicted)


def test_certain_and_broken_predictions_do_no_harm() -> None:
    found = told([0.0, 1.0, float("nan")], [0, 1, 1])
    assert found.candidates == 2
    assert found.brier == found.calibration_error == 0


def test_an_action_nobody_took_has_a_base_rate_of_zero_and_one_never_predicted_is_left_out() -> (
    None
):
    assert told([0.1, 0.3], [0, 0]).base_rate == 0
    assert Tally(("view",)).reliability() == ()
