"""A two-layer encoder over a hand-made vocabulary: real code paths in milliseconds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from features.arrays import Float32Array, Int32Array, Int64Array
from recsys.training.encoder.config import EncoderConfig
from tests.recsys.encoder_sequences import shopper_ids

COLORS = ("red", "blue", "green", "black", "white", "pink", "gold", "grey", "lime", "navy")
THINGS = ("shirt", "shoe", "hat", "ring", "sock", "belt", "coat", "vest", "scarf", "glove")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class Sequences:
    indptr: Int64Array
    item_rows: Int32Array

    @property
    def user_ids(self) -> list[str]:
        return shopper_ids(len(self.indptr) - 1)

    @property
    def weights(self) -> Float32Array:
        return np.ones(len(self.item_rows), np.float32)

    @property
    def time_us(self) -> Int64Array:
        return np.arange(len(self.item_rows), dtype=np.int64)


def shop_texts() -> list[str]:
    """100 items: item_row 10 c + t has color c and thing t."""
    return [f"{color} {thing}" for color in COLORS for thing in THINGS]


def color_shoppers(n_users: int, length: int = 6, seed: int = 0) -> Sequences:
    """Each shopper buys things of one color only."""
    rng = np.random.default_rng(seed)
    rows = [10 * rng.integers(10) + rng.permutation(10)[:length] for _ in range(n_users)]
    indptr = np.arange(n_users + 1, dtype=np.int64) * length
    return Sequences(indptr, np.concatenate(rows).astype(np.int32))


def tiny_encoder(folder: Path, *, layers: int = 2, cls: bool = False) -> Path:
    """A random BERT of width 32 as sentence-transformers would save it."""
    words = [*SPECIAL, *COLORS, *THINGS]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        pad_token_id=0,
        initializer_range=0.3,  # a random network must still tell words apart
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    pooling = f'{{"pooling_mode_cls_token": {str(cls).lower()}}}'
    (folder / "1_Pooling" / "config.json").write_text(pooling)
    return folder


def config_for(base: Path) -> EncoderConfig:
    # A random network learns from nothing, so it needs larger and more steps than MiniLM.
    return EncoderConfig(
        base=str(base), tuned_layers=1, epochs=20, learning_rate=3e-3, min_sequences=50
    )
