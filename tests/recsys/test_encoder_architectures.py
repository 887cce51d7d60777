"""Any Hugging Face encoder can be tuned, or it is said why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from recsys.progress import Silent
from recsys.training.encoder.base import BaseEncoder, PooledEncoder
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.cut import CutEncoder, cache_states
from recsys.training.encoder.fit import tune_encoder
from recsys.training.encoder.strategies import LowRank
from recsys.training.encoder.tokens import CachedTokens, all_vectors
from tests.recsys.encoder_fixtures import color_shoppers, shop_texts, tiny_encoder

BERT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "xlm-roberta": BERT,
    "mpnet": BERT,  # whose layers give tuples
    "deberta-v2": BERT,
    "distilbert": {
        "vocab_size": 64,
        "dim": 32,
        "n_layers": 3,
        "n_heads": 2,
        "hidden_dim": 64,
        "max_position_embeddings": 40,
    },
    "modernbert": BERT | {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
}
ROUNDING = 2e-3  # of a unit vector's component where bf16 is faster; in fp32 1e-6
TOKENS = CachedTokens(
    torch.randint(3, 60, (40,), generator=torch.Generator().manual_seed(0)),
    np.array([0, 8, 12, 20, 37, 40]),
    pad_id=0,
)


def random_model(name: str, config: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    made = AutoModel.from_config(AutoConfig.for_model(name, **config))  # type: ignore[no-untyped-call]
    assert isinstance(made, PreTrainedModel)
    return made


def network(name: str) -> PooledEncoder:
    return PooledEncoder(random_model(name, ARCHITECTURES[name]), "mean").eval()


def whole_vectors(encoder: PooledEncoder) -> Any:
    def encode(rows: Any) -> torch.Tensor:
        _, ids, mask = TOKENS.padded(rows)
        found: torch.Tensor = encoder(ids, mask)
        return found

    return all_vectors(TOKENS, encode, Silent(), "")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_top_layers_over_cached_states_give_the_vectors_of_the_whole(name: str) -> None:
    encoder = network(name)
    before = whole_vectors(encoder)
    cut = CutEncoder(encoder, tuned_layers=1)
    cache = cache_states(cut, TOKENS, 32, Silent())
    cached = all_vectors(TOKENS, lambda rows: cache.finished(cut, rows), Silent(), "")
    assert (cached * before).sum(axis=1).min() > 0.999
    np.testing.assert_array_equal(whole_vectors(encoder), before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_adapters_start_as_nothing_and_end_in_the_weights(name: str) -> None:
    encoder = network(name)
    names = {parameter for parameter, _ in encoder.named_parameters()}
    before = whole_vectors(encoder)
    strategy = LowRank(encoder, TOKENS, rank=2, seed=0, progress=Silent())
    np.testing.assert_allclose(strategy.vectors(), before, atol=ROUNDING)
    with torch.no_grad():
        for weight in strategy.parameters():
            weight.normal_(0, 0.1)
    adapted = strategy.vectors()
    assert np.abs(adapted - before).max() > 1e-3
    strategy.finish()
    assert {parameter for parameter, _ in encoder.named_parameters()} == names
    np.testing.assert_allclose(whole_vectors(encoder), adapted, atol=ROUNDING)


def test_layers_that_share_their_weights_are_left_alone_and_it_is_said(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "albert")
    shared = BERT | {"vocab_size": 24, "embedding_size": 32, "pad_token_id": 0}
    random_model("albert", shared).save_pretrained(folder)
    config = EncoderConfig(base=str(folder), tuned_layers=1, min_sequences=50)
    _, report = tune_encoder(shop_texts(), color_shoppers(300), config, Silent())
    assert report.shipped == "base"
    assert "no list of transformer layers to cut; the strategies lora and full" in report.reason


def test_items_are_learned_from_behind_the_prefix_they_are_embedded_with(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "base")
    texts = ["shirt", "hat"]
    prefixed = BaseEncoder.load(folder, max_tokens=16, passage_prefix="red ")
    plain = BaseEncoder.load(folder, max_tokens=16)
    device = torch.device("cpu")
    learned = CachedTokens.of(prefixed, texts, device)
    written = CachedTokens.of(plain, [f"red {text}" for text in texts], device)
    assert learned.input_ids.tolist() == written.input_ids.tolist()
    assert learned.offsets.tolist() == [0, 4, 8]
