"""A score taken apart: a baseline, what each group of features gave, what was decided beside them.

Utility is U(x) = Σ over actions of weight · sigmoid(calibrated logit). Integrated gradients
(Sundararajan, Taly & Yan 2017) share U(x) - U(average candidate) among the features along the
straight line between the two, by the midpoint rule. What the rule misses (see STEPS) is shared in
proportion to the shares' sizes, so that they add up exactly.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from features.arrays import Float32Array, Float64Array
from features.views import FEATURE_VIEWS, SOURCES
from recsys.ranking.ranker import Ranker
from recsys.ranking.scoring import Scored
from recsys.ranking.slate import Choice

STEPS = 128  # of the midpoint rule; tests/recsys/test_explanations.py bounds what it misses


def explanations(
    scored: Scored,
    choice: Choice,
    ranker: Ranker | None,
    action_weights: Float32Array,
    actions: Sequence[str],
    further: dict[str, Float32Array],
) -> tuple[dict[str, object], ...]:
    """One for each item of the slate; baseline + Σ contributions + Σ adjustments = score.

    `further` (n,) by name are scores of answers that no feature is made of, NaN where none.
    """
    chosen = choice.chosen
    groups: dict[str, Float64Array] = {}
    baseline = scored.offset
    if ranker is not None and scored.ranked:
        groups, average = contributions(ranker, scored.features[chosen], action_weights)
        baseline += scored.share * average
    by_place = scored.candidates.source_scores[chosen]
    columns = dict(zip(SOURCES, by_place.T, strict=True))
    columns |= {name: scores[chosen] for name, scores in further.items()}
    chances = dict(zip(actions, scored.probabilities[chosen].T, strict=True))
    shares = {group: scored.share * share for group, share in groups.items()}
    if not scored.ranked:
        shares = {"best_rank": scored.share * scored.utilities[chosen].astype(np.float64)}
    decided = {name: by[chosen] for name, by in scored.adjustments.items()}
    return tuple(
        {
            "source_scores": _at(columns, place),
            "probabilities": _at(chances, place),
            "baseline": float(baseline),
            "contributions": _at(shares, place),
            "adjustments": {name: by for name, by in _at(decided, place).items() if by != 0},
            "propensity": float(choice.propensities[place]),
        }
        for place in range(len(chosen))
    )


def _at(columns: Mapping[str, Float32Array | Float64Array], place: int) -> dict[str, float]:
    values = {name: float(column[place]) for name, column in columns.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def contributions(
    ranker: Ranker, features: Float32Array, action_weights: Float32Array, steps: int = STEPS
) -> tuple[dict[str, Float64Array], float]:
    """Feature group → (n,) its share of the utility, and the utility of the average candidate."""
    shares, average = integrated_gradients(ranker, features, action_weights, steps)
    at = ranker.probabilities(features) @ action_weights
    missed = at - average - shares.sum(axis=1)
    sizes = np.abs(shares)
    total = np.maximum(sizes.sum(axis=1, keepdims=True), 1e-12)
    shares += missed[:, None] * sizes / total
    groups: dict[str, Float64Array] = {}
    for column, view in enumerate(FEATURE_VIEWS):
        groups[view.group] = groups.get(view.group, 0.0) + shares[:, column]
    return groups, average


def integrated_gradients(
    ranker: Ranker, features: Float32Array, action_weights: Float32Array, steps: int
) -> tuple[Float64Array, float]:
    """(n, n_features) shares before what the midpoint rule misses, and U(average candidate)."""
    x = ranker.standardise(features)
    gradient = np.zeros(x.shape)
    for step in range(steps):
        at = np.asarray(x * ((step + 0.5) / steps), np.float32)
        gradient += _gradient(ranker, at, action_weights)
    average = ranker.calibrate(ranker.logits(np.zeros_like(x[:1]))) @ action_weights
    return x * gradient / steps, float(average[0]) if len(x) else 0.0


def _gradient(ranker: Ranker, x: Float32Array, action_weights: Float32Array) -> Float32Array:
    """(n, n_features) of U: back through sigmoids, the mean of the networks and their layers."""
    layers = [x[None]]
    for weight, bias in zip(ranker.weights[:-1], ranker.biases[:-1], strict=True):
        layers.append(np.maximum(layers[-1] @ weight + bias[:, None], 0))
    logits = (layers[-1] @ ranker.weights[-1] + ranker.biases[-1][:, None]).mean(axis=0)
    chances = ranker.calibrate(logits)
    of_logits = action_weights * ranker.calibration[0] * chances * (1 - chances)
    back = of_logits[None] @ ranker.weights[-1].transpose(0, 2, 1)
    for hidden, weight in zip(layers[:0:-1], ranker.weights[-2::-1], strict=True):
        back = (back * (hidden > 0)) @ weight.transpose(0, 2, 1)
    return np.asarray(back.mean(axis=0), np.float32)
