"""Learns what shoppers take next from the order in which they took things."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from features.arrays import Float32Array, Float64Array, Int64Array
from features.errors import DataError, ReleaseError
from features.interactions import Interactions
from recsys.progress import Progress
from recsys.retrieval.sequence import ITEMS_FILE
from recsys.training.sequence_batches import (
    Batch,
    HeldOut,
    batches,
    hold_out,
    user_sequences,
    windows,
)
from recsys.training.sequence_export import STATE_FILE, export_sequence
from recsys.training.sequence_network import (
    SequenceNetwork,
    catalogue_loss,
    sampled_loss,
    sampled_rows,
)

MIN_STEPS = 50  # an epoch, with smaller batches where there is little to learn from


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceConfig:
    """How the sequence model is learned; part of the release's manifest."""

    dim: int = 64
    blocks: int = 2
    heads: int = 2
    max_length: int = 50
    max_windows: int = 20  # of max_length items each: a shopper with 100,000 events is one shopper
    dropout: float = 0.2  # Beauty, validation nDCG@10 after 10 epochs: .2 .078, .3 .077, .5 .068
    epochs: int = 10
    warm_epochs: int = 5
    kept_by_warm: float = 0.4  # of the old weights, the rest is drawn anew; see `_resume`
    max_targets: int = 20_000_000  # epochs × targets: keeps ten million events within the night
    positions: int = 1_536  # real positions in a batch
    learning_rate: float = 3e-3
    warm_up: float = 0.05  # share of the steps
    weight_decay: float = 0.01
    max_gradient: float = 5.0
    sampled_above: int = 30_000  # items; below, the loss is over all of them
    negatives: int = 4_096  # shared by a batch
    held_out_users: int = 500
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceReport:
    """What a training saw and took; one loss and one gain an epoch, see `held_out_gains`."""

    users: int
    items: int
    targets: int
    epochs: int
    losses: tuple[float, ...]
    held_out: tuple[float, ...]
    max_difference: float
    seconds: float


def fit_sequence(
    interactions: Interactions,
    text_vectors: Float32Array,
    config: SequenceConfig,
    out: Path,
    *,
    warm: Path | None,
    progress: Progress,
) -> SequenceReport:
    """Writes the folder SequenceModel.load reads, and the state a later training starts from.

    `text_vectors` (n_items, width) are unit rows in item_row order. `warm` is such a folder made
    for the first rows of the same catalogue; items added since start from their text alone.
    Without any sequence of two items the model is untrained and knows items by their text.
    """
    start = time.perf_counter()
    _check_text(interactions, text_vectors)
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    network = _network(text_vectors, config)
    if warm is not None:
        _resume(network, warm, config.kept_by_warm)
    sequences, held = hold_out(user_sequences(interactions), config.held_out_users, rng)
    pieces = windows(sequences, config.max_length, config.max_windows)
    epochs = config.epochs if warm is None else config.warm_epochs
    curve = _train(network, pieces, held, config, epochs, rng, progress)
    difference = export_sequence(network, out)
    return SequenceReport(
        users=len(sequences),
        items=len(text_vectors),
        targets=_n_targets(pieces),
        epochs=len(curve),
        losses=tuple(loss for loss, _ in curve),
        held_out=tuple(gain for _, gain in curve),
        max_difference=difference,
        seconds=time.perf_counter() - start,
    )


def _check_text(interactions: Interactions, text_vectors: Float32Array) -> None:
    n_known = int(interactions.item_rows.max(initial=-1)) + 1
    if text_vectors.ndim != 2 or len(text_vectors) < n_known:
        raise DataError(
            f"expected a text vector for each of {n_known} items or more, found an array of shape "
            f"{text_vectors.shape}. Embed the catalogue that the interactions were built with."
        )
    if not np.isfinite(text_vectors).all():
        raise DataError("found NaN or inf in the text vectors. Embed the catalogue again.")


def _network(text_vectors: Float32Array, config: SequenceConfig) -> SequenceNetwork:
    return SequenceNetwork(
        torch.from_numpy(np.ascontiguousarray(text_vectors, np.float32)),
        dim=config.dim,
        blocks=config.blocks,
        heads=config.heads,
        max_length=config.max_length,
        dropout=config.dropout,
    )


def _resume(network: SequenceNetwork, folder: Path, kept: float) -> None:
    """Mixes an older state into the fresh one, `kept` of it (Ash & Adams 2020).

    Weights that are only trained on generalise worse than new ones. Beauty, one item a shopper
    later, validation nDCG@10: kept whole, 6 epochs .074; .4 kept, 5 epochs .077; 10 from the
    beginning .077.
    """
    fresh = network.state_dict()
    try:
        state = load_file(folder / STATE_FILE)
        old_text_part = torch.from_numpy(np.load(folder / ITEMS_FILE)) - state["items.weight"]
        n_old = len(state["items.weight"])
        items = torch.zeros_like(network.items.weight)
        items[:n_old] = state["items.weight"]
        state["items.weight"] = items
        state["adaptor.weight"] = _adaptor(network, old_text_part, state["adaptor.weight"])
        network.load_state_dict({name: fresh[name].lerp(old, kept) for name, old in state.items()})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ReleaseError(
            f"{folder}: expected the state of a sequence model of the same configuration, for the "
            f"first rows of this catalogue, found {error!r}. Train without a warm start."
        ) from error


def _adaptor(network: SequenceNetwork, old_text_part: Tensor, old: Tensor) -> Tensor:
    """The old adaptor or, where the text vectors have changed, the map that explains it best."""
    text = network.text_vectors[: len(old_text_part)]
    if text.shape[1] == old.shape[1] and torch.allclose(text @ old.T, old_text_part, atol=1e-3):
        return old
    solution: Tensor = torch.linalg.lstsq(text, old_text_part, driver="gelsd").solution
    return solution.T.contiguous()


def _n_targets(pieces: Sequence[Int64Array]) -> int:
    return sum(len(piece) - 1 for piece in pieces)


def _train(
    network: SequenceNetwork,
    pieces: Sequence[Int64Array],
    held: HeldOut,
    config: SequenceConfig,
    epochs: int,
    rng: np.random.Generator,
    progress: Progress,
) -> list[tuple[float, float]]:
    """Training loss and held-out gain of each epoch.

    The last epoch's weights stay, unless an earlier epoch answered the held-out users better by
    more than a standard error. A rule that stops on a mean over all ranks must not decide: on
    Beauty log2 of the rank was best after 6 of 10 epochs, R@10 .115, at the end .130.
    """
    n_targets = _n_targets(pieces)
    if n_targets == 0:
        return []
    epochs = max(1, min(epochs, config.max_targets // n_targets))
    positions = min(config.positions, max(n_targets // MIN_STEPS, 32))
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),  # as in SASRec: rare items see few gradients
        weight_decay=config.weight_decay,
    )
    curve: list[tuple[float, float]] = []
    best, best_gains, gains, seen = network.state_dict(), np.empty(0), np.empty(0), 0
    for _ in progress.track(range(epochs), total=epochs, label="sequence model"):
        network.train()
        total = 0.0
        for batch in batches(pieces, positions, rng):
            seen += len(batch.targets)
            _set_rate(optimizer, config, seen / (epochs * n_targets))
            total += _step(network, batch, config, optimizer) * len(batch.targets)
        gains = held_out_gains(network, held)
        curve.append((total / n_targets, float(gains.mean()) if len(gains) else math.nan))
        if len(gains) and gains.sum() > best_gains.sum():
            best, best_gains = copy.deepcopy(network.state_dict()), gains
    if len(gains) and beyond_chance(best_gains, gains):
        network.load_state_dict(best)
    return curve


def beyond_chance(a: Float64Array, b: Float64Array) -> bool:
    """Whether the same users (n,) gain more from `a` by more than a standard error."""
    gain = a - b
    return bool(gain.mean() > gain.std() / math.sqrt(len(gain)))


def _set_rate(optimizer: torch.optim.Optimizer, config: SequenceConfig, done: float) -> None:
    """Linear warm-up, then half a cosine down to zero; `done` is the share of all targets."""
    share = min(done / config.warm_up, 1.0) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * share


def _step(
    network: SequenceNetwork,
    batch: Batch,
    config: SequenceConfig,
    optimizer: torch.optim.Optimizer,
) -> float:
    loss = _loss(network, batch, config)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient)
    optimizer.step()
    return loss.item()


def _loss(network: SequenceNetwork, batch: Batch, config: SequenceConfig) -> Tensor:
    """Only real positions get logits."""
    inputs, lengths = torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths)
    is_real, targets = torch.from_numpy(batch.is_real), torch.from_numpy(batch.targets)
    n_items = network.items.num_embeddings
    if n_items <= config.sampled_above:
        items = network.item_vectors()
        return catalogue_loss(network.states(items[inputs], lengths)[is_real], items, targets)
    users = network.states(network.item_vectors(inputs), lengths)[is_real]
    rows, places = sampled_rows(targets, n_items, config.negatives)
    return sampled_loss(users, network.item_vectors(rows), places, n_items)


@torch.no_grad()
def held_out_gains(network: SequenceNetwork, held: HeldOut) -> Float64Array:
    """(n,) 1 / log2(1 + rank) of what came next, ranks from 1: nDCG without a cut-off."""
    network.eval()
    items = network.item_vectors()
    ranks = [torch.empty(0, dtype=torch.int64)]
    for start in range(0, len(held.targets), 128):  # 128 × 1M items are 0.5 GB
        part = slice(start, start + 128)
        users = last_states(network, items, held.histories[part])
        scores = users @ items.T
        target = scores.gather(1, torch.from_numpy(held.targets[part])[:, None])
        ranks.append((scores >= target).sum(dim=1))
    return np.asarray(1 / np.log2(1 + torch.cat(ranks).double().numpy()), np.float64)


def last_states(network: SequenceNetwork, items: Tensor, histories: Sequence[Int64Array]) -> Tensor:
    """(b, dim): the shopper after each history, which has an item at least."""
    recent = [history[-network.positions.num_embeddings :] for history in histories]
    vectors = nn.utils.rnn.pad_sequence(
        [items[torch.from_numpy(history)] for history in recent], batch_first=True
    )
    lengths = torch.tensor([len(history) for history in recent])
    return network.forward(vectors, lengths)
