import hashlib
import itertools
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recsys.progress import Silent
from recsys.retrieval.encoder import BATCH_SIZE, TOKENIZER_FILE, EncoderCard, OnnxEncoder
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.export import TORCH_FOLDER, export_encoder
from tests.recsys.encoder_fixtures import shop_texts, tiny_encoder

T = TypeVar("T")


class Counting(Silent):
    """Remembers how many batches were encoded and what was said."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.batches = 0
        self.words: list[str] = []

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        self.totals.append(total)
        for item in super().track(items, total=total, label=label):
            self.batches += 1
            yield item

    def say(self, text: str) -> None:
        self.words.append(text)


class Killed(Silent):
    """Stops in the middle of the work, as a night that is killed does."""

    def __init__(self, *, after: int) -> None:
        self._after = after

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        yield from itertools.islice(items, self._after)
        raise InterruptedError


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    base = BaseEncoder.load(
        tiny_encoder(folder / "base"),
        max_tokens=16,
        query_prefix="red ",
        passage_prefix="blue hat ",
    )
    export_encoder(base, folder, [])
    return folder


def without_torch(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (target / file.name).symlink_to(file)
    return target


def test_night_and_day_give_the_same_vectors(encoder: Path) -> None:
    texts = [*shop_texts(), "", "unknown words", "red " * 100]
    night = encode_catalogue(encoder, texts, Silent())
    day = OnnxEncoder.load(encoder).encode(texts)
    assert (night * day).sum(axis=1).min() > 0.999


def test_a_folder_without_torch_weights_gives_the_vectors_of_the_day(
    encoder: Path, tmp_path: Path
) -> None:
    folder = without_torch(encoder, tmp_path / "light")
    assert not (folder / TORCH_FOLDER).exists()
    vectors = encode_catalogue(folder, shop_texts(), Silent())
    np.testing.assert_array_equal(vectors, OnnxEncoder.load(encoder).encode(shop_texts()))


@pytest.mark.parametrize("light", [False, True])
def test_progress_counts_every_batch(encoder: Path, tmp_path: Path, light: bool) -> None:
    folder = without_torch(encoder, tmp_path / "light") if light else encoder
    texts = [f"{text} {number}" for number in range(3) for text in shop_texts()]
    said = Counting()
    encode_catalogue(folder, texts, said)
    assert said.totals == [said.batches]
    assert said.batches > 1


def test_no_texts_give_no_vectors(encoder: Path) -> None:
    assert encode_catalogue(encoder, [], Silent()).shape == (0, 32)
    assert OnnxEncoder.load(encoder).encode([]).shape == (0, 32)
    assert OnnxEncoder.load(encoder).encode_queries([]).shape == (0, 32)


def test_unchanged_texts_are_not_embedded_again(encoder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vectors.safetensors"
    said = Counting()
    first = encode_catalogue(encoder, ["red hat", "blue hat", "red hat"], said, cache=cache)
    again = encode_catalogue(encoder, ["blue hat", "red hat"], said, cache=cache)
    grown = encode_catalogue(encoder, ["red hat", "gold ring"], said, cache=cache)
    assert said.totals == [1, 1]
    np.testing.assert_array_equal(again, first[[1, 0]])
    np.testing.assert_array_equal(grown[0], first[0])
    np.testing.assert_array_equal(first[0], first[2])


def test_only_what_is_new_reaches_the_encoder(encoder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vectors.safetensors"
    known = encode_catalogue(encoder, shop_texts(), Silent(), cache=cache)
    # From here on the encoder cannot read a text, but its cache still answers for it.
    blind = without_torch(encoder, tmp_path / "blind")
    (blind / TOKENIZER_FILE).unlink()
    again = encode_catalogue(blind, shop_texts()[::-1], Silent(), cache=cache)
    np.testing.assert_array_equal(again, known[::-1])


def test_what_a_killed_night_had_embedded_is_not_embedded_again(
    encoder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "vectors.safetensors"
    known = encode_catalogue(encoder, shop_texts()[:10], Silent(), cache=cache)
    with pytest.raises(InterruptedError):
        encode_catalogue(encoder, shop_texts(), Killed(after=2), cache=cache, keep_every=BATCH_SIZE)
    said = Counting()
    vectors = encode_catalogue(encoder, shop_texts(), said, cache=cache)
    assert said.totals == [1]  # of 90 missing texts, 64 were kept
    np.testing.assert_array_equal(vectors[:10], known)
    np.testing.assert_allclose(
        vectors, encode_catalogue(encoder, shop_texts(), Silent()), atol=1e-5
    )


def test_a_cache_keeps_each_text_once_and_forgets_the_others(encoder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vectors.safetensors"
    encode_catalogue(encoder, ["red hat", "blue hat", "red hat"], Silent(), cache=cache)
    assert load_file(cache)["vectors"].shape == (2, 32)
    encode_catalogue(encoder, ["blue hat"], Silent(), cache=cache)
    assert load_file(cache)["vectors"].shape == (1, 32)
    encode_catalogue(encoder, [], Silent(), cache=cache)
    assert load_file(cache)["vectors"].shape == (0, 32)


def test_cached_vectors_are_read_in_little_more_memory_than_they_take(tmp_path: Path) -> None:
    texts = [f"red hat {number}" for number in range(40_000)]
    card = EncoderCard(base="wide", digest="d", dim=384, max_tokens=16, pad_id=0)
    card.save(tmp_path)
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:16] for text in texts[::-1])
    stored = np.arange(40_000, dtype=np.float32).repeat(384).reshape(40_000, 384)
    cache = tmp_path / "vectors.safetensors"
    packed = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    save_file({"digests": packed, "vectors": stored}, cache, metadata={"encoder": "d"})
    tracemalloc.start()
    vectors = encode_catalogue(tmp_path, texts, Silent(), cache=cache)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(vectors, stored[::-1])
    assert peak < 1.5 * vectors.nbytes


def test_a_damaged_cache_embeds_everything_again(encoder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vectors.safetensors"
    first = encode_catalogue(encoder, ["red hat"], Silent(), cache=cache)
    cache.write_bytes(cache.read_bytes()[:-7])
    said = Counting()
    np.testing.assert_allclose(encode_catalogue(encoder, ["red hat"], said, cache=cache), first)
    assert "unreadable" in said.words[0]


def test_another_prefix_embeds_everything_again(encoder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vectors.safetensors"
    first = encode_catalogue(encoder, ["red hat"], Silent(), cache=cache)
    plain = BaseEncoder.load(encoder / "base", max_tokens=16)
    plain.save(tmp_path / TORCH_FOLDER).save(tmp_path)
    other = encode_catalogue(tmp_path, ["red hat"], Silent(), cache=cache)
    assert not np.allclose(first, other, atol=1e-3)
