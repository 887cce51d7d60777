"""What an exposure is worth by item and position, learned from shoppers it is not asked about."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array, Int64Array
from recsys.evaluation.offpolicy.log import ExposureLog
from recsys.evaluation.offpolicy.policy import Distributions


@dataclass(frozen=True, slots=True, eq=False)
class RewardModel:
    """Means shrunk in three steps: position to all, item to position, cell to both.

    A mean of n rewards moves from what is expected without them by n / (n + strength), as the
    m-estimate of Cestnik (1990).
    """

    position: Float64Array  # (n_positions,) for items never shown
    cell: Float64Array  # (n_items, n_positions)


def fit_rewards(
    rewards: Float64Array,
    item_rows: Int64Array,
    position_rows: Int64Array,
    *,
    shape: tuple[int, int],
    strength: float,
) -> RewardModel:
    """`shape` is (n_items, n_positions); without rewards everything is worth 0."""
    n_items, n_positions = shape
    overall = float(rewards.mean()) if len(rewards) else 0.0
    position = overall + _shrunk(rewards - overall, position_rows, n_positions, strength)
    item = _shrunk(rewards - position[position_rows], item_rows, n_items, strength)
    expected = position + item[:, None]
    left = rewards - expected[item_rows, position_rows]
    cells = item_rows * n_positions + position_rows
    cell = expected + _shrunk(left, cells, n_items * n_positions, strength).reshape(shape)
    return RewardModel(position, cell)


def cross_fitted(
    log: ExposureLog, target: Distributions, *, folds: int, strength: float, seed: int
) -> tuple[Float64Array, Float64Array]:
    """(n,) the model's reward of the item shown, and its expectation under the target.

    A shopper's rows are never told by a model that has seen them (Chernozhukov et al. 2018).
    """
    positions, position_rows = np.unique(log.positions, return_inverse=True)
    shape = (len(log.item_ids), len(positions))
    n_units = int(log.unit_rows.max()) + 1
    fold = (np.random.default_rng([seed, 1]).permutation(n_units) % folds)[log.unit_rows]
    unnamed = np.maximum(1 - target.table.sum(axis=1), 0.0)
    shown, expected = np.empty(len(log)), np.empty(len(log))
    for number in range(folds):
        own, others = fold == number, fold != number
        model = fit_rewards(
            log.rewards[others],
            log.item_rows[others],
            position_rows[others],
            shape=shape,
            strength=strength,
        )
        worth = target.table @ model.cell + unnamed[:, None] * model.position
        shown[own] = model.cell[log.item_rows[own], position_rows[own]]
        expected[own] = worth[target.cells[own], position_rows[own]]
    return shown, expected


def _shrunk(values: Float64Array, rows: Int64Array, n: int, strength: float) -> Float64Array:
    sums = np.bincount(rows, values, minlength=n)
    return np.asarray(sums / (np.bincount(rows, minlength=n) + strength), np.float64)
