"""From probabilities to the slate: utility, diversity, and exploration with known propensities."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int64Array

MMR_POOL = 4  # candidates looked at for each position: diversity must not reach into the tail


@dataclass(frozen=True, slots=True)
class Choice:
    """What a slate shows: indices into the candidates, and the chance each had of that position."""

    chosen: Int64Array  # (k,)
    propensities: Float32Array  # (k,)


def utility(probabilities: Float32Array, action_weights: Float32Array) -> Float32Array:
    """(n,) Σ over actions of weight · P(action)."""
    return np.asarray(probabilities @ action_weights, np.float32)


def best_rank_utility(source_ranks: Float32Array) -> Float32Array:
    """(n,) what stands in for utility without a ranker: 1 / (1 + best rank), 0 without any."""
    ranks = np.where(np.isnan(source_ranks), np.inf, source_ranks)
    return np.asarray(1.0 / (1.0 + ranks.min(axis=1)), np.float32)


def diversify(
    order: Int64Array, utilities: Float32Array, vectors: Float32Array, k: int, strength: float
) -> Int64Array:
    """The candidates in the order to show them: k picked by maximal marginal relevance, then rest.

    MMR (Carbonell & Goldstein 1998): each pick maximises (1 - strength) · utility, scaled to 0..1
    within the pool, minus strength · greatest cosine to what is already picked. `vectors` (n, d)
    has unit rows.
    """
    pool = order[: MMR_POOL * k]
    if strength == 0 or len(pool) < 3:
        return order
    gain = utilities[pool]
    gain = (gain - gain.min()) / max(float(np.ptp(gain)), 1e-9) * (1 - strength)
    cosines = vectors[pool] @ vectors[pool].T
    alike = np.zeros(len(pool), np.float32)
    picked: list[int] = []
    left = np.ones(len(pool), np.bool_)
    for _ in range(min(k, len(pool))):
        best = int(np.argmax(np.where(left, gain - strength * alike, -np.inf)))
        picked.append(best)
        left[best] = False
        np.maximum(alike, cosines[best], out=alike)
    return np.concatenate([pool[picked], pool[left], order[len(pool) :]])


def explore(
    order: Int64Array, k: int, *, exploration: float, pool_size: int, rng: np.random.Generator
) -> Choice:
    """Show `order[:k]`, but let each position explore with probability `exploration`.

    The pool is the `pool_size` next best candidates; a random permutation of it is drawn, and an
    exploring position p shows its p-th item. So the chance of a pool item at a position is exactly
    exploration / |pool|, of the planned item 1 - exploration, and no item is shown twice.
    """
    planned = order[:k]
    pool = order[k : k + pool_size]
    n_explorable = min(len(planned), len(pool))
    if exploration == 0 or n_explorable == 0:
        return Choice(planned, np.ones(len(planned), np.float32))
    draws = rng.permutation(pool)[:n_explorable]
    explores = np.zeros(len(planned), np.bool_)
    explores[:n_explorable] = rng.random(n_explorable) < exploration
    chosen = planned.copy()
    chosen[explores] = draws[explores[:n_explorable]]
    propensities = np.ones(len(planned), np.float32)
    propensities[:n_explorable] = 1 - exploration
    propensities[explores] = exploration / len(pool)
    return Choice(chosen, propensities)
