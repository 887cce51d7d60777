"""The shopper's next item on the request path: a sequence model without its training library."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from features.errors import DataError, ReleaseError
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.onnx import open_session

MODEL_FILE, CARD_FILE = "model.onnx", "sequence.json"
ITEMS_FILE, ADAPTOR_FILE = "items.npy", "adaptor.npy"
BATCH_SIZE = 512  # histories of similar length at once: (512, 50, 64) floats are 6.5 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceCard:
    """What a saved sequence model says about itself."""

    dim: int
    max_length: int  # items of a history it looks at, the latest ones

    def save(self, folder: Path) -> None:
        (folder / CARD_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "SequenceCard":
        return cls(**json.loads((folder / CARD_FILE).read_text("utf-8")))


class SequenceModel:
    """Turns histories into vectors whose dot product with an item's vector is its score.

    The graph takes item vectors, not item rows, so an item that arrived after the training counts
    in a history as soon as it is in `index`.
    """

    def __init__(
        self,
        card: SequenceCard,
        session: ort.InferenceSession,
        index: VectorIndex,
        adaptor: Float32Array,
    ) -> None:
        self.dim = card.dim
        self.max_length = card.max_length
        self.index = index
        self._session = session
        self._adaptor = adaptor  # (text width, dim)

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> "SequenceModel":
        """Raises ReleaseError where a file is missing, damaged or does not fit the others."""
        try:
            card = SequenceCard.load(folder)
            adaptor = np.load(folder / ADAPTOR_FILE, allow_pickle=False)
        except (OSError, ValueError, TypeError) as error:
            raise ReleaseError(
                f"{folder}: expected a sequence model, found {error!r}. "
                "Run the night again or activate an older release."
            ) from error
        session = open_session(folder / MODEL_FILE, threads=threads)
        index = VectorIndex.load(folder / ITEMS_FILE)
        if not index.dim == card.dim == adaptor.shape[-1]:
            raise ReleaseError(
                f"{folder}: expected item vectors and adaptor of width {card.dim}, found "
                f"{index.dim} and {adaptor.shape}. Run the night again."
            )
        return cls(card, session, index, adaptor)

    def user_vectors(self, history_rows: Int32Array) -> Float32Array:
        """(b, length) item rows, the latest last, -1 for nothing → (b, dim).

        A shopper without any item gets zeros: there is nothing to say about the next one.
        Consecutive repeats count once, as in training.
        """
        rows, lengths = compacted(history_rows, self.max_length)
        users = np.zeros((len(rows), self.dim), np.float32)
        for batch in _similar_lengths(lengths):
            longest = int(lengths[batch[-1]])
            inputs = {
                "vectors": self.index.vectors[rows[batch, :longest]],
                "lengths": lengths[batch],
            }
            users[batch] = self._session.run(None, inputs)[0]
        return users

    def item_vectors_from_text(self, text_vectors: Float32Array) -> Float32Array:
        """(m, text width) → (m, dim): what text alone says of items without any event yet."""
        if text_vectors.ndim != 2 or text_vectors.shape[1] != len(self._adaptor):
            raise DataError(
                f"expected text vectors of width {len(self._adaptor)}, found shape "
                f"{text_vectors.shape}. Use the whitening of the same release."
            )
        return np.asarray(text_vectors @ self._adaptor, np.float32)


def compacted(history_rows: Int32Array, max_length: int) -> tuple[Int32Array, Int64Array]:
    """Left-padded histories → their last `max_length` items, padded on the right with row 0.

    Returns rows (b, longest) and lengths (b,). A repeat right after itself is dropped.
    """
    keep = _first_of_repeats(history_rows)
    from_end = keep[:, ::-1].cumsum(axis=1)[:, ::-1]
    keep &= from_end <= max_length
    lengths = keep.sum(axis=1)
    rows = np.zeros((len(history_rows), int(lengths.max(initial=0))), np.int32)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = history_rows[keep]
    return rows, lengths.astype(np.int64)


def _first_of_repeats(history_rows: Int32Array) -> BoolArray:
    """Items that differ from the item before them, whatever gaps lie between the two."""
    is_item = history_rows >= 0
    column = np.arange(history_rows.shape[1])
    latest = np.maximum.accumulate(np.where(is_item, column, -1), axis=1)
    before = np.full_like(latest, -1)
    before[:, 1:] = latest[:, :-1]
    previous = np.take_along_axis(history_rows, np.maximum(before, 0), axis=1)
    return np.asarray(is_item & ((before < 0) | (previous != history_rows)), np.bool_)


def _similar_lengths(lengths: Int64Array) -> Iterator[Int64Array]:
    """Batches of histories that have items, shortest first."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    for start in range(0, len(order), BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]
