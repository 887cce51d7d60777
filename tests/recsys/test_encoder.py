import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from features.errors import ConfigError, DataError, ReleaseError
from recsys.progress import Silent
from recsys.retrieval.encoder import MODEL_FILE, TOKENIZER_FILE, EncoderCard, OnnxEncoder
from recsys.training.encoder.base import BaseEncoder, check_files, embedded_folder
from recsys.training.encoder.config import EncoderReport
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.fit import fit_encoder, tune_encoder
from tests.recsys.encoder_fixtures import (
    Sequences,
    color_shoppers,
    config_for,
    shop_texts,
    tiny_encoder,
)

T = TypeVar("T")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def fitted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EncoderReport]:
    out = tmp_path_factory.mktemp("fitted")
    shoppers = color_shoppers(300)
    return out, fit_encoder(shop_texts(), shoppers, config_for(base), out, Silent())


NOTHING = Sequences(np.zeros(1, np.int64), np.empty(0, np.int32))


def test_night_and_day_give_the_same_vectors(fitted: tuple[Path, EncoderReport]) -> None:
    folder, report = fitted
    texts = [*shop_texts(), "", "unknown words", "red " * 100]
    night = encode_catalogue(folder, texts, Silent())
    day = OnnxEncoder.load(folder).encode(texts)
    assert (night * day).sum(axis=1).min() > 0.999
    assert report.onnx_difference < 1e-4


def test_no_texts_give_no_vectors(base: Path, fitted: tuple[Path, EncoderReport]) -> None:
    _, report = tune_encoder([], NOTHING, config_for(base), Silent())
    assert not report.tuned
    assert encode_catalogue(fitted[0], [], Silent()).shape == (0, 32)
    assert OnnxEncoder.load(fitted[0]).encode([]).shape == (0, 32)


def test_unchanged_texts_are_not_embedded_again(
    fitted: tuple[Path, EncoderReport], tmp_path: Path
) -> None:
    folder, _ = fitted
    cache = tmp_path / "vectors.safetensors"
    said = Counting()
    first = encode_catalogue(folder, ["red hat", "blue hat", "red hat"], said, cache=cache)
    again = encode_catalogue(folder, ["blue hat", "red hat"], said, cache=cache)
    grown = encode_catalogue(folder, ["red hat", "gold ring"], said, cache=cache)
    assert said.totals == [1, 1]
    np.testing.assert_array_equal(again, first[[1, 0]])
    np.testing.assert_array_equal(grown[0], first[0])
    np.testing.assert_array_equal(first[0], first[2])


def test_another_encoder_or_a_damaged_cache_embeds_everything_again(
    fitted: tuple[Path, EncoderReport], base: Path, tmp_path: Path
) -> None:
    folder, _ = fitted
    cache = tmp_path / "vectors.safetensors"
    tuned = encode_catalogue(folder, ["red hat"], Silent(), cache=cache)
    cache.write_bytes(cache.read_bytes()[:-7])
    said = Counting()
    np.testing.assert_allclose(encode_catalogue(folder, ["red hat"], said, cache=cache), tuned)
    assert "unreadable" in said.words[0]
    BaseEncoder.load(base, max_tokens=48).save(tmp_path / "torch").save(tmp_path)
    frozen = encode_catalogue(tmp_path, ["red hat"], Silent(), cache=cache)
    assert not np.allclose(frozen, tuned, atol=1e-3)


def test_a_tampered_embedded_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(DataError, match=r"expected sha256 be50.*found 4413.*Reinstall"):
        check_files(tmp_path, {TOKENIZER_FILE: "be50"})
    with pytest.raises(DataError, match="found no file"):
        check_files(tmp_path, {MODEL_FILE: "be50"})


def test_a_base_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave `base` unset"):
        BaseEncoder.load(tmp_path / "nowhere", max_tokens=16)


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE, "encoder.json"])
def test_a_truncated_artifact_is_refused(
    fitted: tuple[Path, EncoderReport], tmp_path: Path, name: str
) -> None:
    folder, _ = fitted
    for part in (MODEL_FILE, TOKENIZER_FILE, "encoder.json"):
        content = (folder / part).read_bytes()
        (tmp_path / part).write_bytes(content[: len(content) // 2] if part == name else content)
    with pytest.raises(ReleaseError, match=name):
        OnnxEncoder.load(tmp_path)


def test_serving_loads_no_training_library(fitted: tuple[Path, EncoderReport]) -> None:
    folder, _ = fitted
    program = (
        "import sys; from pathlib import Path; from recsys.retrieval.encoder import OnnxEncoder;"
        f"print(OnnxEncoder.load(Path({str(folder)!r})).encode(['red hat', '']).shape);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "(2, 32)\n", done.stderr


def test_minilm_is_the_published_one_and_knows_what_words_mean(tmp_path: Path) -> None:
    assert embedded_folder().is_dir()
    encoder = BaseEncoder.load(None, max_tokens=48)
    assert (encoder.dim, encoder.network.pooling) == (384, "mean")
    encoder.save(tmp_path / "torch").save(tmp_path)
    scripts = ["👕", "长袖 T 恤", "قميص", "", "x" * 9999]
    texts = ["red lipstick", "crimson lip colour", "garden hose", *scripts]
    vectors = encode_catalogue(tmp_path, texts, Silent())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert EncoderCard.load(tmp_path).max_tokens == 48


class Counting(Silent):
    """Remembers how many batches were encoded and what was said."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.words: list[str] = []

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        self.totals.append(total)
        return super().track(items, total=total, label=label)

    def say(self, text: str) -> None:
        self.words.append(text)
