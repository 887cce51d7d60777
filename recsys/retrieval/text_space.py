"""What a shop's texts become: vectors that words find items by, and vectors that taste lives in.

Words and taste want different maps of the same encoder's vectors. Whitened ones keep what the
encoder knows of language, so a search survives a typo; the item map has learned from shoppers
which differences matter between items, and would lose rare words by it. Where no item map was
worth shipping, taste lives among the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array
from recsys.retrieval.encoder import OnnxEncoder
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.whitening import Whitening

WORDS_MAP, WORDS = "whitening.safetensors", "vectors.npy"
TASTE_MAP, TASTE = "item_map.safetensors", "taste_vectors.npy"


@dataclass(frozen=True, slots=True)
class TextVectors:
    """The same items in both spaces; unit rows, in the order of the texts."""

    words: Float32Array  # (n, d_words)
    taste: Float32Array  # (n, d_taste)


@dataclass(frozen=True, slots=True)
class TextMaps:
    """From an encoder's vectors to both spaces."""

    words: Whitening
    taste: Whitening | None  # None: taste lives among the words

    def __call__(self, raw: Float32Array) -> TextVectors:
        words = self.words(raw)
        return TextVectors(words, words if self.taste is None else self.taste(raw))

    def save(self, folder: Path) -> None:
        self.words.save(folder / WORDS_MAP)
        if self.taste is not None:
            self.taste.save(folder / TASTE_MAP)

    @classmethod
    def load(cls, folder: Path) -> "TextMaps":
        learned = folder / TASTE_MAP
        taste = Whitening.load(learned) if learned.exists() else None
        return cls(Whitening.load(folder / WORDS_MAP), taste)


def save_text_vectors(vectors: TextVectors, folder: Path) -> None:
    """Each matrix once: there is no second file where both spaces are the same."""
    np.save(folder / WORDS, vectors.words, allow_pickle=False)
    if vectors.taste is not vectors.words:
        np.save(folder / TASTE, vectors.taste, allow_pickle=False)


def load_taste_vectors(folder: Path) -> Float32Array:
    """(n, d_taste) rows of the night's catalogue."""
    learned = folder / TASTE
    vectors: Float32Array = np.load(learned if learned.exists() else folder / WORDS)
    return vectors


class TextSpace:
    """A release's encoder, maps and indexes; rows are the catalogue's item rows."""

    def __init__(
        self, encoder: OnnxEncoder, maps: TextMaps, words: VectorIndex, taste: VectorIndex
    ) -> None:
        self.encoder = encoder
        self.maps = maps
        self.words = words
        self.taste = taste

    @classmethod
    def load(cls, release: Path, *, threads: int) -> "TextSpace":
        """Raises ReleaseError where a file is missing or damaged."""
        folder = release / "text"
        maps = TextMaps.load(folder)
        words = VectorIndex.load(folder / WORDS)
        taste = words if maps.taste is None else VectorIndex.load(folder / TASTE)
        return cls(OnnxEncoder.load(release / "encoder", threads=threads), maps, words, taste)

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """(n, d_words) what shoppers type, among the words."""
        return self.maps.words(self.encoder.encode_queries(texts))

    def embed_items(self, texts: Sequence[str]) -> TextVectors:
        return self.maps(self.encoder.encode(texts))

    def put(self, rows: Int32Array, is_new: BoolArray, vectors: TextVectors) -> None:
        """Replace the items that have a row; append the new ones, whose rows follow the last."""
        put_rows(self.words, vectors.words, rows, is_new)
        if self.taste is not self.words:
            put_rows(self.taste, vectors.taste, rows, is_new)


def put_rows(
    index: VectorIndex, vectors: Float32Array, rows: Int32Array, is_new: BoolArray
) -> None:
    index.append(vectors[is_new][np.argsort(rows[is_new])])
    for i in np.flatnonzero(~is_new):
        index.replace(int(rows[i]), vectors[i])
