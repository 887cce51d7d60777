from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from torch import nn

from features.arrays import Float32Array, Int64Array
from features.errors import DataError, ReleaseError
from features.views import FEATURE_NAMES, FEATURE_VIEWS
from recsys.progress import Silent
from recsys.ranking.explain import contributions
from recsys.ranking.ranker import CLIP, Ranker
from recsys.training.queries import RankingRows
from recsys.training.ranker import RankerConfig, fit_ranker

N_FEATURES, ACTIONS = len(FEATURE_NAMES), ("view", "share")
SIGNAL, NOISE = 3, 5  # columns


def rows(n_queries: int = 200, size: int = 8, seed: int = 0) -> RankingRows:
    """In every query the item with the most SIGNAL is viewed, and shared where it is large."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_queries * size, N_FEATURES)).astype(np.float32)
    features[rng.random(features.shape) < 0.1] = np.nan
    features[:, SIGNAL] = 100 + 10 * rng.normal(size=len(features))
    best = features[:, SIGNAL].reshape(-1, size).argmax(axis=1) + np.arange(n_queries) * size
    labels = np.zeros((len(features), 2), np.float32)
    labels[best, 0] = 1
    labels[best[features[best, SIGNAL] > 112], 1] = 1
    return of_history(np.arange(n_queries + 1) * size, features, labels)


def of_history(offsets: Int64Array, features: Float32Array, labels: Float32Array) -> RankingRows:
    """Nothing held out, nothing sub-sampled, nothing known to have been shown."""
    return RankingRows(
        offsets=offsets,
        features=features,
        labels=labels,
        stands_for=np.ones(len(features), np.float32),
        positions=np.full(len(features), -1, np.int32),
        held_out=np.zeros(len(offsets) - 1, np.bool_),
    )


@pytest.fixture(scope="module", params=[1, 3])
def fitted(request: pytest.FixtureRequest) -> Ranker:
    config = RankerConfig(
        hidden=(16, 8),
        epochs=40,
        batch_queries=32,
        learning_rate=1e-2,
        patience=10,
        ensemble=request.param,
    )
    return fit_ranker(rows(400), ACTIONS, config, Silent())[0]


def torch_logits(ranker: Ranker, features: Float32Array) -> Float32Array:
    """The same networks in torch, from the raw features on."""
    x = torch.from_numpy((features - ranker.mean) * ranker.scale).clamp(-CLIP, CLIP)
    x = torch.nan_to_num(x, nan=0.0)
    answers = []
    for network in range(len(ranker.weights[0])):
        layers: list[nn.Module] = []
        for weight, bias in zip(ranker.weights, ranker.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:])
            linear.weight.data = torch.from_numpy(weight[network].T.copy())
            linear.bias.data = torch.from_numpy(bias[network])
            layers += [linear, nn.ReLU()]
        with torch.no_grad():
            answers.append(nn.Sequential(*layers[:-1])(x).numpy())
    return np.asarray(np.mean(answers, axis=0), np.float32)


def test_it_learns_what_decides(fitted: Ranker) -> None:
    fresh = rows(seed=1)
    chance = fitted.probabilities(fresh.features)[:, 0].reshape(-1, 8)
    hit = chance.argmax(axis=1) == fresh.labels[:, 0].reshape(-1, 8).argmax(axis=1)
    assert hit.mean() > 0.6  # 1 / 8 by chance


def test_the_served_arrays_are_the_network(fitted: Ranker) -> None:
    features = rows(seed=2).features
    served = fitted.logits(fitted.standardise(features))
    np.testing.assert_allclose(served, torch_logits(fitted, features), rtol=1e-4, atol=1e-4)


def test_a_missing_value_is_the_mean_and_an_absurd_one_is_clipped(fitted: Ranker) -> None:
    usual = fitted.mean[None].copy()
    missing, absurd = usual.copy(), usual.copy()
    missing[0, NOISE], absurd[0, NOISE] = np.nan, 1e30
    np.testing.assert_array_equal(fitted.standardise(missing), fitted.standardise(usual))
    assert fitted.standardise(absurd).max() == CLIP


def test_chances_are_calibrated_and_keep_the_order_of_the_logits(fitted: Ranker) -> None:
    fresh = rows(n_queries=400, seed=3)
    chances = fitted.probabilities(fresh.features)
    logits = fitted.logits(fitted.standardise(fresh.features))
    for action in range(2):
        order = np.argsort(logits[:, action])
        assert (np.diff(chances[order, action]) >= 0).all()
        rate = float(fresh.labels[:, action].mean())
        assert chances[:, action].mean() == pytest.approx(rate, rel=0.35)


def test_the_deciding_group_contributes_most(fitted: Ranker) -> None:
    features = rows(seed=5).features[:200]
    groups, _ = contributions(fitted, features, np.array([1.0, 1.0], np.float32))
    size = {group: float(np.abs(share).mean()) for group, share in groups.items()}
    assert max(size, key=lambda group: size[group]) == FEATURE_VIEWS[SIGNAL].group


def test_a_saved_ranker_scores_as_before(fitted: Ranker, tmp_path: Path) -> None:
    fitted.save(tmp_path / "ranker")
    loaded = Ranker.load(tmp_path / "ranker")
    features = rows(seed=6).features
    assert loaded.actions == ACTIONS
    np.testing.assert_array_equal(loaded.probabilities(features), fitted.probabilities(features))


def test_a_ranker_of_another_feature_list_is_refused(fitted: Ranker, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    facts = orjson.loads((tmp_path / "ranker.json").read_bytes())
    (tmp_path / "ranker.json").write_bytes(orjson.dumps({**facts, "views_hash": "another"}))
    with pytest.raises(ReleaseError, match="run a night"):
        Ranker.load(tmp_path)


def test_a_truncated_ranker_is_a_clear_error(fitted: Ranker, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    file = tmp_path / "ranker.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ReleaseError, match=r"ranker\.safetensors"):
        Ranker.load(tmp_path)


def test_equal_seeds_train_equal_rankers() -> None:
    config = RankerConfig(hidden=(8,), epochs=2)
    first, second = (fit_ranker(rows(40), ACTIONS, config, Silent())[0] for _ in range(2))
    np.testing.assert_array_equal(first.weights[0], second.weights[0])


@pytest.mark.parametrize("epochs", [1, 10, 20])
def test_few_epochs_of_few_queries_train(epochs: int) -> None:
    config = RankerConfig(hidden=(4,), epochs=epochs, patience=100)
    ranker, report = fit_ranker(rows(2), ACTIONS, config, Silent())
    assert report.epochs == epochs
    assert np.isfinite(ranker.probabilities(rows(2).features)).all()


def test_an_action_that_never_follows_still_gets_a_chance() -> None:
    without = rows(60)
    without.labels[:, 1] = 0
    ranker, _ = fit_ranker(without, ACTIONS, RankerConfig(hidden=(4,), epochs=2), Silent())
    chance = ranker.probabilities(without.features)
    assert np.isfinite(chance).all()
    assert chance[:, 1].max() < 0.2


def test_columns_without_any_value_do_not_matter() -> None:
    empty = rows(60)
    empty.features[:, NOISE] = np.nan
    empty.features[:, NOISE + 1] = 7.0
    ranker, report = fit_ranker(empty, ACTIONS, RankerConfig(hidden=(4,), epochs=2), Silent())
    assert np.isfinite(report.validation_loss)
    assert np.isfinite(ranker.probabilities(empty.features)).all()


def test_too_little_to_learn_from_says_so() -> None:
    for n_queries in (0, 1):
        with pytest.raises(DataError, match="at least 2"):
            fit_ranker(rows(n_queries), ACTIONS, RankerConfig(), Silent())


def test_the_report_keeps_both_curves_and_how_reliable_each_chance_is() -> None:
    config = RankerConfig(hidden=(8,), epochs=5, patience=5, ensemble=2)
    _, report = fit_ranker(rows(200), ACTIONS, config, Silent())
    assert len(report.train_losses) == len(report.validation_losses) == report.epochs == 5
    assert report.train_losses[-1] < report.train_losses[0]
    assert report.validation_loss == min(report.validation_losses)
    assert [curve.action for curve in report.reliability] == [*ACTIONS]
    assert sum(report.reliability[0].candidates) == 20 * 8  # the held-out tenth
    assert not report.calibrated_on_slates
    assert report.position_pull == ()
