"""Trains the ranker: listwise over each past query's candidates, one head for each action."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from features.arrays import BoolArray, Float32Array, Int64Array
from features.errors import DataError
from recsys.progress import Progress
from recsys.ranking.ranker import Ranker
from recsys.training.calibration import ActionReliability, platt, reliability
from recsys.training.queries import RankingRows
from recsys.training.ranker_network import Batches, Networks, losses, validation_loss

# So that few queries still make enough steps: 63 of them, 30 epochs, reach a validation loss of
# 2.58 in one batch an epoch and of 1.16 in batches of 8.
BATCHES_AN_EPOCH, SMALLEST_BATCH = 20, 8
PULL_RATE = 5.0  # times the learning rate: a table of positions has far to go in few steps
ENOUGH_ACTIONS = 20  # held-out events of each action on slates; its rate is then known to ±22 %


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
    ensemble: int = 3  # networks whose logits are averaged: Beauty, validation nDCG@10 +.5 %
    slate_share: float = 0.5  # of the loss, at most: what was shown, beside what was taken anyhow
    max_slates: int = 30_000  # newest first
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RankerReport:
    """How the training went; losses are mean listwise cross-entropies in nats, by epoch.

    `position_pull` is what each position adds to a logit, against the first; empty without slates.
    """

    queries: int
    slates: int  # of the queries
    rows: int
    epochs: int
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    position_pull: tuple[float, ...]
    reliability: tuple[ActionReliability, ...]  # of the held-out queries, by action
    calibrated_on_slates: bool

    @property
    def validation_loss(self) -> float:
        """Of the epoch that was kept."""
        return min(self.validation_losses)


def fit_ranker(
    rows: RankingRows, actions: tuple[str, ...], config: RankerConfig, progress: Progress
) -> tuple[Ranker, RankerReport]:
    """Softmax cross-entropy over each query's candidates (ListNet, Cao et al. 2007), per action."""
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    train, validation = split_queries(rows, config, rng)
    mean, scale = _moments(rows.features)
    data = Batches(rows, mean, scale, _slate_weight(rows.of_slates[train], config.slate_share))
    batch_queries = max(len(rows) // BATCHES_AN_EPOCH, SMALLEST_BATCH)
    config = replace(config, batch_queries=min(config.batch_queries, batch_queries))
    networks = Networks(
        rows.features.shape[1], len(actions), config.hidden, config.dropout, config.ensemble
    )
    curves = _train(networks, data, train, validation, config, rng, progress)
    pulls = networks.pulls()
    ranker = _exported(networks, actions, mean, scale)
    checked = _Checked.of(ranker, rows, validation, pulls)
    ranker = replace(ranker, calibration=checked.calibration())
    last = int(rows.positions.max(initial=-1))
    report = RankerReport(
        queries=len(rows),
        slates=int(rows.of_slates.sum()),
        rows=len(rows.features),
        epochs=len(curves[0]),
        train_losses=curves[0],
        validation_losses=curves[1],
        position_pull=tuple(pulls[: last + 1].tolist()),
        reliability=checked.reliability(ranker),
        calibrated_on_slates=checked.on_slates,
    )
    return ranker, report


def split_queries(
    rows: RankingRows, config: RankerConfig, rng: np.random.Generator
) -> tuple[Int64Array, Int64Array]:
    """Queries to learn from and those to stop by and to calibrate on: as marked, else drawn."""
    has_outcome = np.zeros(len(rows), np.bool_)
    has_outcome[rows.query_index[rows.labels.max(axis=1, initial=0) > 0]] = True
    useful = np.flatnonzero(has_outcome)
    if len(useful) < 2:
        raise DataError(
            f"the ranker found {len(useful)} past queries with an outcome among their candidates; "
            "it needs at least 2: import more events, or widen the label window"
        )
    marked = rows.held_out
    if (marked & has_outcome).any() and (~marked & has_outcome).any():
        return np.flatnonzero(has_outcome & ~marked), np.flatnonzero(marked)
    train, validation = held_out(len(useful), config, rng)
    return useful[train], useful[validation]


def held_out(
    n_queries: int, config: RankerConfig, rng: np.random.Generator
) -> tuple[Int64Array, Int64Array]:
    """The queries to learn from and those to stop by, the same for the same fresh `rng`."""
    order = rng.permutation(n_queries)
    n_validation = max(1, int(n_queries * config.validation_share))
    return order[n_validation:], order[:n_validation]


def _slate_weight(of_slates: BoolArray, most: float) -> float:
    """A slate counts as much as any query, until all of them would be more than `most`."""
    n_slates, n_others = int(of_slates.sum()), int((~of_slates).sum())
    if n_slates == 0 or n_others == 0 or most >= 1:
        return 1.0
    return min(1.0, most / (1 - most) * n_others / n_slates)


def _moments(features: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Mean and 1/std of each column over its known values; 0 and 1 for a column without any."""
    known = ~np.isnan(features)
    n = np.maximum(known.sum(axis=0), 1)
    mean = features.sum(axis=0, dtype=np.float64, where=known) / n
    apart = features - mean.astype(np.float32)
    apart *= apart  # in place: at 30,000 queries the matrix is over a gigabyte
    std = np.sqrt(apart.sum(axis=0, dtype=np.float64, where=known) / n)
    return mean.astype(np.float32), (1.0 / np.where(std < 1e-6, 1.0, std)).astype(np.float32)


def _train(
    networks: Networks,
    data: Batches,
    train: Int64Array,
    validation: Int64Array,
    config: RankerConfig,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Leaves the best epoch's weights in the networks; train and validation loss by epoch."""
    n_batches = max(1, -(-len(train) // config.batch_queries))
    optimiser, schedule = _optimiser(networks, config, config.epochs * n_batches)
    best_state, bad = networks.state_dict(), 0
    learned: list[float] = []
    held: list[float] = []
    for _ in progress.track(range(config.epochs), total=config.epochs, label="ranker"):
        networks.train()
        total = 0.0
        for queries in np.array_split(rng.permutation(train), n_batches):
            batch = data.of(queries)
            found, weight = losses(networks(batch), batch)
            loss = (found / weight).sum()  # of networks that share nothing but the positions
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item() / config.ensemble
        learned.append(total / n_batches)
        held.append(validation_loss(networks, data, validation, config.batch_queries))
        bad += 1
        if held[-1] == min(held):
            bad = 0
            best_state = {name: value.clone() for name, value in networks.state_dict().items()}
        if bad >= config.patience:
            break
    networks.load_state_dict(best_state)
    networks.eval()
    return tuple(learned), tuple(held)


def _optimiser(
    networks: Networks, config: RankerConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    rates = [config.learning_rate, PULL_RATE * config.learning_rate]
    groups = [
        {"params": list(networks.networks.parameters()), "lr": rates[0]},
        {"params": [networks.pull], "lr": rates[1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=rates, total_steps=max(steps, 11), pct_start=0.1
    )  # at 10 its warm-up has no length, by which torch divides
    return optimiser, schedule


def _exported(
    networks: Networks, actions: tuple[str, ...], mean: Float32Array, scale: Float32Array
) -> Ranker:
    """Layer by layer, the networks stacked; not yet calibrated."""
    linear = [
        [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        for network in networks.networks
    ]
    layers = list(zip(*linear, strict=True))
    return Ranker(
        actions=actions,
        mean=mean,
        scale=scale,
        weights=tuple(
            np.stack([one.weight.detach().numpy().T for one in layer]) for layer in layers
        ),
        biases=tuple(np.stack([one.bias.detach().numpy() for one in layer]) for layer in layers),
        calibration=np.array([np.ones(len(actions)), np.zeros(len(actions))], np.float32),
    )


@dataclass(frozen=True, slots=True)
class _Checked:
    """Held-out rows to calibrate on: logits (n, n_actions) with the pull of their position.

    Slates, once they hold enough of every action: what follows where something was shown is what
    a probability should say. Otherwise what followed past questions, shown or not.
    """

    logits: Float32Array
    taken: BoolArray
    stands_for: Float32Array
    on_slates: bool

    @classmethod
    def of(
        cls, ranker: Ranker, rows: RankingRows, queries: Int64Array, pulls: Float32Array
    ) -> "_Checked":
        taken = rows.labels > 0
        held = np.isin(rows.query_index, queries)
        shown = held & (rows.positions >= 0)
        enough = bool((taken[shown].sum(axis=0) >= ENOUGH_ACTIONS).all())
        on_slates = enough or not (held & ~shown).any()
        held = shown if on_slates else held & ~shown
        pull = np.where(
            rows.positions[held] >= 0, pulls[np.clip(rows.positions[held], 0, len(pulls) - 1)], 0
        )
        logits = ranker.logits(ranker.standardise(rows.features[held])) + pull[:, None]
        return cls(logits.astype(np.float32), taken[held], rows.stands_for[held], on_slates)

    def calibration(self) -> Float32Array:
        """(2, n_actions) slopes and intercepts."""
        columns = zip(self.logits.T.astype(np.float64), self.taken.T, strict=True)
        fitted = [platt(logits, taken, self.stands_for) for logits, taken in columns]
        return np.array(fitted, np.float32).T

    def reliability(self, ranker: Ranker) -> tuple[ActionReliability, ...]:
        chances = ranker.calibrate(self.logits)
        return tuple(
            reliability(action, chances[:, column], self.taken[:, column], self.stands_for)
            for column, action in enumerate(ranker.actions)
        )
