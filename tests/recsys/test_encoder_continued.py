"""One night after another: five colors are known, then five more come."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from features.arrays import Float32Array, Int32Array, Int64Array
from features.errors import ConfigError, ReleaseError
from recsys.progress import Silent
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.config import EncoderConfig, EncoderReport
from recsys.training.encoder.fit import Continued, tune_encoder
from tests.recsys.encoder_fixtures import config_for, shop_texts, tiny_encoder
from tests.recsys.encoder_sequences import shopper_ids

TONIGHT_US = 1_000_000
Night = tuple[Path, EncoderReport, str]  # the torch folder, what was said, the digest


@dataclass(frozen=True)
class Visits:
    indptr: Int64Array
    item_rows: Int32Array
    time_us: Int64Array

    @property
    def user_ids(self) -> list[str]:
        return shopper_ids(len(self.indptr) - 1)

    @property
    def weights(self) -> Float32Array:
        return np.ones(len(self.item_rows), np.float32)


def shoppers(n_old: int, n_new: int, *, sense: bool = True) -> Visits:
    """`n_old` who bought one of five colors before tonight, `n_new` who buy any color tonight."""
    rng = np.random.default_rng(0)
    rows = [10 * rng.integers(5) + rng.permutation(10)[:6] for _ in range(n_old)]
    rows += [
        10 * rng.integers(10) + rng.permutation(10)[:6] if sense else rng.permutation(100)[:6]
        for _ in range(n_new)
    ]
    n = n_old + n_new
    times = np.arange(6 * n) + np.repeat([0, TONIGHT_US], [6 * n_old, 6 * n_new])
    return Visits(
        np.arange(n + 1, dtype=np.int64) * 6, np.concatenate(rows).astype(np.int32), times
    )


def saved(encoder: BaseEncoder, folder: Path) -> str:
    card = encoder.save(folder / "torch")
    card.save(folder)
    return card.digest


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    return dataclasses.replace(
        config_for(tiny_encoder(tmp_path_factory.mktemp("base"))), epochs=30, evaluate_every=4
    )


@pytest.fixture(scope="module")
def live(config: EncoderConfig, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Last night's encoder, which has met five colors."""
    folder = tmp_path_factory.mktemp("live")
    encoder, report = tune_encoder(shop_texts(), shoppers(300, 0), config, Silent())
    return folder / "torch", report, saved(encoder, folder)


def test_the_live_encoder_learns_what_is_new_and_keeps_what_is_old(
    live: Night, config: EncoderConfig, tmp_path: Path
) -> None:
    folder, first, digest = live
    encoder, report = tune_encoder(
        shop_texts(),
        shoppers(300, 300),
        config,
        Silent(),
        continued=Continued(folder, TONIGHT_US),
    )
    assert first.shipped == "tuned"
    assert (report.shipped, report.tuned) == ("continued", True)
    assert report.start_recall is not None
    assert f"continued, {report.start_recall:.4f} live" in report.reason
    assert report.recall_new_before is not None
    assert report.recall_new_after is not None
    assert report.recall_new_after > report.recall_new_before + 0.05
    assert report.recall_old_before is not None
    assert report.recall_old_after is not None
    assert report.recall_old_after >= report.recall_old_before * (1 - config.old_tolerance)
    assert saved(encoder, tmp_path) != digest
    assert encoder.name == config.base  # where it all began, not last night's folder
    assert report.anchor_similarity is not None
    assert report.start_similarity is not None
    assert report.start_similarity > report.anchor_similarity  # last night moved it already


def test_an_anchor_draws_the_live_encoder_to_the_base_and_not_to_last_night(
    live: Night, config: EncoderConfig
) -> None:
    def similarities(anchor: float) -> tuple[float, float]:
        anchored = dataclasses.replace(config, anchor=anchor)
        _, report = tune_encoder(
            shop_texts(),
            shoppers(300, 300),
            anchored,
            Silent(),
            continued=Continued(live[0], TONIGHT_US),
        )
        assert report.anchor_similarity is not None
        assert report.start_similarity is not None
        return report.anchor_similarity, report.start_similarity

    (to_base, to_live), (to_base_free, to_live_free) = similarities(30.0), similarities(0.0)
    assert to_base > to_base_free + 0.1
    assert to_live < to_live_free + 0.05


def test_shoppers_without_sense_leave_the_live_encoder_as_it_is(
    live: Night, config: EncoderConfig, tmp_path: Path
) -> None:
    folder, _, digest = live
    ruin = dataclasses.replace(config, learning_rate=0.5)
    encoder, report = tune_encoder(
        shop_texts(),
        shoppers(300, 300, sense=False),
        ruin,
        Silent(),
        continued=Continued(folder, TONIGHT_US),
    )
    assert (report.shipped, report.tuned) == ("kept", False)
    assert report.reason.startswith("live encoder kept: ")
    assert saved(encoder, tmp_path) == digest


def test_a_night_without_news_keeps_the_live_encoder(
    live: Night, config: EncoderConfig, tmp_path: Path
) -> None:
    folder, _, digest = live
    encoder, report = tune_encoder(
        shop_texts(), shoppers(300, 0), config, Silent(), continued=Continued(folder, TONIGHT_US)
    )
    assert report.reason == "live encoder kept: no shopper has met anything new"
    assert saved(encoder, tmp_path) == digest


def test_an_encoder_of_another_base_is_not_continued(live: Night, config: EncoderConfig) -> None:
    other = dataclasses.replace(config, base="another/encoder")
    with pytest.raises(ConfigError, match="expected one from another/encoder"):
        tune_encoder(
            shop_texts(), shoppers(9, 9), other, Silent(), continued=Continued(live[0], TONIGHT_US)
        )


def test_an_encoder_of_another_base_is_not_continued_from_the_embedded_one(
    live: Night, config: EncoderConfig
) -> None:
    embedded = dataclasses.replace(config, base=None)
    with pytest.raises(ConfigError, match="expected one from all-MiniLM-L6-v2"):
        tune_encoder(
            shop_texts(),
            shoppers(9, 9),
            embedded,
            Silent(),
            continued=Continued(live[0], TONIGHT_US),
        )


def test_a_live_encoder_without_its_card_is_refused(config: EncoderConfig, tmp_path: Path) -> None:
    nowhere = Continued(tmp_path / "torch", TONIGHT_US)
    with pytest.raises(ReleaseError, match=r"encoder\.json"):
        tune_encoder(shop_texts(), shoppers(9, 9), config, Silent(), continued=nowhere)
