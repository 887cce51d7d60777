"""Slates whose truth is known: what shoppers want, how far down they look, and what was shown."""

from dataclasses import replace

import numpy as np
import pytest

from features.arrays import Float32Array, Float64Array, Int64Array
from recsys.progress import Silent
from recsys.ranking.ranker import Ranker
from recsys.ranking.slate import explore
from recsys.training.queries import RankingRows, joined
from recsys.training.ranker import RankerConfig, RankerReport, fit_ranker

N_SLATES, POOL, K = 5_000, 30, 8
WANTED, SHOWN_FIRST = 0, 1  # columns: what decides, and what the shop used to rank by
CONFIG = RankerConfig(hidden=(8,), epochs=25, learning_rate=1e-2, dropout=0.0, ensemble=1)


def looked(positions: Int64Array) -> Float64Array:
    """As in the sample storefront: always at the first, a third at the eighth."""
    return np.asarray((1.0 + positions) ** -0.5, np.float64)


def wanted(features: Float32Array) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(2.5 - features[..., WANTED])), np.float64)


@pytest.fixture(scope="module")
def shown() -> RankingRows:
    """A day of a shop that ranks by what does not matter, with the exploration it ships with."""
    rng = np.random.default_rng(0)
    slates = []
    for _ in range(N_SLATES):
        candidates = rng.normal(size=(POOL, 4)).astype(np.float32)
        order = np.argsort(-(candidates[:, SHOWN_FIRST] + 0.3 * candidates[:, WANTED]))
        slates.append(candidates[explore(order, K, exploration=0.05, pool_size=20, rng=rng).chosen])
    features = np.concatenate(slates)
    positions = np.tile(np.arange(K), N_SLATES)
    clicked = rng.random(len(features)) < looked(positions) * wanted(features)
    return RankingRows(
        offsets=np.arange(N_SLATES + 1) * K,
        features=features,
        labels=clicked[:, None].astype(np.float32),
        stands_for=np.ones(len(features), np.float32),
        positions=positions.astype(np.int32),
        held_out=rng.random(N_SLATES) < CONFIG.validation_share,
    )


@pytest.fixture(scope="module")
def fitted(shown: RankingRows) -> tuple[Ranker, RankerReport]:
    return fit_ranker(shown, ("click",), CONFIG, Silent())


def fresh() -> Float32Array:
    return np.random.default_rng(1).normal(size=(500 * POOL, 4)).astype(np.float32)


def likeness(ranker: Ranker) -> float:
    """Correlation of ranks with what shoppers truly want, over candidates nobody chose."""
    said = ranker.logits(ranker.standardise(fresh()))[:, 0]
    ranks = np.array([np.argsort(np.argsort(values)) for values in (said, wanted(fresh()))])
    return float(np.corrcoef(ranks)[0, 1])


def test_the_order_is_nearer_the_truth_than_without_the_pull_of_positions(
    shown: RankingRows, fitted: tuple[Ranker, RankerReport]
) -> None:
    nowhere = replace(shown, positions=np.zeros_like(shown.positions))
    without, _ = fit_ranker(nowhere, ("click",), CONFIG, Silent())
    assert likeness(fitted[0]) > 0.95
    assert 1 - likeness(without) > 3 * (1 - likeness(fitted[0]))


def test_the_pull_is_how_much_less_shoppers_look_further_down(
    fitted: tuple[Ranker, RankerReport],
) -> None:
    truth = np.log(looked(np.arange(K)))
    np.testing.assert_allclose(fitted[1].position_pull, truth, atol=0.25)


def test_a_chance_is_that_of_the_first_position(fitted: tuple[Ranker, RankerReport]) -> None:
    ranker, report = fitted
    assert report.calibrated_on_slates
    assert report.reliability[0].calibration_error < 0.02
    said, truth = ranker.probabilities(fresh())[:, 0], wanted(fresh())
    assert said.mean() == pytest.approx(truth.mean(), rel=0.2)


def test_with_no_share_of_the_loss_slates_teach_nothing_and_break_nothing(
    shown: RankingRows,
) -> None:
    half = replace(shown, positions=np.where(np.arange(N_SLATES * K) < 64 * K, -1, shown.positions))
    config = replace(CONFIG, slate_share=0.0, batch_queries=8, epochs=1)
    ranker, report = fit_ranker(half, ("click",), config, Silent())
    assert np.isfinite([*report.train_losses, *report.validation_losses]).all()
    assert np.isfinite(ranker.probabilities(fresh())).all()


def test_history_has_no_positions_and_slates_weigh_at_most_their_share(
    shown: RankingRows, fitted: tuple[Ranker, RankerReport]
) -> None:
    """Histories of a shop where the unwanted is taken outvote slates that weigh next to nothing."""
    features = fresh()
    labels = np.zeros((len(features), 1), np.float32)
    worst = features[:, WANTED].reshape(-1, POOL).argmin(axis=1) + np.arange(500) * POOL
    labels[worst] = 1.0
    history = RankingRows(
        offsets=np.arange(501) * POOL,
        features=features,
        labels=labels,
        stands_for=np.ones(len(features), np.float32),
        positions=np.full(len(features), -1, np.int32),
        held_out=np.arange(500) < 50,
    )
    both = joined(history, shown)
    assert both.of_slates.sum() == N_SLATES
    few = fit_ranker(both, ("click",), replace(CONFIG, slate_share=0.01, epochs=5), Silent())[0]
    assert likeness(few) < -0.9
    many = fit_ranker(both, ("click",), replace(CONFIG, slate_share=0.99, epochs=5), Silent())[0]
    assert likeness(many) > likeness(few) + 0.3
