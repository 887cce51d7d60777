"""Peers that learn from a matrix of users and items: popularity, EASE, implicit and LightFM.

Libraries are imported where they are used: a process holds one peer, so that its memory is its
own. Grids are small and around what the libraries' examples start from.
"""

from itertools import product

import numpy as np
from scipy import sparse

from features.arrays import Float32Array, Int32Array
from jobs.peers.answers import Scorer, silent
from jobs.peers.ease import ease_weights
from jobs.peers.peer import Fit, Machine, Settings, tuned
from jobs.peers.world import Round, World

EASE_GRID = [{"regularization": x} for x in (50.0, 200.0, 800.0, 3200.0)]
KNN_GRID = [{"K": k} for k in (20, 50, 100, 300)]
BM25_GRID = [
    {"K": k, "K1": k1, "B": b} for k in (50, 200) for k1 in (0.5, 1.2) for b in (0.2, 0.75)
]
ALS_GRID = [
    {"factors": f, "regularization": r, "alpha": a, "iterations": 15}
    for f, r, a in product((64, 128), (0.01, 0.1), (5.0, 40.0))
]
LIGHTFM_GRID = [
    {"no_components": n, "learning_rate": 0.05, "epochs": e, "tags": t}
    for n, e, t in product((64,), (10, 30), (False, True))
]
FOLD_IN_EPOCHS = 5


def _popularity(world: World, learned: Round, machine: Machine, settings: Settings) -> Scorer:
    del world, learned, machine, settings
    return silent


def _ease(world: World, learned: Round, machine: Machine, settings: Settings) -> Scorer:
    del machine
    weights = ease_weights(world.positives(learned.learned), float(str(settings["regularization"])))

    def score(users: Int32Array, history: sparse.csr_matrix) -> Float32Array:
        del users
        return np.asarray(history @ weights, np.float32)

    return score


def _item_knn(world: World, learned: Round, machine: Machine, settings: Settings) -> Scorer:
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender

    kind = BM25Recommender if "K1" in settings else CosineRecommender
    model = kind(num_threads=machine.threads, **settings)
    model.fit(world.positives(learned.learned), show_progress=False)
    similarity = model.similarity.astype(np.float32).tocsr()

    def score(users: Int32Array, history: sparse.csr_matrix) -> Float32Array:
        del users
        found = np.asarray((history @ similarity).toarray(), np.float32)
        return np.where(found > 0, found, -np.inf).astype(np.float32)

    return score


def _als(world: World, learned: Round, machine: Machine, settings: Settings) -> Scorer:
    """Users are recalculated from the history of the question, as implicit does by itself."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    model = AlternatingLeastSquares(
        num_threads=machine.threads, random_state=machine.seed, **settings
    )
    with threadpool_limits(1, "blas"):  # implicit asks for it: its own threads call BLAS
        model.fit(world.positives(learned.learned), show_progress=False)

    def score(users: Int32Array, history: sparse.csr_matrix) -> Float32Array:
        with threadpool_limits(1, "blas"):
            factors = model.recalculate_user(users, history)
        return np.asarray(factors @ model.item_factors.T, np.float32)

    return score


def _lightfm(world: World, learned: Round, machine: Machine, settings: Settings) -> Scorer:
    """WARP. A user who has done more since the fit learns that with the items held still."""
    from lightfm import LightFM

    features = _item_features(world, with_tags=bool(settings["tags"]))
    model = LightFM(
        no_components=settings["no_components"],
        learning_rate=settings["learning_rate"],
        loss="warp",
        random_state=machine.seed,
    )
    pairs = world.positives(learned.learned).tocoo()
    epochs = int(str(settings["epochs"]))
    model.fit(pairs, item_features=features, epochs=epochs, num_threads=machine.threads)
    biases, vectors = model.get_item_representations(features)
    met = np.diff(pairs.tocsr().indptr)

    def score(users: Int32Array, history: sparse.csr_matrix) -> Float32Array:
        grown = np.diff(history.indptr) != met[users]
        if grown.any():
            _learn_users(users[grown], history[grown])
        return np.asarray(model.user_embeddings[users] @ vectors.T + biases, np.float32)

    def _learn_users(users: Int32Array, history: sparse.csr_matrix) -> None:
        rows = history.tocoo()
        shape = (world.n_users, world.n_items)
        known = sparse.coo_matrix((rows.data, (users[rows.row], rows.col)), shape=shape)
        items = model.item_embeddings.copy(), model.item_biases.copy()
        for _ in range(FOLD_IN_EPOCHS):
            model.fit_partial(known, item_features=features, num_threads=machine.threads)
            model.item_embeddings[:], model.item_biases[:] = items

    return score


def _item_features(world: World, *, with_tags: bool) -> sparse.csr_matrix:
    """(n_items, n_items [+ n_tags]) identity and tags, rows summing to 1."""
    identity = sparse.identity(world.n_items, np.float32, format="csr")
    if not with_tags or not len(world.tags):
        return identity
    ones = np.ones(len(world.tags), np.float32)
    tags = sparse.csr_matrix(
        (ones, world.tags, world.tag_indptr), shape=(world.n_items, 1 + int(world.tags.max()))
    )
    both = sparse.hstack([identity, tags], format="csr")
    return sparse.csr_matrix(
        sparse.diags(1 / np.asarray(both.sum(axis=1)).ravel()) @ both, dtype=np.float32
    )


MATRIX_PEERS: dict[str, Fit] = {
    "popularity": tuned([{}], _popularity),
    "item-knn": tuned(KNN_GRID, _item_knn),
    "bm25": tuned(BM25_GRID, _item_knn),
    "als": tuned(ALS_GRID, _als),
    "lightfm": tuned(LIGHTFM_GRID, _lightfm),
    "ease": tuned(EASE_GRID, _ease),
}
