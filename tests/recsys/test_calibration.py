"""Chances that are known, and what the ranker says of them after a few drawn negatives."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from features.arrays import Float32Array, Float64Array
from features.views import SOURCES
from recsys.progress import Silent
from recsys.ranking.ranker import Ranker
from recsys.training.calibration import reliability
from recsys.training.queries import PastQueries, RankingRows
from recsys.training.ranker import RankerConfig, fit_ranker
from recsys.training.rows import Labelled, ranking_rows
from recsys.types import Candidates

ACTIONS = ("view", "share")
N_QUERIES, SIZE, N_FEATURES = 800, 100, 4
CONFIG = RankerConfig(hidden=(8,), epochs=15, learning_rate=1e-2, validation_share=0.3)


def chances(features: Float32Array) -> Float64Array:
    """(n, 2): about 3 % are viewed, 0.7 % shared, so most queries have no share at all."""
    logits = np.column_stack([features[:, 0] - 4, features[:, 0] + features[:, 1] - 6])
    return np.asarray(1 / (1 + np.exp(-logits)), np.float64)


def asked(rng: np.random.Generator) -> Labelled:
    features = rng.normal(size=(N_QUERIES * SIZE, N_FEATURES)).astype(np.float32)
    unranked = np.full((len(features), len(SOURCES)), np.nan, np.float32)
    return Labelled(
        past=cast(PastQueries, None),  # what was asked does not matter here
        candidates=Candidates(
            offsets=np.arange(N_QUERIES + 1) * SIZE,
            item_rows=np.tile(np.arange(SIZE, dtype=np.int32), N_QUERIES),
            source_scores=unranked,
            source_ranks=unranked,
        ),
        features=features,
        labels=(rng.random((len(features), 2)) < chances(features)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def drawn() -> RankingRows:
    """Ten of about a hundred negatives."""
    rng = np.random.default_rng(0)
    return ranking_rows(
        iter([asked(rng)]), max_negatives=10, rng=rng, held_out_share=CONFIG.validation_share
    )


def errors(ranker: Ranker) -> list[float]:
    """Of each action: mean |said - true| over ten bins of all candidates, none left out."""
    features = np.random.default_rng(1).normal(size=(20_000, N_FEATURES)).astype(np.float32)
    said, true = ranker.probabilities(features), chances(features)
    found = []
    for action in range(len(ACTIONS)):
        bins = np.array_split(np.argsort(said[:, action]), 10)
        gaps = [said[b, action].mean() - true[b, action].mean() for b in bins]
        found.append(float(np.abs(gaps).mean()))
    return found


def test_chances_are_those_of_all_candidates_although_few_negatives_were_drawn(
    drawn: RankingRows,
) -> None:
    right = errors(fit_ranker(drawn, ACTIONS, CONFIG, Silent())[0])
    assert max(right) < 0.005
    blind = replace(drawn, stands_for=np.ones_like(drawn.stands_for))
    wrong = errors(fit_ranker(blind, ACTIONS, CONFIG, Silent())[0])
    assert wrong[0] > 5 * right[0]
    assert wrong[1] > 5 * right[1]


def test_what_is_held_out_stays_without_outcome_too_and_stands_for_everyone(
    drawn: RankingRows,
) -> None:
    taken = np.zeros(len(drawn), np.bool_)
    taken[drawn.query_index[drawn.labels.any(axis=1)]] = True
    assert taken[~drawn.held_out].all()
    assert not taken[drawn.held_out].all()
    stood_for = np.bincount(drawn.query_index, drawn.stands_for)
    np.testing.assert_allclose(stood_for, SIZE, rtol=1e-5)


def test_the_reliability_of_two_bins_is_worked_out_by_hand() -> None:
    said = np.array([0.1, 0.8, 0.1, 0.8], np.float32)
    taken = np.array([False, True, False, False])
    curve = reliability("view", said, taken, np.array([5, 1, 3, 1], np.float32))
    assert sum(curve.candidates) == 10
    gap = 0.8 * 0.1 + 0.2 * abs(0.8 - 0.5)
    in_bins = sum(
        n * abs(p - o)
        for n, p, o in zip(curve.candidates, curve.predicted, curve.observed, strict=True)
    )
    assert curve.calibration_error == pytest.approx(in_bins / 10)
    assert gap <= curve.calibration_error + 1e-6  # finer bins see no smaller gaps
