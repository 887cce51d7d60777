"""RecTools' SASRec and two-stage model, set up as its guides do and stopped on validation."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from catboost import CatBoostRanker
from implicit.nearest_neighbours import BM25Recommender
from pytorch_lightning import Callback as TrainerCallback
from pytorch_lightning import LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset, Interactions
from rectools.model_selection import LastNSplitter, Splitter, TimeRangeSplitter
from rectools.models import EASEModel, ImplicitItemKNNWrapperModel, PopularModel, SASRecModel
from rectools.models.base import ModelBase
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from rectools.models.ranking import (
    CandidateFeatureCollector,
    CandidateGenerator,
    CandidateRankingModel,
    CatBoostReranker,
    PerUserNegativeSampler,
)
from scipy import sparse

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from jobs.peers.answers import DEPTH
from jobs.peers.peer import Fit, Fitted, Machine, Tried
from jobs.peers.world import DAY_US, Round, World, last_round

SASREC = {
    "n_factors": 64,
    "n_blocks": 2,
    "n_heads": 2,
    "dropout_rate": 0.2,
    "lr": 0.001,
    "loss": "softmax",
}
MAX_EPOCHS, PATIENCE, MAX_MINUTES = 100, 5, 10
MAX_SESSION = 100  # SASRecModel's own default
GENERATED = 100  # candidates of each generator
TWO_STAGE_EPOCHS = 5  # of the generator SASRec, which has no validation of its own
NEGATIVES = 20  # a user; the default of 3 leaves the ranker little to learn from


class _Best(TrainerCallback):  # type: ignore[misc]  # lightning ships no types here
    """Stops when the validation loss has not fallen for PATIENCE epochs; keeps the best weights."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.state: dict[str, Any] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.losses.append(float(trainer.callback_metrics[SASRecModel.val_loss_name]))
        if self.losses[-1] == min(self.losses):
            self.state = deepcopy(pl_module.state_dict())
        trainer.should_stop = len(self.losses) - self.epochs >= PATIENCE

    @property
    def epochs(self) -> int:
        return int(np.argmin(self.losses)) + 1


def _sasrec(world: World, validation: Round, popular: Int64Array, machine: Machine) -> Fitted:
    """Everybody's last event is held out until the number of epochs is known."""
    del validation, popular
    _prepare(machine)
    known = _dataset(world, world.weights > 0)
    start = perf_counter()
    model = _sasrec_model(world, MAX_EPOCHS, _last_of_user)
    model.fit(known)
    best = next(c for c in model.fit_trainer.callbacks if isinstance(c, _Best))
    model.lightning_model.load_state_dict(best.state)
    seconds = perf_counter() - start
    if world.refit:
        start = perf_counter()
        model = _sasrec_model(world, best.epochs)
        model.fit(known)
        seconds = perf_counter() - start
    tried = [Tried({"epochs": n + 1, "val_loss": x}, None) for n, x in enumerate(best.losses)]
    settings = {**_sasrec_settings(world), "epochs": best.epochs}
    return Fitted(_Listed(world, model, known), settings, seconds, tried)


def _two_stage(world: World, validation: Round, popular: Int64Array, machine: Machine) -> Fitted:
    """Popularity, BM25 item-kNN, EASE and SASRec propose; CatBoost learns from the newest events.

    Targets are everybody's last event of the fit where it may not see validation events, else
    those from the cut on. Scores and ranks of the generators are features, and how often item
    and user occur.
    """
    del validation, popular
    _prepare(machine)
    generators = [
        PopularModel(),
        ImplicitItemKNNWrapperModel(BM25Recommender(K=100, num_threads=machine.threads)),
        EASEModel(regularization=150, recommend_n_threads=machine.threads),
        _sasrec_model(world, TWO_STAGE_EPOCHS),
    ]
    model = CandidateRankingModel(
        [CandidateGenerator(g, GENERATED, keep_ranks=True, keep_scores=True) for g in generators],
        _splitter(world),
        CatBoostReranker(
            CatBoostRanker(
                thread_count=machine.threads,
                random_seed=machine.seed,
                verbose=False,
                allow_writing_files=False,
            )
        ),
        sampler=PerUserNegativeSampler(NEGATIVES, random_state=machine.seed),
        feature_collector=_Counts(),
    )
    learned = _dataset(world, last_round(world).learned & (world.weights > 0))
    start = perf_counter()
    model.fit(learned)
    seconds = perf_counter() - start
    settings = {
        "generators": "popularity, BM25 K=100, EASE 150, SASRec",
        "candidates": GENERATED,
        "sasrec_epochs": TWO_STAGE_EPOCHS,
        "reranker": "CatBoostRanker",
        "negatives": NEGATIVES,
    }
    return Fitted(
        _Listed(world, model, _dataset(world, world.weights > 0, learned)), settings, seconds
    )


class _Listed:
    """Scores from a RecTools model's lists: minus the rank, -inf where it lists nothing."""

    def __init__(self, world: World, model: ModelBase, dataset: Dataset) -> None:
        self._model, self._dataset, self._n_items = model, dataset, world.n_items
        extra = np.diff(world.touched(world.weights <= 0)[world.asked].indptr).max(initial=0)
        self._k = min(DEPTH + int(extra), world.n_items)  # what is masked afterwards is in it

    def __call__(self, users: Int32Array, history: sparse.csr_matrix) -> Float32Array:
        del history  # it is in the dataset, in order
        scores = np.full((len(users), self._n_items), -np.inf, np.float32)
        present = np.isin(users, self._dataset.user_id_map.external_ids)
        if not present.any():
            return scores
        found = self._model.recommend(
            users[present],
            self._dataset,
            k=self._k,
            filter_viewed=True,
            on_unsupported_targets="ignore",
        )
        row_of = pd.Series(np.arange(len(users)), index=users)
        rows = row_of[found[Columns.User]].to_numpy()
        scores[rows, found[Columns.Item].to_numpy()] = -found[Columns.Rank].to_numpy()
        return scores


class _Counts(CandidateFeatureCollector):  # type: ignore[misc]  # RecTools is untyped
    """How often item and user occur in what the generators have learned from."""

    def _get_user_features(
        self, users: Int64Array, dataset: Dataset, fold_info: dict[str, object] | None
    ) -> pd.DataFrame:
        del fold_info
        return _occurrences(dataset, Columns.User, users)

    def _get_item_features(
        self, items: Int64Array, dataset: Dataset, fold_info: dict[str, object] | None
    ) -> pd.DataFrame:
        del fold_info
        return _occurrences(dataset, Columns.Item, items)


def _occurrences(dataset: Dataset, column: str, wanted: Int64Array) -> pd.DataFrame:
    counts = dataset.get_raw_interactions()[column].value_counts()
    values = counts.reindex(wanted, fill_value=0).to_numpy()
    return pd.DataFrame({column: wanted, f"{column}_count": values})


def _sasrec_settings(world: World) -> dict[str, Any]:
    """Nineteen of twenty histories whole, in tens: padding is most of the work on long ones.

    Few users get small batches, or an epoch would be a handful of steps.
    """
    lengths = np.bincount(world.users[world.weights > 0])
    lengths = lengths[lengths > 0]
    session = min(int(-(-np.quantile(lengths, 0.95) // 10) * 10), MAX_SESSION)
    batch = int(np.clip(len(lengths) // 64, 16, 128))  # 128 is SASRecModel's own default
    return {**SASREC, "session_max_len": session, "batch_size": batch}


def _sasrec_model(
    world: World, epochs: int, held_out: Callable[[pd.DataFrame], BoolArray] | None = None
) -> SASRecModel:
    """`held_out` tells which interactions are for validation; then it stops early."""
    model = SASRecModel(
        **_sasrec_settings(world),
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_val_mask_func=held_out,
        recommend_torch_device="cpu",
    )
    model._trainer = Trainer(  # replaced as the authors' training guide does
        max_epochs=epochs,
        max_time={"minutes": MAX_MINUTES} if held_out else None,
        accelerator="cpu",
        callbacks=[_Best()] if held_out else None,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    return model


def _last_of_user(interactions: pd.DataFrame) -> BoolArray:
    """In sequences this is the validation item: nothing is known after it."""
    newest_first = interactions.sort_values(Columns.Datetime, ascending=False, kind="stable")
    order = newest_first.groupby(Columns.User, sort=False).cumcount()
    return np.asarray(order.reindex(interactions.index) == 0, np.bool_)


def _dataset(world: World, chosen: BoolArray, like: Dataset | None = None) -> Dataset:
    """Chosen events by user and item row; with the ids of `like`, only events on its items."""
    table = pd.DataFrame(
        {
            Columns.User: world.users[chosen],
            Columns.Item: world.items[chosen],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(world.time_us[chosen], unit="us"),
        }
    )
    table = table.drop_duplicates(Columns.UserItem, keep="last")
    if like is None:
        return Dataset.construct(table)
    table = table[table[Columns.Item].isin(like.item_id_map.external_ids)]
    users = like.user_id_map.add_ids(table[Columns.User])
    return Dataset(users, like.item_id_map, Interactions.from_raw(table, users, like.item_id_map))


def _splitter(world: World) -> Splitter:
    if not world.refit:
        return LastNSplitter(1)
    return TimeRangeSplitter(f"{-(-(int(world.time_us.max()) + 1 - world.cut_us) // DAY_US)}D")


def _prepare(machine: Machine) -> None:
    torch.set_num_threads(machine.threads)
    seed_everything(machine.seed, verbose=False)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="rectools")


RECTOOLS_PEERS: dict[str, Fit] = {"sasrec": _sasrec, "two-stage": _two_stage}
