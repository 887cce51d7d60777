from dataclasses import replace

import numpy as np
import pytest

from features.errors import DataError
from recsys.evaluation.experiment.estimates import Estimate
from recsys.evaluation.offpolicy.calibration import Pair, calibrate, lift_of, pair, promise
from recsys.evaluation.offpolicy.replay import replay
from recsys.evaluation.offpolicy.weights import ReplayVerdict
from tests.recsys.test_off_policy import TARGET_POLICY, drawn_log, exactly


def a_pair(predicted: float, measured: float, half: float = 0.02) -> Pair:
    return Pair(
        name="p",
        predicted=predicted,
        predicted_low=predicted - half,
        predicted_high=predicted + half,
        measured=measured,
        measured_low=measured - half,
        measured_high=measured + half,
    )


def test_replays_are_calibrated_by_the_experiments_that_followed() -> None:
    """Every replay promised twice what came, and one point more."""
    measured = (-0.05, 0.0, 0.02, 0.1)
    found = calibrate([a_pair(2 * m + 0.01, m) for m in measured])
    assert found.slope == exactly(0.5)
    assert found.bias == exactly(np.mean(measured) + 0.01)
    se = 0.02 * np.sqrt(2) / 1.959963984540054 / 2  # of a difference, of the mean of four
    assert found.bias_high == exactly(found.bias + 1.959963984540054 * se)
    assert found.agreeing == 1  # √2 · .02 apart may be; they are .04, .01, .03 and .11 apart
    assert "1 of 4 replays agree" in found.words
    assert found.frame()["agrees"].tolist() == [False, True, False, False]


def test_a_precise_experiment_counts_for_more() -> None:
    found = calibrate([a_pair(0.1, 0.0, half=0.01), a_pair(0.0, 0.0, half=0.1)])
    assert found.bias == exactly(0.1 * 100 / 101)
    assert found.slope is None
    assert "a slope needs 3 predictions" in found.words


def test_what_was_refused_or_not_measured_calibrates_nothing() -> None:
    log = drawn_log(10)
    replayed = replay(log, TARGET_POLICY)
    measured = Estimate(n_control=1, n_variant=1, lift=0.1, lift_low=0.0, lift_high=0.2)
    found = pair("wide", promise("wide", replayed), lift_of("wide", measured))
    assert (found.predicted, found.measured) == (replayed["dr"].lift, 0.1)
    with pytest.raises(DataError, match="no lift of 'wide'"):
        lift_of("wide", Estimate(n_control=1, n_variant=1))
    refused = replace(replayed, verdict=ReplayVerdict("refuse", "Refused."))
    with pytest.raises(DataError, match="'wide' refused"):
        promise("wide", refused)
    with pytest.raises(DataError, match="no past experiments"):
        calibrate([])
    with pytest.raises(DataError, match="wider than nothing"):
        a_pair(0.1, float("nan"))
