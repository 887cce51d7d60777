from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from features.errors import DataError
from recsys.evaluation.experiment.estimates import Estimate
from recsys.evaluation.experiment.verdict import Row
from recsys.evaluation.offpolicy.calibration import (
    Pair,
    Z,
    calibrate,
    lift_of,
    pair,
    predicted_lift,
)
from recsys.evaluation.offpolicy.predictions import Measured, Prediction, compared
from recsys.evaluation.offpolicy.replay import replay
from recsys.evaluation.offpolicy.weights import ReplayVerdict
from recsys.experiments.experiment import Design, Metric, Plan, Variant
from recsys.experiments.lifecycle import drafted, started
from tests.recsys.test_off_policy import TARGET_POLICY, drawn_log, exactly

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


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
    """Every replay predicted_liftd twice what came, and one point more."""
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


def test_variants_of_one_experiment_err_together() -> None:
    """They share control and log: two of them say as much as one, two experiments as two."""
    one = a_pair(0.1, 0.1)
    same = [replace(one, experiment="first"), replace(one, experiment="first")]
    other = [replace(one, experiment="first"), replace(one, experiment="second")]
    widths = [found.bias_high - found.bias for found in map(calibrate, ([one], same, other))]
    assert widths[1] == exactly(widths[0])
    assert widths[2] == exactly(widths[0] / np.sqrt(2))


def test_what_was_refused_or_not_measured_calibrates_nothing() -> None:
    log = drawn_log(10)
    replayed = replay(log, TARGET_POLICY)
    measured = Estimate(n_control=1, n_variant=1, lift=0.1, lift_low=0.0, lift_high=0.2)
    found = pair("wide", predicted_lift("wide", replayed), lift_of("wide", measured))
    assert (found.predicted, found.measured) == (replayed["dr"].lift, 0.1)
    with pytest.raises(DataError, match="no lift of 'wide'"):
        lift_of("wide", Estimate(n_control=1, n_variant=1))
    with pytest.raises(DataError, match="without doubt"):
        lift_of("wide", Estimate(n_control=1, n_variant=1, lift=0.1, lift_low=0.1, lift_high=0.1))
    refused = replace(replayed, verdict=ReplayVerdict("refuse", "Refused."))
    with pytest.raises(DataError, match="'wide' refused"):
        predicted_lift("wide", refused)
    with pytest.raises(DataError, match="no past experiments"):
        calibrate([])
    with pytest.raises(DataError, match="wider than nothing"):
        a_pair(0.1, float("nan"))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_what_a_plan_asks_for_changes_no_pair(alpha: float) -> None:
    """Lift 50 % ± 10 % at one standard error, told at 1 - alpha."""
    half = 0.1 * float(stats.norm.isf(alpha / 2))
    metric = Metric(name="rate", kind="ratio", event_type="click", per="exposures")
    experiment = started(
        drafted(
            Design(
                name="first",
                hypothesis="",
                unit="user",
                variants=(Variant(key="control"), Variant(key="top", policy={"diversity": 0.5})),
                plan=Plan(goals=(metric,), alpha=alpha),
            ),
            MONDAY,
        ),
        MONDAY,
        "go",
        (),
    )
    estimate = Estimate(
        n_control=100, n_variant=100, lift=0.5, lift_low=0.5 - half, lift_high=0.5 + half
    )
    report = {
        "experiment": experiment,
        "verdict": {"standing": "ship"},
        "rows": [Row(role="goal", metric=metric, variant="top", estimate=estimate)],
    }
    predicted = Prediction(
        experiment="first",
        variant=experiment.design.variants[1],
        reward="click",
        per="exposure",
        at=MONDAY - timedelta(days=1),
        lift=0.4,
        lift_low=0.3,
        lift_high=0.5,
    )
    measured = Measured.model_validate(report, from_attributes=True)
    (found,), waiting = compared([predicted], {"first": measured})
    assert waiting == {}
    assert found.measured_high - found.measured == exactly(0.1 * Z)
    assert found.name == "first/top: rate"
