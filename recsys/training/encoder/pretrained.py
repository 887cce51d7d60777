"""What a Hugging Face folder says about its encoder, and whether it is one at all."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils.hub import cached_file

from features.errors import ConfigError
from recsys.retrieval.encoder import TOKENIZER_FILE, load_tokenizer

Pooling = Literal["mean", "cls"]
MODULES_FILE, POOLING_FOLDER = "modules.json", "1_Pooling"
PROMPTS_FILE = "config_sentence_transformers.json"
PASSAGE_PROMPTS = ("document", "passage", "corpus")  # the order sentence-transformers looks in
HARMLESS_MODULES = {"Transformer", "Pooling", "Normalize", "Dropout"}
SAME_DIRECTION = {"mean_sqrt_len_tokens": "mean", "mean_tokens": "mean", "cls_token": "cls"}


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the model wants before what shoppers type, and before what items say."""

    query: str = ""
    passage: str = ""


def load_model(location: str) -> PreTrainedModel:
    """Raises ConfigError for a model that is no encoder, ValueError or OSError for no model."""
    config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"Base encoder {location!r}: found an encoder-decoder ({config.model_type}), whose"
            " vectors are made for its decoder. Expected an encoder, such as BERT or XLM-RoBERTa."
        )
    rows = getattr(config, "vocab_size", None)
    check_padding(location, getattr(config, "pad_token_id", None), rows)
    # safetensors only: other weight files are pickles
    model: PreTrainedModel
    model, said = AutoModel.from_pretrained(
        location,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    missing = sorted(name for name in said["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ConfigError(
            f"Base encoder {location!r}: its weights lack {len(missing)} of the network's tensors,"
            f" the first {missing[0]!r}; expected all but the pooler. Download the model again."
        )
    check_is_encoder(location, model)
    return model


@torch.no_grad()
def check_is_encoder(location: str, model: PreTrainedModel) -> None:
    """The first token of an encoder sees the last one; a decoder's does not."""
    token = first_ordinary_id(model)
    ids = torch.tensor([[token, token, token, token], [token, token, token, token + 1]])
    try:
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        first = output.last_hidden_state[:, 0]
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"Base encoder {location!r}: found a model ({model.config.model_type}) that does not"
            f" turn token ids into states ({error!r}). Expected a text encoder."
        ) from error
    if not torch.isfinite(first).all():
        raise ConfigError(
            f"Base encoder {location!r}: its states are not finite; expected trained weights."
            " Download the model again."
        )
    if torch.allclose(first[0], first[1], rtol=0, atol=1e-5):  # MiniLM's differ by 0.34
        raise ConfigError(
            f"Base encoder {location!r}: found a decoder ({model.config.model_type}), whose tokens"
            " see only those before them, so that a text's first words know nothing of the rest."
            " Expected an encoder, such as BERT or XLM-RoBERTa."
        )


def check_padding(location: str, pad_id: int | None, rows: int | None) -> None:
    if pad_id is None or rows is None or 0 <= pad_id < rows:
        return
    raise ConfigError(
        f"Base encoder {location!r}: found the padding id {pad_id}, expected 0 to {rows - 1}."
        " Correct `pad_token_id` in its config.json."
    )


def first_ordinary_id(model: PreTrainedModel) -> int:
    """A token id that means no padding, and whose successor does not either."""
    pad = getattr(model.config, "pad_token_id", None)
    return 0 if pad is None or pad > 1 else pad + 1


def readable_tokens(model: PreTrainedModel, at_most: int) -> int:
    """How many tokens the model has positions for; RoBERTa's begin after the padding id."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return at_most
    offsets = [
        module.padding_idx + 1
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and name.endswith("position_embeddings")
        and module.padding_idx is not None
    ]
    return min(at_most, positions - max(offsets, default=0))


def load_matching_tokenizer(location: str, model: PreTrainedModel) -> Tokenizer:
    """ConfigError where the tokenizer speaks of tokens that the model has no embedding of."""
    tokenizer = _tokenizer(location)
    table: Any = model.get_input_embeddings()
    rows = int(table.weight.shape[0])
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    largest = max(vocabulary.values(), default=-1)
    # Tables are padded by a few rows; a folder without a vocabulary gives five special tokens.
    if largest >= rows or 2 * len(vocabulary) < rows:
        raise ConfigError(
            f"Base encoder {location!r}: its tokenizer has {len(vocabulary)} tokens with ids up to"
            f" {largest}, expected about {rows} with ids up to {rows - 1}, as in the model's"
            " embedding table. Take model and tokenizer from the same place."
        )
    return tokenizer


def _tokenizer(location: str) -> Tokenizer:
    if (Path(location) / TOKENIZER_FILE).is_file():
        return load_tokenizer(Path(location) / TOKENIZER_FILE, max_tokens=512)
    wrapped: Any = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    backend = getattr(wrapped, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ValueError("a tokenizer without a fast version")
    return backend


def read_pooling(location: str) -> Pooling:
    """As sentence-transformers wrote it; a model without a word about it is pooled by its mean.

    A Dense layer after the pooling is refused rather than left out: the states before it are not
    what the model was trained to compare.
    """
    modules = read_json(location, MODULES_FILE, list) or []
    kinds = {str(module["type"]).rsplit(".", 1)[-1]: module for module in modules}
    others = sorted(set(kinds) - HARMLESS_MODULES)
    if others:
        raise ConfigError(
            f"Base encoder {location!r}: found the modules {others} in {MODULES_FILE}, expected"
            f" only {sorted(HARMLESS_MODULES)}. Choose a model whose vectors are the pooled states."
        )
    folder = kinds["Pooling"]["path"] if "Pooling" in kinds else POOLING_FOLDER
    config = read_json(location, f"{folder}/config.json", dict)
    if config is None:
        return "mean"
    pooling = {SAME_DIRECTION.get(mode, mode) for mode in _modes(config)} or {"mean"}
    for supported in get_args(Pooling):
        if pooling == {supported}:
            return supported  # type: ignore[no-any-return]
    raise ConfigError(
        f"Base encoder {location!r}: found the pooling {sorted(pooling)}, expected one of"
        f" {list(get_args(Pooling))}. Choose a model that is pooled in one of these ways."
    )


def _modes(config: dict[str, Any]) -> list[str]:
    """Older files have a flag for each mode, newer ones a name or a list of names."""
    if "pooling_mode" in config:
        named = config["pooling_mode"]
        return [named] if isinstance(named, str) else [str(mode) for mode in named]
    marker = "pooling_mode_"
    return [key.removeprefix(marker) for key, on in config.items() if key.startswith(marker) and on]


def read_prompts(location: str) -> Prompts:
    """A model without prompts has none: nothing is guessed from its name."""
    config = read_json(location, PROMPTS_FILE, dict) or {}
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name")) or ""
    passage = next((prompts[name] for name in PASSAGE_PROMPTS if name in prompts), default)
    return Prompts(str(prompts.get("query", default)), str(passage))


def read_json(location: str, name: str, kind: type) -> Any:  # noqa: ANN401  JSON
    """None where a folder or hub model has no such file; ValueError where it holds another kind."""
    path = cached_file(location, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    content = json.loads(Path(path).read_text("utf-8"))
    if not isinstance(content, kind):
        raise ValueError(f"{name} that is no {kind.__name__}")
    return content
