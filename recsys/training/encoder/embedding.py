"""Embeds a whole catalogue at night, and only what changed since the last one."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from features.arrays import BoolArray, Float32Array, Int64Array
from recsys.progress import Progress
from recsys.retrieval.encoder import BATCH_SIZE, EncoderCard, OnnxEncoder, token_batches
from recsys.training.encoder.base import (
    BaseEncoder,
    compute_device,
    precision,
)
from recsys.training.encoder.export import TORCH_FOLDER
from recsys.training.encoder.tokens import CUDA_CHUNK

Digests: TypeAlias = NDArray[np.bytes_]

DIGEST_BYTES = 16  # of sha256: two different texts will not meet
KEEP_EVERY = 50_000  # texts, six minutes of one core: what a killed night embeds again at most
READ_AT_ONCE = 4_096  # cached vectors; 6 MB of MiniLM's


def encode_catalogue(
    folder: Path,
    texts: Sequence[str],
    progress: Progress,
    *,
    cache: Path | None = None,
    keep_every: int = KEEP_EVERY,
) -> Float32Array:
    """(n, dim) unit vectors, not whitened, in the order of the texts.

    `folder` is what `fit_encoder` wrote. Vectors in `cache` are used again where text and encoder
    are unchanged; the file is then replaced by one that holds exactly these texts, and on the way
    there by ones that hold what is known so far.
    """
    card = EncoderCard.load(folder)
    catalogue = _Catalogue.of(texts, card.dim)
    n_cached = _read_cache(cache, card.digest, catalogue, progress)
    missing = catalogue.missing()
    n_unkept = 0
    for rows, part in _encode(folder, [texts[row] for row in missing], progress):
        catalogue.put(missing[rows], part)
        n_unkept += len(rows)
        if cache is not None and n_unkept >= keep_every:
            _write_cache(cache, card.digest, catalogue)
            n_unkept = 0
    if cache is not None and (n_unkept or n_cached != len(catalogue.first)):
        _write_cache(cache, card.digest, catalogue)
    return catalogue.complete()


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """Vectors that are filled in bit by bit; of equal texts only the first is embedded."""

    digests: Digests  # (n,) equal where the texts are
    first: Int64Array  # (m,) rows of distinct texts; their digests ascend
    which: Int64Array  # (n,) `first[which[row]]` is where the text of a row occurs first
    vectors: Float32Array  # (n, dim)
    known: BoolArray  # (n,) filled in; only of `first`

    @classmethod
    def of(cls, texts: Sequence[str], dim: int) -> "_Catalogue":
        packed = b"".join(
            hashlib.sha256(text.encode("utf-8", "replace")).digest()[:DIGEST_BYTES]
            for text in texts
        )
        digests = np.frombuffer(packed, f"S{DIGEST_BYTES}", count=len(texts))
        _, first, which = np.unique(digests, return_index=True, return_inverse=True)
        n = len(texts)
        return cls(digests, first, which, np.zeros((n, dim), np.float32), np.zeros(n, np.bool_))

    def missing(self) -> Int64Array:
        return np.sort(self.first[~self.known[self.first]])

    def put(self, rows: Int64Array, vectors: Float32Array) -> None:
        self.vectors[rows] = vectors
        self.known[rows] = True

    def rows_of(self, digests: Digests) -> Int64Array:
        """Where a text of each digest occurs first; -1 where none does."""
        if len(self.first) == 0:
            return np.full(len(digests), -1)
        ours = self.digests[self.first]
        place = np.minimum(np.searchsorted(ours, digests), len(ours) - 1)
        return np.where(ours[place] == digests, self.first[place], -1)

    def complete(self) -> Float32Array:
        again = np.flatnonzero(~self.known)
        self.vectors[again] = self.vectors[self.first[self.which[again]]]
        return self.vectors


def _encode(
    folder: Path, texts: Sequence[str], progress: Progress
) -> Iterator[tuple[Int64Array, Float32Array]]:
    """With torch where its folder is kept, which is as fast as ONNX Runtime or faster.

    Items a core-second (Emerald Rapids, fp32, 64 tokens each): torch 74, ONNX Runtime 71, OpenVINO
    84; 8-bit ONNX 129, but at cosine .983. Beauty's texts: torch 157, ONNX Runtime 142.
    """
    if not texts:
        return
    device = compute_device()
    if (folder / TORCH_FOLDER).is_dir():
        size = CUDA_CHUNK if device.type == "cuda" else BATCH_SIZE
        batches = torch_vectors(folder, texts, device, size)
    else:
        size = BATCH_SIZE
        batches = onnx_vectors(folder, texts)
    total = math.ceil(len(texts) / size)
    yield from progress.track(batches, total=total, label="encoder: catalogue")


def onnx_vectors(folder: Path, texts: Sequence[str]) -> Iterator[tuple[Int64Array, Float32Array]]:
    """Rows and their vectors, batch by batch, as the day will compute them."""
    return OnnxEncoder.load(folder, threads=torch.get_num_threads()).batches(texts)


def torch_vectors(
    folder: Path, texts: Sequence[str], device: torch.device, batch_size: int
) -> Iterator[tuple[Int64Array, Float32Array]]:
    """The same at night precision: cosine .9999 to the day's where that is bf16."""
    card = EncoderCard.load(folder)
    base = BaseEncoder.load(folder / TORCH_FOLDER, max_tokens=card.max_tokens)
    base.tokenizer.enable_truncation(card.max_tokens)  # of prefix and text together
    network = base.network.to(device)
    for batch in token_batches(
        base.tokenizer, texts, pad_id=card.pad_id, batch_size=batch_size, prefix=card.passage_prefix
    ):
        input_ids = torch.from_numpy(batch.input_ids).to(device)
        mask = torch.from_numpy(batch.attention_mask).to(device)
        with torch.no_grad(), precision(device):
            vectors = network(input_ids, mask).cpu().numpy()
        yield batch.rows, vectors


def _read_cache(path: Path | None, encoder: str, catalogue: _Catalogue, progress: Progress) -> int:
    """How many vectors there are, wanted or not; a cache may always be lost."""
    if path is None or not path.exists():
        return 0
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("encoder") != encoder:
                return 0
            digests = file.get_tensor("digests").view(f"S{DIGEST_BYTES}")[:, 0]
            rows, vectors = catalogue.rows_of(digests), file.get_slice("vectors")
            for start in range(0, len(rows), READ_AT_ONCE):
                block = slice(start, min(start + READ_AT_ONCE, len(rows)))
                is_wanted = rows[block] >= 0
                catalogue.put(rows[block][is_wanted], vectors[block][is_wanted])
    except (OSError, SafetensorError) as error:
        progress.say(f"{path}: unreadable ({error}); every text is embedded again")
        return 0
    return len(rows)


def _write_cache(path: Path, encoder: str, catalogue: _Catalogue) -> None:
    known, vectors = catalogue.known, catalogue.vectors
    tensors: dict[str, NDArray[Any]] = {
        "digests": catalogue.digests[known].view(np.uint8).reshape(-1, DIGEST_BYTES),
        "vectors": vectors if known.all() else vectors[known],  # a copy where it must be
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished, metadata={"encoder": encoder})
    os.replace(unfinished, path)
