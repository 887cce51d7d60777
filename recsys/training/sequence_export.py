"""From the trained sequence network to what the day loads, checked against the network."""

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from features.errors import ReleaseError
from recsys.retrieval.sequence import (
    ADAPTOR_FILE,
    ITEMS_FILE,
    MODEL_FILE,
    SequenceCard,
    SequenceModel,
    compacted,
)
from recsys.training.sequence_network import SequenceNetwork

STATE_FILE = "state.safetensors"
MAX_DIFFERENCE = 1e-4  # of a user vector's component, between torch and ONNX
PROBES = 16


def export_sequence(network: SequenceNetwork, out: Path) -> float:
    """Writes the serving folder and the state a warm start needs; returns how far they differ.

    Raises ReleaseError where ONNX Runtime does not reproduce the network.
    """
    network.eval()
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        items = network.item_vectors().numpy()
    np.save(out / ITEMS_FILE, items, allow_pickle=False)
    adaptor = np.ascontiguousarray(network.adaptor.weight.detach().numpy().T)
    np.save(out / ADAPTOR_FILE, adaptor, allow_pickle=False)
    save_file(network.state_dict(), out / STATE_FILE)
    _write_onnx(network, out / MODEL_FILE)
    max_length = network.positions.num_embeddings
    SequenceCard(dim=items.shape[1], max_length=max_length).save(out)
    difference = _difference(network, SequenceModel.load(out)) if len(items) else 0.0
    if not difference <= MAX_DIFFERENCE:  # NaN fails too
        raise ReleaseError(
            f"{out / MODEL_FILE}: expected vectors within {MAX_DIFFERENCE} of the network's, "
            f"found a difference of {difference:.2g}. Lower the learning rate and train again."
        )
    return difference


def _write_onnx(network: SequenceNetwork, path: Path) -> None:
    """Batch and length are free; the item vectors stay outside, because they grow."""
    dim = network.items.embedding_dim
    example = (torch.zeros(2, 3, dim), torch.tensor([3, 2]))
    with warnings.catch_warnings():  # that it will go; the newer exporter takes 8 s, this one 1 s
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            example,
            str(path),
            input_names=["vectors", "lengths"],
            output_names=["users"],
            dynamic_axes={
                "vectors": {0: "batch", 1: "length"},
                "lengths": {0: "batch"},
                "users": {0: "batch"},
            },
            dynamo=False,
        )


def _difference(network: SequenceNetwork, model: SequenceModel) -> float:
    """Over random histories of every size, one of them a single item."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(model.index), size=(PROBES, model.max_length + 3)).astype(np.int32)
    lengths = np.linspace(1, rows.shape[1], PROBES).astype(int)
    rows[np.arange(rows.shape[1]) < rows.shape[1] - lengths[:, None]] = -1
    served = model.user_vectors(rows)
    compact, kept = compacted(rows, model.max_length)
    with torch.no_grad():
        vectors = torch.from_numpy(model.index.vectors[compact])
        expected = network(vectors, torch.from_numpy(kept)).numpy()
    return float(np.abs(served - expected).max())
