import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from features.errors import DataError
from recsys.progress import Silent
from recsys.retrieval.encoder import OnnxEncoder
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.config import EncoderReport
from recsys.training.encoder.cut import CutEncoder, cache_states
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.fit import fit_encoder, tune_encoder
from recsys.training.encoder.tokens import CachedTokens, encode_in_chunks
from tests.recsys.encoder_fixtures import (
    COLORS,
    THINGS,
    Sequences,
    color_shoppers,
    config_for,
    shop_texts,
    tiny_encoder,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def fitted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EncoderReport]:
    out = tmp_path_factory.mktemp("fitted")
    shoppers = color_shoppers(300)
    return out, fit_encoder(shop_texts(), shoppers, config_for(base), out, Silent())


@pytest.fixture(scope="module")
def frozen(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EncoderReport]:
    out = tmp_path_factory.mktemp("frozen")
    few = color_shoppers(20)
    return out, fit_encoder(shop_texts(), few, config_for(base), out, Silent())


def test_shoppers_who_buy_one_color_teach_the_encoder_colors(
    fitted: tuple[Path, EncoderReport],
) -> None:
    _, report = fitted
    assert report.tuned
    assert report.frozen_recall is not None
    assert report.tuned_recall is not None
    assert report.tuned_recall > report.frozen_recall + 0.1
    assert f"{report.tuned_recall:.4f} tuned" in report.reason


def test_the_exported_encoder_groups_items_by_what_it_was_taught(
    fitted: tuple[Path, EncoderReport], frozen: tuple[Path, EncoderReport]
) -> None:
    def same_color_margin(folder: Path) -> float:
        vectors = encode_catalogue(folder, shop_texts(), Silent())
        vectors -= vectors.mean(axis=0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        same = np.kron(np.eye(len(COLORS)), np.ones((len(THINGS), len(THINGS)))) > 0
        cosine = vectors @ vectors.T
        return float(cosine[same].mean() - cosine[~same].mean())

    assert same_color_margin(fitted[0]) > same_color_margin(frozen[0]) + 0.1


def test_only_the_top_layers_change(fitted: tuple[Path, EncoderReport], base: Path) -> None:
    folder, _ = fitted
    before = load_file(base / "model.safetensors")
    after = load_file(folder / "torch" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_equal_seeds_give_equal_encoders(
    fitted: tuple[Path, EncoderReport], base: Path, tmp_path: Path
) -> None:
    _, report = fitted
    shoppers = color_shoppers(300)
    again, said = tune_encoder(shop_texts(), shoppers, config_for(base), Silent())
    assert again.save(tmp_path).digest == report.digest
    assert said.tuned_recall == report.tuned_recall


def test_an_encoder_that_tuning_makes_worse_ships_frozen(base: Path, tmp_path: Path) -> None:
    # Shoppers who buy at random teach nothing; a rate this high destroys what was there.
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(100)[:6] for _ in range(300)]).astype(np.int32)
    random = Sequences(np.arange(301, dtype=np.int64) * 6, rows)
    ruin = dataclasses.replace(config_for(base), learning_rate=1e30, temperature=1.0)
    shipped, report = tune_encoder(shop_texts(), random, ruin, Silent())
    assert not report.tuned
    assert "base encoder shipped: tuning diverged at step 2; learning_rate 1e+30" in report.reason
    original = BaseEncoder.load(base, max_tokens=48).save(tmp_path / "original")
    assert shipped.save(tmp_path / "shipped").digest == original.digest


def test_too_few_shoppers_ship_the_base_encoder_and_say_so(
    frozen: tuple[Path, EncoderReport],
) -> None:
    folder, report = frozen
    assert not report.tuned
    assert "20 shoppers with two items, 50 are needed" in report.reason
    assert OnnxEncoder.load(folder).encode(["red shirt"]).shape == (1, 32)


def test_a_sequence_beyond_the_texts_is_refused(base: Path) -> None:
    with pytest.raises(DataError, match="expected rows below 3"):
        tune_encoder(["a", "b", "c"], color_shoppers(9), config_for(base), Silent())


@pytest.mark.parametrize("cls", [False, True])
def test_a_cut_encoder_gives_the_vectors_of_the_whole(tmp_path: Path, *, cls: bool) -> None:
    encoder = BaseEncoder.load(tiny_encoder(tmp_path / "x", layers=3, cls=cls), max_tokens=16)
    assert encoder.network.pooling == ("cls" if cls else "mean")
    texts = [*shop_texts(), "", "red " * 40]
    cut = CutEncoder(encoder.network, tuned_layers=1)
    tokens = CachedTokens.of(encoder, texts, torch.device("cpu"))
    cache = cache_states(cut, tokens, encoder.dim, Silent())
    rows = np.array([101, 3, 50, 100, 3])
    with torch.no_grad():
        cached = encode_in_chunks(tokens, rows, lambda part: cache.finished(cut, part)).numpy()
    encoder.save(tmp_path / "out" / "torch").save(tmp_path / "out")
    whole = encode_catalogue(tmp_path / "out", texts, Silent())[rows]
    assert (cached * whole).sum(axis=1).min() > 0.999
