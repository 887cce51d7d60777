"""Embeds a whole catalogue at night, and only what changed since the last one."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from features.arrays import Float32Array
from recsys.progress import Progress
from recsys.retrieval.encoder import EncoderCard, token_batches
from recsys.training.encoder.base import BaseEncoder, compute_device
from recsys.training.encoder.export import TORCH_FOLDER
from recsys.training.encoder.tuning import precision

BATCH_SIZE = 64
DIGEST_BYTES = 16  # of sha256: two different texts will not meet


def encode_catalogue(
    folder: Path, texts: Sequence[str], progress: Progress, *, cache: Path | None = None
) -> Float32Array:
    """(n, dim) unit vectors, not whitened, in the order of the texts.

    `folder` is what `fit_encoder` wrote. Vectors in `cache` are used again where text and encoder
    are unchanged; the file is then replaced by one that holds exactly these texts.
    """
    card = EncoderCard.load(folder)
    digests, first, row_of = _distinct(texts)
    known = _read_cache(cache, card.digest, progress)
    vectors = np.zeros((len(first), card.dim), np.float32)
    missing = []
    for row, digest in enumerate(digests):
        if digest in known:
            vectors[row] = known[digest]
        else:
            missing.append(row)
    if missing:
        vectors[missing] = _encode(folder, [texts[first[row]] for row in missing], progress)
    if cache is not None and (missing or len(known) != len(digests)):
        _write_cache(cache, card.digest, digests, vectors)
    return vectors[row_of]


def _distinct(texts: Sequence[str]) -> tuple[list[bytes], list[int], NDArray[np.int64]]:
    """Digests of the distinct texts, where each first occurs, and which one every text is."""
    rows: dict[bytes, int] = {}
    first: list[int] = []
    row_of = np.empty(len(texts), np.int64)
    for position, text in enumerate(texts):
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()[:DIGEST_BYTES]
        if digest not in rows:
            rows[digest] = len(first)
            first.append(position)
        row_of[position] = rows[digest]
    return list(rows), first, row_of


@torch.no_grad()
def _encode(folder: Path, texts: Sequence[str], progress: Progress) -> Float32Array:
    """At night precision: bf16 on processors where that is nearly twice as fast."""
    base = BaseEncoder.load(folder / TORCH_FOLDER, max_tokens=EncoderCard.load(folder).max_tokens)
    device = compute_device()
    network = base.network.to(device)
    vectors = np.zeros((len(texts), base.dim), np.float32)
    batches = token_batches(base.tokenizer, texts, pad_id=base.pad_id, batch_size=BATCH_SIZE)
    total = math.ceil(len(texts) / BATCH_SIZE)
    for batch in progress.track(batches, total=total, label="encoder: catalogue"):
        input_ids = torch.from_numpy(batch.input_ids).to(device)
        mask = torch.from_numpy(batch.attention_mask).to(device)
        with precision(device):
            vectors[batch.rows] = network(input_ids, mask).cpu().numpy()
    return vectors


def _read_cache(path: Path | None, encoder: str, progress: Progress) -> dict[bytes, Float32Array]:
    """Empty where there is no usable cache: a cache may always be lost."""
    if path is None or not path.exists():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("encoder") != encoder:
                return {}
            digests, vectors = file.get_tensor("digests"), file.get_tensor("vectors")
    except (OSError, SafetensorError) as error:
        progress.say(f"{path}: unreadable ({error}); every text is embedded again")
        return {}
    return {digest.tobytes(): vector for digest, vector in zip(digests, vectors, strict=True)}


def _write_cache(path: Path, encoder: str, digests: Sequence[bytes], vectors: Float32Array) -> None:
    packed = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file({"digests": packed, "vectors": vectors}, unfinished, metadata={"encoder": encoder})
    os.replace(unfinished, path)
