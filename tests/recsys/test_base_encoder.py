import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import (
    GPT2Config,
    GPT2Model,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from features.errors import ConfigError, DataError
from recsys.retrieval.encoder import (
    CARD_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderCard,
    OnnxEncoder,
    token_batches,
)
from recsys.training.encoder.base import BaseEncoder, check_files
from recsys.training.encoder.export import export_encoder
from tests.recsys.encoder_fixtures import COLORS, THINGS, tiny_encoder

PROMPTS = {"query": "red ", "passage": "blue hat "}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_encoder(tmp_path / "base")


def rewrite(path: Path, **facts: object) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**known, **facts}))


def say_prompts(base: Path, prompts: dict[str, str], default: str | None = None) -> None:
    facts = {"prompts": prompts, "default_prompt_name": default}
    rewrite(base / "config_sentence_transformers.json", **facts)


def say_modules(base: Path, *modules: tuple[str, str]) -> None:
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": at} for kind, at in modules]
    (base / "modules.json").write_text(json.dumps(listed))


def tokens(encoder: BaseEncoder, text: str, prefix: str) -> list[str | None]:
    [batch] = token_batches(encoder.tokenizer, [text], pad_id=0, batch_size=1, prefix=prefix)
    return [encoder.tokenizer.id_to_token(int(token)) for token in batch.input_ids[0]]


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        # divided by another length, but of the same direction
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean"),
    ],
)
def test_pooling_is_what_the_model_says(base: Path, config: dict[str, Any], pooling: str) -> None:
    (base / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert BaseEncoder.load(base, max_tokens=16).network.pooling == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True},
    ],
)
def test_another_pooling_is_refused(base: Path, config: dict[str, Any]) -> None:
    (base / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"found the pooling .* expected one of \['mean', 'cls'"):
        BaseEncoder.load(base, max_tokens=16)


def test_the_pooling_folder_is_where_the_modules_say(base: Path) -> None:
    say_modules(base, ("Transformer", ""), ("Pooling", "pool"), ("Normalize", "2_Normalize"))
    rewrite(base / "pool" / "config.json", pooling_mode="cls")
    assert BaseEncoder.load(base, max_tokens=16).network.pooling == "cls"


def test_a_layer_after_the_pooling_is_refused(base: Path) -> None:
    say_modules(base, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"))
    with pytest.raises(ConfigError, match=r"found the modules \['Dense'\]"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_model_without_a_word_about_pooling_is_pooled_by_its_mean(base: Path) -> None:
    shutil.rmtree(base / "1_Pooling")
    assert BaseEncoder.load(base, max_tokens=16).network.pooling == "mean"


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({}, None, ("", "")),
        (PROMPTS, None, ("red ", "blue hat ")),
        ({"query": "red ", "document": "lime "}, None, ("red ", "lime ")),
        ({"any": "gold "}, "any", ("gold ", "gold ")),
        ({"any": "gold "}, None, ("", "")),
        ({"any": "gold ", "query": "red "}, "any", ("red ", "gold ")),
    ],
)
def test_prefixes_are_what_the_model_says(
    base: Path, prompts: dict[str, str], default: str | None, expected: tuple[str, str]
) -> None:
    say_prompts(base, prompts, default)
    encoder = BaseEncoder.load(base, max_tokens=16)
    assert (encoder.query_prefix, encoder.passage_prefix) == expected


def test_prefixes_can_be_set_and_unset(base: Path) -> None:
    say_prompts(base, PROMPTS)
    encoder = BaseEncoder.load(base, max_tokens=16, query_prefix="", passage_prefix="gold ")
    assert (encoder.query_prefix, encoder.passage_prefix) == ("", "gold ")


def test_prefixes_survive_saving_and_have_a_digest_of_their_own(base: Path, tmp_path: Path) -> None:
    plain = BaseEncoder.load(base, max_tokens=16).save(tmp_path / "plain")
    say_prompts(base, PROMPTS)
    card = BaseEncoder.load(base, max_tokens=16).save(tmp_path / "saved")
    again = BaseEncoder.load(tmp_path / "saved", max_tokens=16).save(tmp_path / "again")
    assert (card.query_prefix, card.passage_prefix) == ("red ", "blue hat ")
    assert again.digest == card.digest != plain.digest
    assert again.max_tokens == card.max_tokens


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder, exported with prefixes."""
    folder = tmp_path_factory.mktemp("served")
    base = BaseEncoder.load(
        tiny_encoder(folder / "base"),
        max_tokens=16,
        query_prefix="red ",
        passage_prefix="blue hat ",
    )
    export_encoder(base, folder, ["shirt"])
    return folder


def test_the_day_reads_queries_and_passages_with_their_prefixes(served: Path) -> None:
    day = OnnxEncoder.load(served)
    card = dataclasses.replace(day.card, query_prefix="", passage_prefix="")
    card.save(served / "base")
    for file in (MODEL_FILE, TOKENIZER_FILE):
        shutil.copy(served / file, served / "base" / file)
    bare = OnnxEncoder.load(served / "base")
    expected = bare.encode(["red shoe", "blue hat shoe"])
    np.testing.assert_allclose(day.encode_queries(["shoe"])[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(day.encode(["shoe"])[0], expected[1], atol=1e-6)
    np.testing.assert_array_equal(bare.encode_queries(["shoe"]), bare.encode(["shoe"]))


def test_a_card_from_before_prefixes_has_none(served: Path, tmp_path: Path) -> None:
    card = EncoderCard.load(served)
    old = dataclasses.asdict(card)
    del old["query_prefix"], old["passage_prefix"]
    (tmp_path / CARD_FILE).write_text(json.dumps(old))
    expected = dataclasses.replace(card, query_prefix="", passage_prefix="")
    assert EncoderCard.load(tmp_path) == expected


def test_a_prefix_takes_nothing_from_a_title(base: Path) -> None:
    say_prompts(base, PROMPTS)
    encoder = BaseEncoder.load(base, max_tokens=3)  # [CLS], one word and [SEP]
    marked = tokens(encoder, "navy scarf glove", encoder.passage_prefix)
    assert marked == ["[CLS]", "blue", "hat", "navy", "[SEP]"]
    assert tokens(encoder, "navy scarf", "")[1] == "navy"


def test_a_length_that_leaves_nothing_of_the_text_is_refused(base: Path) -> None:
    with pytest.raises(ConfigError, match="nothing of the text is left"):
        BaseEncoder.load(base, max_tokens=2)
    with pytest.raises(ConfigError, match=r"32 tokens can be read, and the longer prefix .* 42"):
        BaseEncoder.load(base, max_tokens=16, passage_prefix="red " * 40)


def test_a_path_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave `base` unset"):
        BaseEncoder.load(tmp_path / "nowhere", max_tokens=16)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="leave `base` unset"):
        BaseEncoder.load(tmp_path, max_tokens=16)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_folder_that_lacks_a_file_is_refused(base: Path, file: str) -> None:
    (base / file).unlink()
    with pytest.raises(ConfigError, match="expected a Hugging Face encoder"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_folder_without_a_vocabulary_is_refused(base: Path) -> None:
    (base / TOKENIZER_FILE).unlink()
    with pytest.raises(ConfigError, match="its tokenizer has 5 tokens"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_decoder_is_refused(base: Path) -> None:
    config = GPT2Config(
        vocab_size=40,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=2,
        eos_token_id=3,
    )
    GPT2Model(config).save_pretrained(base)
    with pytest.raises(ConfigError, match=r"found a decoder \(gpt2\).*only those before them"):
        BaseEncoder.load(base, max_tokens=16)


def test_an_encoder_decoder_is_refused(base: Path) -> None:
    config = T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    T5Model(config).save_pretrained(base)
    with pytest.raises(ConfigError, match=r"found an encoder-decoder \(t5\)"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_model_of_images_is_refused(base: Path) -> None:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    ViTModel(config).save_pretrained(base)
    with pytest.raises(ConfigError, match=r"\(vit\) that does not turn token ids into states"):
        BaseEncoder.load(base, max_tokens=16)


def test_weights_that_lack_a_layer_are_refused(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 16 .* 'encoder.layer.1"):
        BaseEncoder.load(base, max_tokens=16)


def test_weights_without_a_pooler_are_enough(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    assert BaseEncoder.load(base, max_tokens=16).dim == 32


def test_weights_that_are_no_numbers_are_refused(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
    save_file(broken, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="states are not finite"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_tokenizer_of_another_model_is_refused(base: Path) -> None:
    tokenizer = Tokenizer.from_file(str(base / TOKENIZER_FILE))
    tokenizer.add_tokens(["extra", "large"])
    tokenizer.save(str(base / TOKENIZER_FILE))
    with pytest.raises(ConfigError, match=r"26 tokens with ids up to 25, expected about 24"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_padding_id_without_an_embedding_is_refused(base: Path) -> None:
    rewrite(base / "config.json", pad_token_id=99)
    with pytest.raises(ConfigError, match="padding id 99, expected 0 to 23"):
        BaseEncoder.load(base, max_tokens=16)


def test_a_tampered_embedded_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(DataError, match=r"expected sha256 be50.*found 4413.*Reinstall"):
        check_files(tmp_path, {TOKENIZER_FILE: "be50"})
    with pytest.raises(DataError, match="found no file"):
        check_files(tmp_path, {MODEL_FILE: "be50"})


def xlm_roberta(folder: Path) -> Path:
    """A random XLM-RoBERTa with a Unigram tokenizer, as SentencePiece makes them."""
    words = [f"▁{word}" for word in (*COLORS, *THINGS, "rouge", "красный", "赤い")]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *words, *"▁adehilnorstuк赤い"]
    scores = [0.0] * 4 + [-1.0] * len(words) + [-5.0] * (len(pieces) - 4 - len(words))
    tokenizer = Tokenizer(Unigram(list(zip(pieces, scores, strict=True)), unk_id=3))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=34,
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.3,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    return folder


def test_a_multilingual_encoder_works_the_same_way(tmp_path: Path) -> None:
    base = BaseEncoder.load(xlm_roberta(tmp_path / "base"), max_tokens=64, query_prefix="red ")
    assert base.max_tokens == 32  # of 34 positions, which begin after the padding id
    assert base.pad_id == 1
    texts = ["rouge hat", "красный coat", "赤い shoe", "", "gold " * 100]
    _, difference = export_encoder(base, tmp_path / "out", texts)
    assert difference < 1e-5
    day = OnnxEncoder.load(tmp_path / "out")
    vectors = day.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert len(np.unique(vectors.round(3), axis=0)) == len(texts)
    for text in ("x" * 100_000, "red " * 25_000, "赤" * 100_000, "\ud800" * 100_000):
        before = time.process_time()
        long = day.encode([text])
        assert time.process_time() - before < 0.1  # 2 ms: the tokenizer sees 2,000 of them
        np.testing.assert_array_equal(long, day.encode([text[:2_000]]))


def test_a_text_without_any_token_is_read_as_padding(tmp_path: Path) -> None:
    folder = xlm_roberta(tmp_path)
    tokenizer = json.loads((folder / TOKENIZER_FILE).read_text())
    tokenizer["post_processor"] = None  # no marks around a text
    (folder / TOKENIZER_FILE).write_text(json.dumps(tokenizer))
    base = BaseEncoder.load(folder, max_tokens=16)
    [batch] = token_batches(base.tokenizer, ["", "red hat"], pad_id=base.pad_id, batch_size=2)
    ids, mask = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
    assert batch.rows.tolist() == [1, 0]
    assert batch.input_ids[1].tolist() == [1] * batch.input_ids.shape[1]
    with torch.no_grad():
        assert torch.isfinite(base.network(ids, mask)).all()
