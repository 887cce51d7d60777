"""Learns who takes what others like them took: LightFM, exported to arrays.

Maciej Kula, "Metadata Embeddings for User and Item Cold-start Recommendations", 2015: an item's
vector is the sum of its features' vectors; here the features are the item itself and its tags.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightfm import LightFM
from scipy import sparse

from features.arrays import Float32Array, Int64Array
from features.covisitation import step_weights
from features.history import HISTORY_LENGTH
from features.interactions import Interactions
from recsys.progress import Progress
from recsys.retrieval.collaborative import FactorModel, history_inputs
from recsys.retrieval.index import VectorIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CollaborativeConfig:
    """How factors are learned; part of the release's manifest."""

    dim: int = 64
    epochs: int = 30  # Beauty, validation R@10: 10 epochs .038, 30 epochs .042
    learning_rate: float = 0.05
    item_alpha: float = 0.0
    user_alpha: float = 0.0
    max_sampled: int = 100  # tries for a negative that outranks; validation R@10: 30 .042, 100 .045
    max_updates: int = 50_000_000  # epochs × pairs: keeps ten million events within minutes
    history_ridge: float = 1.0  # of the map from histories; 10 found 1 % less in the sample shop
    min_tag_items: int = 2  # a tag of one item says nothing its identity does not
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollaborativeReport:
    """What a training saw and took."""

    users: int
    items: int
    tags: int
    pairs: int
    epochs: int
    seconds: float


def fit_collaborative(
    interactions: Interactions,
    tags: Sequence[Sequence[str] | None],
    config: CollaborativeConfig,
    out: Path,
    progress: Progress,
) -> CollaborativeReport:
    """Writes the folder FactorModel.load reads; `tags` has one entry for each item row.

    Only positive events count. One thread, because LightFM's threads race and equal seeds would
    give different factors. Without any positive event, the model is there and knows nobody.
    """
    start = time.perf_counter()
    tag_names = _vocabulary(tags, config.min_tag_items)
    features = _item_features(tags, tag_names)
    users, pairs = _pairs(interactions, len(tags))
    epochs = max(1, min(config.epochs, config.max_updates // max(pairs.nnz, 1)))
    item_features, user_factors = (
        _fit(pairs, features, config, epochs, progress)
        if pairs.nnz
        else (_zeros(features.shape[1], config.dim), _zeros(0, config.dim))
    )
    items = np.asarray(features @ item_features, np.float32)
    model = FactorModel(
        [interactions.user_ids[user] for user in users],
        user_factors,
        VectorIndex(items),
        tag_names,
        item_features[len(tags) :],
        _map_from_history(interactions, items, user_factors, config.history_ridge),
    )
    model.save(out)
    return CollaborativeReport(
        users=len(users),
        items=len(tags),
        tags=len(tag_names),
        pairs=pairs.nnz,
        epochs=epochs if pairs.nnz else 0,
        seconds=time.perf_counter() - start,
    )


def _zeros(rows: int, dim: int) -> Float32Array:
    return np.zeros((rows, dim + 1), np.float32)


def _vocabulary(tags: Sequence[Sequence[str] | None], min_items: int) -> list[str]:
    counts = Counter(name for names in tags for name in set(names or ()))
    return sorted(name for name, count in counts.items() if count >= min_items)


def _item_features(
    tags: Sequence[Sequence[str] | None], tag_names: Sequence[str]
) -> sparse.csr_matrix:
    """(n_items, n_items + n_tags): identity and tags, each row summing to 1."""
    column_of = {name: len(tags) + i for i, name in enumerate(tag_names)}
    columns = [
        [item, *sorted(column_of[name] for name in set(names or ()) if name in column_of)]
        for item, names in enumerate(tags)
    ]
    lengths = np.array([len(row) for row in columns], np.int64)
    return sparse.csr_matrix(
        (
            np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32),
            np.array([column for row in columns for column in row], np.int32),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        ),
        shape=(len(tags), len(tags) + len(tag_names)),
    )


def _pairs(interactions: Interactions, n_items: int) -> tuple[Int64Array, sparse.coo_matrix]:
    """Users with positive events, and each (user, item) once with its weight, mean 1.

    A pair weighs log(1 + sum of its events' weights): the tenth view says less than the first.
    """
    positive = interactions.positive()
    users, user_rows = np.unique(positive.user_rows, return_inverse=True)
    keys, pair = np.unique(user_rows * np.int64(n_items) + positive.item_rows, return_inverse=True)
    weights = np.log1p(np.bincount(pair, positive.weights, len(keys)))
    weights /= weights.mean() if len(weights) else 1.0
    rows, columns = np.divmod(keys, max(n_items, 1))
    matrix = sparse.coo_matrix(
        (weights.astype(np.float32), (rows.astype(np.int32), columns.astype(np.int32))),
        shape=(len(users), n_items),
    )
    return users.astype(np.int64), matrix


def _fit(
    pairs: sparse.coo_matrix,
    features: sparse.csr_matrix,
    config: CollaborativeConfig,
    epochs: int,
    progress: Progress,
) -> tuple[Float32Array, Float32Array]:
    """Vectors of item features and of users, (·, dim + 1), biases in the last dimension."""
    model = LightFM(
        no_components=config.dim,
        loss="warp",
        learning_rate=config.learning_rate,
        item_alpha=config.item_alpha,
        user_alpha=config.user_alpha,
        max_sampled=config.max_sampled,
        random_state=config.seed,
    )
    ones = sparse.coo_matrix((np.ones(pairs.nnz, np.float32), (pairs.row, pairs.col)), pairs.shape)
    for _ in progress.track(range(epochs), total=epochs, label="collaborative"):
        model.fit_partial(ones, item_features=features, sample_weight=pairs, num_threads=1)
    items = np.column_stack([model.item_embeddings, model.item_biases])
    users = np.column_stack([model.user_embeddings, np.ones(pairs.shape[0])])
    return items.astype(np.float32), users.astype(np.float32)


def _map_from_history(
    interactions: Interactions, items: Float32Array, users: Float32Array, ridge: float
) -> Float32Array:
    """(d, d) ridge regression from the mean item vector of each user's history to the user's own.

    It places shoppers whom the model never met, and those it knows by what they did since.
    """
    log = interactions.positive()
    _, user_rows = np.unique(log.user_rows, return_inverse=True)
    steps_back = log.indptr[log.user_rows + 1] - 1 - np.arange(len(log))
    recent = steps_back < HISTORY_LENGTH
    weights = step_weights(HISTORY_LENGTH)[::-1][steps_back[recent]] * log.weights[recent]
    weights /= np.bincount(user_rows[recent], weights, len(users))[user_rows[recent]]
    histories = sparse.csr_matrix(
        (weights, (user_rows[recent], log.item_rows[recent])), shape=(len(users), len(items))
    )
    inputs = history_inputs(np.asarray(histories @ items, np.float32)).astype(np.float64)
    square = inputs.T @ inputs + ridge * np.eye(inputs.shape[1])
    return np.linalg.solve(square, inputs.T @ users).astype(np.float32)
