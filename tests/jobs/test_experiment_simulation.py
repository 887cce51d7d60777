import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.experiments.bandits import bandit_runs
from jobs.experiments.sample_ratio import ratio_alarms
from jobs.experiments.simulation import (
    LOOKS,
    METRICS,
    PLAIN,
    SIZE,
    VISITS,
    Futures,
    Share,
    coverages,
    false_alarms,
    power_curve,
    variance_cut,
)
from jobs.sample.experiment import Population, draw_population
from jobs.sample.storefront import Storefront
from recsys.progress import Silent


@pytest.fixture(scope="module")
def population() -> Population:
    return draw_population(Storefront(3, SIZE), VISITS, n_days=LOOKS)


@pytest.fixture(scope="module")
def futures(population: Population) -> Futures:
    return Futures.of(population)


def test_a_share_has_wilsons_interval() -> None:
    found = Share.of([True] * 8 + [False] * 2)
    assert (found.k, found.n, found.value) == (8, 10, 0.8)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_truth_of_the_last_look_is_the_populations(
    population: Population, futures: Futures
) -> None:
    assert futures.truth(LOOKS - 1, PLAIN) == pytest.approx(population.true_difference)
    ratio = futures.truth(LOOKS - 1, METRICS[3])
    slates = population.slates.sum()
    by_hand = (population.clicks[1].sum() - population.clicks[0].sum()) / slates
    assert ratio == pytest.approx(by_hand)


def test_a_look_sees_nobody_and_nothing_of_later_days(futures: Futures) -> None:
    rows = np.arange(len(futures.first_day))
    first = futures.sample(rows, 0, 0, PLAIN)
    assert len(first) == np.count_nonzero(futures.first_day == 0)
    assert first.totals.sum() < futures.sample(rows, 0, 5, PLAIN).totals.sum()


def test_peeking_at_fixed_intervals_cries_wolf_and_always_valid_ones_do_not(
    futures: Futures,
) -> None:
    found = false_alarms(futures.evenly(0), "evenly", experiments=100, seed=0, progress=Silent())
    assert found.always_valid.low <= 0.05
    assert found.once.low <= 0.05 <= found.once.high
    assert found.naive.low > 0.1
    assert found.stopped.low <= 0.025, "one-sided, and with a margin"


def test_intervals_hold_the_truth_as_often_as_promised(futures: Futures) -> None:
    for found in coverages(futures, experiments=60, seed=0, progress=Silent()):
        assert found.fixed.high >= 0.95, found.metric
        assert found.always_valid.high >= 0.95, found.metric
        assert abs(found.bias) < 0.5, found.metric


def test_effects_are_found_as_often_as_computed(futures: Futures) -> None:
    for point in power_curve(futures, experiments=100, seed=0, progress=Silent()):
        assert abs(point.found.value - point.computed) < 0.15, point.units
        assert point.always_valid.value <= point.found.value


def test_cuped_explains_as_much_as_it_says(futures: Futures) -> None:
    found = variance_cut(futures, experiments=200, seed=0)
    assert found.told == pytest.approx(found.seen, abs=0.15)
    assert found.told > 0.3


def test_units_that_go_uncounted_are_noticed(futures: Futures) -> None:
    found = list(ratio_alarms(futures.first_day, experiments=20, seed=0, progress=Silent()))
    assert found[0].sequential.k == 0
    assert found[-1].once.value > 0.9


def test_a_bandit_gives_the_better_variant_most_and_calls_equal_ones_seldom(
    futures: Futures,
) -> None:
    found = bandit_runs(futures, experiments=25, seed=0, progress=Silent())
    assert found.always_valid.low <= 0.05
    assert found.last_share > found.mean_share > 0.7


def test_the_command_writes_tables_and_figures(tmp_path: Path) -> None:
    file = tmp_path / "experiments.json"
    told = CliRunner().invoke(
        app, ["benchmark-experiments", "--json", str(file), "--experiments", "4"]
    )
    assert told.exit_code == 0, told.output
    assert "False alarms of A/A experiments" in told.output
    found = json.loads(file.read_text())
    assert found["false_alarms"][0]["arriving"] == "shoppers come back"
    assert abs(found["interleaving"]["alike"]["d"]) < 0.05
    assert found["interleaving"]["better"]["d"] > 0.1
    assert found["bandits"]["mean_share"] > 0.5
    assert 0 < found["assignment"]["one_us"] < found["assignment"]["ten_us"]
