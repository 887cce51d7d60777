"""Trains the ranker: listwise over each past query's candidates, one head for each action."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit
from torch import Tensor, nn

from features.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from features.errors import DataError
from recsys.progress import Progress
from recsys.ranking.ranker import CLIP, Ranker
from recsys.training.queries import RankingRows

# So that few queries still make enough steps: 63 of them, 30 epochs, reach a validation loss of
# 2.58 in one batch an epoch and of 1.16 in batches of 8.
BATCHES_AN_EPOCH, SMALLEST_BATCH = 20, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """The network and how long it learns; part of the release's manifest."""

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.1
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    batch_queries: int = 256  # at most; see BATCHES_AN_EPOCH
    epochs: int = 30
    patience: int = 4  # epochs without a better validation loss
    validation_share: float = 0.1
    max_negatives: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RankerReport:
    """How the training went; losses are mean listwise cross-entropies in nats."""

    queries: int
    rows: int
    epochs: int
    train_loss: float
    validation_loss: float


def fit_ranker(
    rows: RankingRows, actions: tuple[str, ...], config: RankerConfig, progress: Progress
) -> tuple[Ranker, RankerReport]:
    """Softmax cross-entropy over each query's candidates (ListNet, Cao et al. 2007), per action."""
    n_queries = len(rows.offsets) - 1
    if n_queries < 2:
        raise DataError(
            f"the ranker found {n_queries} past queries with an outcome among their candidates; "
            "it needs at least 2: import more events, or widen the label window"
        )
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    order = rng.permutation(n_queries)
    n_validation = max(1, int(n_queries * config.validation_share))
    mean, scale = _moments(rows.features)
    data = _Batches(rows, mean, scale)
    batch_queries = max(n_queries // BATCHES_AN_EPOCH, SMALLEST_BATCH)
    config = replace(config, batch_queries=min(config.batch_queries, batch_queries))
    network = _network(rows.features.shape[1], len(actions), config)
    report = _train(
        network, data, order[n_validation:], order[:n_validation], config, rng, progress
    )
    ranker = _exported(network, actions, mean, scale)
    calibration = _calibrate(ranker, rows, order[:n_validation])
    return (
        Ranker(
            actions=ranker.actions,
            mean=mean,
            scale=scale,
            weights=ranker.weights,
            biases=ranker.biases,
            calibration=calibration,
        ),
        report,
    )


def _moments(features: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Mean and 1/std of each column over its known values; 0 and 1 for a column without any."""
    known = ~np.isnan(features)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0).sum(axis=0, dtype=np.float64) / n
    square = (np.where(known, features - mean.astype(np.float32), 0) ** 2).sum(0, dtype=np.float64)
    std = np.sqrt(square / n)
    return mean.astype(np.float32), (1.0 / np.where(std < 1e-6, 1.0, std)).astype(np.float32)


class _Batches:
    """Standardised rows, handed out as padded (queries, candidates, …) tensors."""

    def __init__(self, rows: RankingRows, mean: Float32Array, scale: Float32Array) -> None:
        scaled = np.clip((rows.features - mean) * scale, -CLIP, CLIP)
        np.nan_to_num(scaled, copy=False, nan=0.0)
        self._features = torch.from_numpy(scaled)
        self._labels = torch.from_numpy(rows.labels)
        self._offsets = rows.offsets

    def of(self, queries: Int64Array) -> tuple[Tensor, Tensor, Tensor]:
        """Features (q, c, f), labels (q, c, a), and which slots are real (q, c)."""
        sizes = self._offsets[queries + 1] - self._offsets[queries]
        slots = np.arange(int(sizes.max()))[None, :]
        real = slots < sizes[:, None]
        index = torch.from_numpy(np.where(real, self._offsets[queries][:, None] + slots, 0))
        return self._features[index], self._labels[index], torch.from_numpy(real)


def _network(n_features: int, n_actions: int, config: RankerConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = n_features
    for hidden in config.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, n_actions))


def _loss(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Mean over actions and queries that have the action of -Σ y/Σy · log softmax."""
    features, labels, real = batch
    logits = network(features).masked_fill(~real[:, :, None], -1e9)
    log_share = torch.log_softmax(logits, dim=1)
    labels = labels * real[:, :, None]
    total = labels.sum(dim=1)
    loss = -(labels * log_share).sum(dim=1) / total.clamp(min=1.0)
    has_action = total > 0
    return loss[has_action].mean()


def _train(
    network: nn.Sequential,
    data: _Batches,
    train: Int64Array,
    validation: Int64Array,
    config: RankerConfig,
    rng: np.random.Generator,
    progress: Progress,
) -> RankerReport:
    steps = config.epochs * -(-len(train) // config.batch_queries)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.learning_rate, total_steps=max(steps, 11), pct_start=0.1
    )  # at 10 its warm-up has no length, by which torch divides
    best, best_state, bad, epochs, loss = np.inf, network.state_dict(), 0, 0, torch.tensor(0.0)
    for _ in progress.track(range(config.epochs), total=config.epochs, label="ranker"):
        epochs += 1
        network.train()
        for queries in np.array_split(
            rng.permutation(train), max(1, -(-len(train) // config.batch_queries))
        ):
            loss = _loss(network, data.of(queries))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        score = _validation_loss(network, data, validation, config.batch_queries)
        if score < best:
            best, bad = score, 0
            best_state = {name: value.clone() for name, value in network.state_dict().items()}
        else:
            bad += 1
        if bad >= config.patience:
            break
    network.load_state_dict(best_state)
    network.eval()
    n_rows = int(data._offsets[-1])
    return RankerReport(len(data._offsets) - 1, n_rows, epochs, loss.item(), float(best))


@torch.no_grad()
def _validation_loss(
    network: nn.Module, data: _Batches, queries: Int64Array, batch_queries: int
) -> float:
    network.eval()
    parts = np.array_split(queries, max(1, -(-len(queries) // batch_queries)))
    losses = [float(_loss(network, data.of(part))) * len(part) for part in parts]
    return sum(losses) / len(queries)


def _exported(
    network: nn.Sequential, actions: tuple[str, ...], mean: Float32Array, scale: Float32Array
) -> Ranker:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return Ranker(
        actions=actions,
        mean=mean,
        scale=scale,
        weights=tuple(layer.weight.detach().numpy().T.copy() for layer in linear),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in linear),
        calibration=np.array([np.ones(len(actions)), np.zeros(len(actions))], np.float32),
    )


def _calibrate(ranker: Ranker, rows: RankingRows, queries: Int64Array) -> Float32Array:
    """(2, n_actions) slope and intercept of sigmoid(slope · logit + intercept) on held-out rows.

    Maximum likelihood with the smoothed labels of Platt 1999, so that an action without events
    still gets a finite answer; the slope is kept positive, so calibration never reorders.
    """
    index = np.concatenate([np.arange(rows.offsets[q], rows.offsets[q + 1]) for q in queries])
    logits = ranker.logits(ranker.standardise(rows.features[index])).astype(np.float64)
    fitted = [
        _platt(logits[:, action], rows.labels[index, action] > 0)
        for action in range(logits.shape[1])
    ]
    return np.array(fitted, np.float32).T


def _platt(logits: Float64Array, taken: BoolArray) -> Float64Array:
    n_taken, n_left = taken.sum(), (~taken).sum()
    target = np.where(taken, (n_taken + 1) / (n_taken + 2), 1 / (n_left + 2))
    spread = max(float(logits.std()), 1e-6)
    x = (logits - logits.mean()) / spread

    def loss(theta: Float64Array) -> tuple[float, Float64Array]:
        z = theta[0] * x + theta[1]
        error = expit(z) - target
        value = (np.logaddexp(0, z) - target * z).mean()
        return float(value), np.array([(error * x).mean(), error.mean()])

    start = np.array([1.0, logit(target.mean())])
    slope, intercept = minimize(loss, start, jac=True, bounds=[(1e-3, None), (None, None)]).x
    return np.array([slope / spread, intercept - slope * logits.mean() / spread])
