"""Texts tokenised once, and taken from there in chunks of similar length."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.arrays import Float32Array, Int64Array
from recsys.progress import Progress
from recsys.retrieval.encoder import token_batches
from recsys.training.encoder.base import BaseEncoder

CHUNK = 64  # texts a forward pass, sorted by length: little padding and a warm cache
CUDA_CHUNK = 1_024  # a small encoder leaves a GPU idle below
AT_ONCE = 4_096  # texts whose vectors are asked for together; between them progress is shown


@dataclass(frozen=True, slots=True)
class CachedTokens:
    """Every text's ids, end to end; text i owns tokens `offsets[i]:offsets[i + 1]`."""

    input_ids: Tensor  # (n_tokens,)
    offsets: Int64Array  # (n_texts + 1,)
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, base: BaseEncoder, texts: Sequence[str], device: torch.device) -> "CachedTokens":
        """The texts are passages."""
        ids: list[Int64Array] = [np.empty(0, np.int64)] * len(texts)
        batches = token_batches(
            base.tokenizer,
            texts,
            pad_id=base.pad_id,
            batch_size=CHUNK,
            prefix=base.passage_prefix,
        )
        for batch in batches:
            lengths = batch.attention_mask.sum(axis=1)
            for row, tokens, length in zip(batch.rows, batch.input_ids, lengths, strict=True):
                ids[row] = tokens[:length]
        offsets = np.concatenate([[0], np.cumsum([len(tokens) for tokens in ids])])
        flat = np.concatenate([*ids, np.empty(0, np.int64)])
        return cls(torch.from_numpy(flat).to(device), offsets.astype(np.int64), base.pad_id)

    def padded(self, rows: Int64Array) -> tuple[Tensor, Tensor, Tensor]:
        """Where each token lies, its id, and the mask: (b, length) each, for these texts."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        steps = np.arange(lengths.max())
        mask = steps[None, :] < lengths[:, None]
        device = self.input_ids.device
        places = torch.from_numpy(np.where(mask, self.offsets[rows][:, None] + steps, 0)).to(device)
        kept = torch.from_numpy(mask).to(device)
        ids = torch.where(kept, self.input_ids[places], self.pad_id)
        return places, ids, kept.long()

    def chunks(self, rows: Int64Array) -> list[Int64Array]:
        """Positions in `rows`, longest texts first."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        order = np.argsort(-lengths, kind="stable")
        size = CUDA_CHUNK if self.input_ids.device.type == "cuda" else CHUNK
        return [order[start : start + size] for start in range(0, len(order), size)]


Encode = Callable[[Int64Array], Tensor]


def encode_in_chunks(tokens: CachedTokens, rows: Int64Array, encode: Encode) -> Tensor:
    """(len(rows), dim) what `encode` makes of each chunk, in the order of `rows`."""
    chunks = tokens.chunks(rows)
    vectors = torch.cat([encode(rows[chunk]) for chunk in chunks])
    return vectors[torch.from_numpy(np.argsort(np.concatenate(chunks)))]


@torch.no_grad()
def all_vectors(
    tokens: CachedTokens, encode: Encode, progress: Progress, label: str
) -> Float32Array:
    """(n_texts, dim) float32, without gradient."""
    parts = np.array_split(np.arange(len(tokens)), max(1, math.ceil(len(tokens) / AT_ONCE)))
    tracked = progress.track(parts, total=len(parts), label=label)
    done = [encode_in_chunks(tokens, part, encode).float().cpu().numpy() for part in tracked]
    return np.concatenate(done)
