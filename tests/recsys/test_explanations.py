"""Explanations: numbers that add up to the score, whatever the score was made of."""

from itertools import pairwise

import numpy as np
import pytest

from features.arrays import Float32Array
from features.views import FEATURE_NAMES, FEATURE_VIEWS
from recsys.expression import parse
from recsys.policy import Policy
from recsys.ranking.explain import STEPS, contributions, integrated_gradients
from recsys.ranking.ranker import Ranker
from recsys.recommender import Recommender
from recsys.rules import Boost, Bury, Pin, Quota, Rule
from recsys.types import Answer
from tests.recsys.asks import PLACEMENTS, RED, ask, placed

RULES = (
    Rule(rule_id="a", then=Boost(action="boost", where='tags = "blue"', strength=0.5)),
    Rule(rule_id="b", then=Bury(action="bury", where='tags = "hat"', strength=0.3)),
    Rule(rule_id="c", then=Pin(action="pin", item_id="pink-hat", position=2)),
    Rule(rule_id="d", then=Quota(action="quota", attribute="color", at_most=3)),
)


def assert_sums(answer: Answer) -> None:
    assert answer.explanations is not None
    assert len(answer.explanations) == len(answer.item_ids) > 0
    for told, score in zip(answer.explanations, answer.slate.scores.tolist(), strict=True):
        parts = values(told["contributions"]) + values(told["adjustments"])
        assert float(str(told["baseline"])) + sum(parts) == pytest.approx(score, abs=1e-4)


def values(of: object) -> list[float]:
    assert isinstance(of, dict)
    return list(of.values())


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize("rules", [(), RULES])
@pytest.mark.parametrize("has_ranker", [True, False])
def test_the_parts_of_every_score_add_up_to_it(
    tiny_recommender: Recommender, name: str, rules: tuple[Rule, ...], has_ranker: bool
) -> None:
    if not has_ranker:
        tiny_recommender.bundle.ranker = None
    words = {"words": "blue hat"} if name == "search" else {}
    asked = placed(
        name, recent=RED, context_item_ids=("green-ring",), rules=rules, explain=True, **words
    )
    assert_sums(tiny_recommender.recommend(asked))


def test_what_was_decided_beside_the_utility_is_named(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(
        placed("search", words="blue hat", rules=RULES[:3], explain=True, k=60)
    )
    assert answer.explanations is not None
    told = dict(zip(answer.item_ids, answer.explanations, strict=True))
    assert {"words", "rule:a", "rule:b"} == keys(told["blue-hat"]["adjustments"])
    assert {"rule:b"} <= keys(told["pink-hat"]["adjustments"])
    assert "words" in keys(told["blue-hat"]["source_scores"])
    assert "rule:a" not in keys(told["pink-hat"]["adjustments"])
    assert keys(told["blue-hat"]["contributions"]) == {view.group for view in FEATURE_VIEWS}
    assert keys(told["blue-hat"]["probabilities"]) == {*tiny_recommender.actions}


def test_what_is_equal_for_all_candidates_is_not_blown_up(tiny_recommender: Recommender) -> None:
    only = (parse('item_id = "red-shirt"'),)
    answer = tiny_recommender.recommend(placed("search", words="red", filters=only, explain=True))
    assert_sums(answer)
    assert answer.explanations is not None
    assert max(map(abs, values(answer.explanations[0]["contributions"]))) < 1


def keys(of: object) -> set[str]:
    assert isinstance(of, dict)
    return set(of)


def test_other_action_weights_are_explained_by_themselves(tiny_recommender: Recommender) -> None:
    policy = Policy(exploration=0, action_weights={"view": 0.0, "dismiss": -20.0})
    assert_sums(tiny_recommender.recommend(ask(recent=RED, policy=policy, explain=True)))


def sharp_ranker(seed: int = 0) -> Ranker:
    """Two small networks with larger weights than training gives: the rule's hard case."""
    rng = np.random.default_rng(seed)
    sizes = (len(FEATURE_NAMES), 16, 8, 3)
    weights = [
        rng.normal(0, 2 / np.sqrt(a), (2, a, b)).astype(np.float32) for a, b in pairwise(sizes)
    ]
    biases = [rng.normal(0, 0.5, (2, b)).astype(np.float32) for b in sizes[1:]]
    calibration = np.array([[1.0, 0.8, 1.2], [-2.0, -3.0, -1.0]], np.float32)
    mean, scale = np.zeros(sizes[0], np.float32), np.ones(sizes[0], np.float32)
    return Ranker(("view", "share", "dismiss"), mean, scale, (*weights,), (*biases,), calibration)


WEIGHTS = np.array([1.0, 4.0, -4.0], np.float32)


def features(n: int = 40) -> Float32Array:
    found = np.random.default_rng(1).normal(size=(n, len(FEATURE_NAMES))).astype(np.float32)
    found[np.random.default_rng(2).random(found.shape) < 0.2] = np.nan
    return found


def test_shares_of_the_utility_add_up_to_its_distance_from_the_average_candidate() -> None:
    ranker = sharp_ranker()
    groups, average = contributions(ranker, features(), WEIGHTS)
    utilities = ranker.probabilities(features()) @ WEIGHTS
    np.testing.assert_allclose(sum(groups.values()) + average, utilities, atol=1e-5)
    nobody = ranker.probabilities(np.full((1, len(FEATURE_NAMES)), np.nan, np.float32))
    assert average == pytest.approx(float((nobody @ WEIGHTS)[0]), abs=1e-6)


def test_what_the_rule_misses_and_is_shared_out_is_small() -> None:
    ranker = sharp_ranker()
    shares, average = integrated_gradients(ranker, features(), WEIGHTS, STEPS)
    utilities = ranker.probabilities(features()) @ WEIGHTS
    missed = np.abs(utilities - average - shares.sum(axis=1))
    assert missed.max() < 0.01 * np.abs(shares).sum(axis=1).max()
    assert missed.mean() < 0.01


def test_a_feature_that_no_network_reads_gets_nothing() -> None:
    ranker = sharp_ranker()
    for weight in ranker.weights[:1]:
        weight[:] = 0
        weight[:, 7, :] = 1
    shares, _ = integrated_gradients(ranker, features(), WEIGHTS, STEPS)
    others = np.delete(shares, 7, axis=1)
    assert (others == 0).all()
    assert np.abs(shares[:, 7]).max() > 0


def test_nothing_is_computed_for_who_does_not_ask(tiny_recommender: Recommender) -> None:
    assert tiny_recommender.recommend(ask()).explanations is None
