import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from features.arrays import Float32Array
from features.errors import ConfigError, DataError
from recsys.progress import Silent
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.config import EncoderConfig, EncoderReport, Strategy
from recsys.training.encoder.cut import CutEncoder, cache_states
from recsys.training.encoder.fit import tune_encoder
from recsys.training.encoder.tokens import CachedTokens, all_vectors, encode_in_chunks
from tests.recsys.encoder_fixtures import (
    COLORS,
    THINGS,
    Sequences,
    color_shoppers,
    config_for,
    shop_texts,
    tiny_encoder,
)

RATES: dict[Strategy, float] = {"top_layers": 3e-3, "lora": 1e-2, "full": 3e-3}
STRATEGIES = [pytest.param(name, id=name) for name in RATES]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("base"))


def config_of(base: Path, strategy: Strategy, **changes: Any) -> EncoderConfig:
    changes = {"learning_rate": RATES.get(strategy, 1e-3)} | changes
    return dataclasses.replace(config_for(base), strategy=strategy, **changes)


@pytest.fixture(scope="module")
def taught(base: Path) -> dict[str, tuple[BaseEncoder, EncoderReport]]:
    """The tiny encoder after 300 shoppers who each buy one color, by strategy."""
    return {
        name: tune_encoder(shop_texts(), color_shoppers(300), config_of(base, name), Silent())
        for name in RATES
    }


def digest(encoder: BaseEncoder, folder: Path) -> str:
    return encoder.save(folder).digest


def vectors(encoder: BaseEncoder) -> Float32Array:
    tokens = CachedTokens.of(encoder, shop_texts(), torch.device("cpu"))

    def encode(rows: Any) -> torch.Tensor:
        _, ids, mask = tokens.padded(rows)
        found: torch.Tensor = encoder.network(ids, mask)
        return found

    return all_vectors(tokens, encode, Silent(), "")


def random_shoppers() -> Sequences:
    """Nobody's next item follows from anything."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(100)[:6] for _ in range(300)]).astype(np.int32)
    return Sequences(np.arange(301, dtype=np.int64) * 6, rows)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shoppers_who_buy_one_color_teach_the_encoder_colors(
    taught: dict[str, tuple[BaseEncoder, EncoderReport]], strategy: Strategy
) -> None:
    _, report = taught[strategy]
    assert (report.shipped, report.tuned, report.strategy) == ("tuned", True, strategy)
    assert report.start_recall is not None
    assert report.tuned_recall is not None
    assert report.tuned_recall > report.start_recall + 0.1
    assert f"{report.tuned_recall:.4f} tuned" in report.reason


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_shipped_encoder_groups_items_by_what_it_was_taught(
    taught: dict[str, tuple[BaseEncoder, EncoderReport]],
    base: Path,
    tmp_path: Path,
    strategy: Strategy,
) -> None:
    def same_color_margin(encoder: BaseEncoder) -> float:
        rows = vectors(encoder)
        rows -= rows.mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        same = np.kron(np.eye(len(COLORS)), np.ones((len(THINGS), len(THINGS)))) > 0
        cosine = rows @ rows.T
        return float(cosine[same].mean() - cosine[~same].mean())

    taught[strategy][0].save(tmp_path)
    shipped = BaseEncoder.load(tmp_path, max_tokens=48)  # of plain layers: no adapter is left
    before = same_color_margin(BaseEncoder.load(base, max_tokens=48))
    assert same_color_margin(shipped) > before + 0.1


@pytest.mark.parametrize(
    ("strategy", "learns"),
    [("top_layers", "encoder.layer.1."), ("lora", ".attention."), ("full", "")],
)
def test_only_what_a_strategy_tunes_changes(
    taught: dict[str, tuple[BaseEncoder, EncoderReport]],
    base: Path,
    tmp_path: Path,
    strategy: str,
    learns: str,
) -> None:
    taught[strategy][0].save(tmp_path)
    before = load_file(base / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) > 3
    assert all(learns in name for name in changed)
    layers = {name.split(".")[2] for name in changed if name.startswith("encoder.layer.")}
    assert layers == ({"1"} if strategy == "top_layers" else {"0", "1"})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_seeds_give_equal_encoders_whatever_else_draws_random_numbers(
    taught: dict[str, tuple[BaseEncoder, EncoderReport]],
    base: Path,
    tmp_path: Path,
    strategy: Strategy,
) -> None:
    encoder, report = taught[strategy]
    torch.manual_seed(12345)
    expected_next = torch.rand(1)
    torch.manual_seed(12345)
    again, said = tune_encoder(
        shop_texts(), color_shoppers(300), config_of(base, strategy), Silent()
    )
    assert torch.rand(1) == expected_next
    assert digest(again, tmp_path / "again") == digest(encoder, tmp_path / "first")
    assert (said.curve, said.examples) == (report.curve, report.examples)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_encoder_that_tuning_ruins_ships_as_it_came(
    base: Path, tmp_path: Path, strategy: Strategy
) -> None:
    ruin = config_of(base, strategy, learning_rate=1e30, temperature=1.0)
    shipped, report = tune_encoder(shop_texts(), color_shoppers(300), ruin, Silent())
    assert (report.shipped, report.tuned, report.tuned_recall) == ("base", False, None)
    assert "diverged at step 2; learning_rate 1e+30 is too high" in report.reason
    original = BaseEncoder.load(base, max_tokens=48)
    assert digest(shipped, tmp_path / "shipped") == digest(original, tmp_path / "original")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_encoder_that_tuning_makes_no_better_ships_as_it_came(
    base: Path, tmp_path: Path, strategy: Strategy
) -> None:
    # At this rate no weight moves by as much as a float can tell, so no look is any better.
    idle = config_of(base, strategy, learning_rate=1e-9, evaluate_every=2, patience=2)
    shipped, report = tune_encoder(shop_texts(), random_shoppers(), idle, Silent())
    assert report.reason.startswith("base encoder shipped: recall@10")
    assert (report.stopped_early, report.steps) == (True, 4)
    original = BaseEncoder.load(base, max_tokens=48)
    assert digest(shipped, tmp_path / "shipped") == digest(original, tmp_path / "original")


def test_an_anchor_keeps_vectors_near_what_they_were(
    taught: dict[str, tuple[BaseEncoder, EncoderReport]], base: Path
) -> None:
    anchored = config_of(base, "top_layers", anchor=100.0)
    _, report = tune_encoder(shop_texts(), color_shoppers(300), anchored, Silent())
    free = taught["top_layers"][1].anchor_similarity
    assert report.anchor_similarity is not None
    assert free is not None
    assert free + 0.1 < report.anchor_similarity < 1.0


def test_a_report_shows_the_curve_and_neighbours_before_and_after(
    taught: dict[str, tuple[BaseEncoder, EncoderReport]],
) -> None:
    report = taught["full"][1]
    assert [point.step for point in report.curve] == list(range(1, report.steps + 1))
    assert report.curve[-1].validation_recall == report.tuned_recall
    assert report.last_loss is not None
    assert report.first_loss is not None
    assert report.last_loss < report.first_loss
    assert len({example.item_row for example in report.examples}) == 8
    for example in report.examples:
        assert len(set(example.before)) == len(set(example.after)) == 5
        assert example.item_row not in (*example.before, *example.after)
    same_color = [
        near // 10 == example.item_row // 10
        for example in report.examples
        for near in example.after
    ]
    assert np.mean(same_color) > 0.8
    assert report.cpu_seconds > 0
    json.dumps(dataclasses.asdict(report))


def test_where_nobody_is_held_out_the_base_encoder_ships(base: Path) -> None:
    few = dataclasses.replace(config_for(base), min_sequences=2)
    _, report = tune_encoder(shop_texts(), color_shoppers(2), few, Silent())
    assert report.shipped == "base"
    assert "held out" in report.reason


def test_too_few_shoppers_ship_the_base_encoder_and_say_so(base: Path) -> None:
    _, report = tune_encoder(shop_texts(), color_shoppers(20), config_for(base), Silent())
    assert report.shipped == "base"
    assert "20 shoppers with two items, 50 are needed" in report.reason


@pytest.mark.parametrize("strategy", ["frozen", *RATES])
def test_texts_that_are_all_alike_teach_nothing(base: Path, strategy: Strategy) -> None:
    texts = ["red shirt"] * 100
    _, report = tune_encoder(texts, color_shoppers(300), config_of(base, strategy), Silent())
    assert (report.shipped, report.tuned) == ("base", False)
    why = "tunes nothing" if strategy == "frozen" else "has a question with a wrong answer left"
    assert why in report.reason


def test_a_sequence_beyond_the_texts_is_refused(base: Path) -> None:
    with pytest.raises(DataError, match="expected rows below 3"):
        tune_encoder(["a", "b", "c"], color_shoppers(9), config_for(base), Silent())


def test_categories_of_another_catalogue_are_refused(base: Path) -> None:
    with pytest.raises(DataError, match="found 7 categories, expected 100"):
        tune_encoder(
            shop_texts(),
            color_shoppers(9),
            config_for(base),
            Silent(),
            categories=np.zeros(7, np.int32),
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strategy": "adapters"}, "strategy='adapters', expected one of frozen, top_layers, lora"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"temperature": 0.04}, "temperature=0.04, expected 0.05 to 10.0"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"lora_rank": 0}, "lora_rank=0"),
        ({"anchor": -0.5}, "anchor=-0.5"),
        ({"patience": 0}, "patience=0"),
        ({"replay": 1.0}, r"replay=1.0, expected 0.0 to 0.95"),
    ],
)
def test_values_out_of_range_are_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EncoderConfig(**change)


def test_more_layers_than_the_model_has_are_refused_even_where_nothing_would_be_tuned(
    base: Path,
) -> None:
    config = config_of(base, "top_layers", tuned_layers=2)
    with pytest.raises(ConfigError, match="Set tuned_layers to 1 to 1, or choose the strategy"):
        tune_encoder(shop_texts(), color_shoppers(2), config, Silent())


def test_a_base_of_one_layer_is_for_strategies_that_keep_none_below(tmp_path: Path) -> None:
    shallow = tiny_encoder(tmp_path, layers=1)
    config = config_of(shallow, "top_layers")
    with pytest.raises(ConfigError, match=r"as it is\. Choose the strategy `full` or `lora`"):
        tune_encoder(shop_texts(), color_shoppers(2), config, Silent())


def test_every_strategy_is_tested() -> None:
    assert {*RATES, "frozen"} == set(get_args(Strategy))


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
        _, ids, mask = tokens.padded(rows)
        whole = encoder.network(ids, mask).numpy()
    assert (cached * whole).sum(axis=1).min() > 0.999
