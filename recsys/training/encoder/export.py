"""From torch to what the day loads: one ONNX file, checked against the network it came from."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from features.errors import ReleaseError
from recsys.retrieval.encoder import (
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderCard,
    OnnxEncoder,
    TokenBatch,
    token_batches,
)
from recsys.training.encoder.base import BaseEncoder

TORCH_FOLDER = "torch"
MAX_DIFFERENCE = 1e-4  # of a unit vector's component; exports measured 3e-7
PROBES = ("", "a", "red lipstick", "长袖 T 恤 👕", "قميص أزرق", "word " * 600)


def export_encoder(
    base: BaseEncoder, out: Path, probes: Sequence[str]
) -> tuple[EncoderCard, float]:
    """Writes the serving folder and its torch twin; returns how far they differ at most.

    Raises ReleaseError where ONNX Runtime does not reproduce the network on the probes.
    """
    network = base.network.cpu().eval()
    card = base.save(out / TORCH_FOLDER)
    base.tokenizer.save(str(out / TOKENIZER_FILE))
    _write_onnx(network, out / MODEL_FILE)
    card.save(out)
    difference = _difference(base, out, [*PROBES, *probes])
    if not difference <= MAX_DIFFERENCE:  # NaN fails too
        raise ReleaseError(
            f"{out / MODEL_FILE}: expected vectors within {MAX_DIFFERENCE} of the network's,"
            f" found a difference of {difference:.2g}. Choose another base encoder."
        )
    return card, difference


def _write_onnx(network: nn.Module, path: Path) -> None:
    """Pooling and normalisation are inside the graph; batch and length are free."""
    ids = torch.ones((2, 8), dtype=torch.long)
    mask = (torch.arange(8) < torch.tensor([[8], [5]])).long()  # an all-ones mask would be dropped
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it reports packages that an encoder has no use for
    try:
        with warnings.catch_warnings():  # deprecations inside torch's own exporter
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (ids, mask),
                str(path),
                input_names=["input_ids", "attention_mask"],
                output_names=["vectors"],
                dynamic_shapes=(free, free),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _difference(base: BaseEncoder, out: Path, texts: Sequence[str]) -> float:
    served = OnnxEncoder.load(out).encode(texts)
    expected = np.zeros_like(served)
    for batch in token_batches(
        base.tokenizer, texts, pad_id=base.pad_id, batch_size=16, prefix=base.passage_prefix
    ):
        expected[batch.rows] = _exact(base.network, batch)
    return float(np.abs(served - expected).max())


@torch.no_grad()
def _exact(
    network: nn.Module, batch: TokenBatch
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vectors = network(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
    return np.asarray(vectors.numpy(), dtype=np.float32)
