"""The yardstick: LightGBM's LambdaMART on the rows that the ranker learns from."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Float32Array, Int64Array
from features.errors import ConfigError
from recsys.training.queries import RankingRows
from recsys.training.ranker import RankerConfig, split_queries

# What public challenges of this shape settle near; nothing is tuned to a data set.
PARAMS: dict[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "lambdarank_truncation_level": 20,  # a little above the cut that is judged
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}
ROUNDS, PATIENCE = 1_000, 50


@dataclass(frozen=True, slots=True)
class LambdaMart:
    """Boosted trees; scores order the candidates of one query and mean nothing else."""

    booster: Any  # lightgbm.Booster

    def scores(self, features: Float32Array) -> Float32Array:
        if len(features) == 0:
            return np.empty(0, np.float32)
        return np.asarray(self.booster.predict(features), np.float32)


def fit_lambdamart(rows: RankingRows, gains: Float32Array, config: RankerConfig) -> LambdaMart:
    """`gains` (n_actions,) is the worth of each action; of the config the split and the seed count.

    It learns from and stops by the queries that the ranker does. ConfigError where LightGBM is not
    installed.
    """
    lightgbm = load_lightgbm()
    grades, label_gain = graded(rows.labels, gains)

    def dataset(queries: Int64Array, reference: Any = None) -> Any:  # noqa: ANN401
        chosen = np.zeros(len(rows), np.bool_)
        chosen[queries] = True
        inside = chosen[rows.query_index]
        sizes = np.diff(rows.offsets)[chosen]
        return lightgbm.Dataset(
            rows.features[inside], grades[inside], group=sizes, reference=reference
        )

    train, validation = split_queries(rows, config, np.random.default_rng(config.seed))
    learned = dataset(train)
    booster = lightgbm.train(
        {**PARAMS, "seed": config.seed, "label_gain": label_gain},
        learned,
        num_boost_round=ROUNDS,
        valid_sets=[dataset(validation, learned)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return LambdaMart(booster)


def graded(labels: Float32Array, gains: Float32Array) -> tuple[Int64Array, list[float]]:
    """Whole-numbered grades (n,) of what was taken, and the worth of each grade, from 0.

    Of several actions the worthiest counts; aversion is worth as little as nothing.
    """
    worth = np.maximum((labels * gains).max(axis=1, initial=0), 0)
    label_gain = np.unique(np.r_[0.0, worth])
    return np.searchsorted(label_gain, worth), label_gain.tolist()


def load_lightgbm() -> Any:  # noqa: ANN401 no types here
    """The package, installed for benchmarks only; ConfigError where it is not."""
    try:
        return importlib.import_module("lightgbm")
    except ImportError as error:
        raise ConfigError(
            f"found no LightGBM ({error}), expected it for the yardstick: pip install "
            "'storefront-recsys[bench]', or leave yardstick out of --tables"
        ) from error
