from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from features.arrays import Float32Array, Int64Array
from features.errors import DataError, ReleaseError
from features.interactions import Interactions
from recsys.progress import Silent
from recsys.retrieval.sequence import SequenceModel, compacted
from recsys.training.sequence import (
    SequenceConfig,
    SequenceReport,
    beyond_chance,
    fit_sequence,
)
from recsys.training.sequence_batches import batches, hold_out, user_sequences, windows
from recsys.training.sequence_network import catalogue_loss, sampled_loss, sampled_rows

SMALL = SequenceConfig(
    dim=16, blocks=1, heads=1, max_length=8, epochs=12, learning_rate=0.01, positions=128
)

HARDLY_MOVED = replace(SMALL, warm_epochs=1, kept_by_warm=1.0, learning_rate=1e-7)


def interactions(
    sequences: list[list[int]], weights: list[list[float]] | None = None
) -> Interactions:
    lengths = [len(sequence) for sequence in sequences]
    n = sum(lengths)
    flat = [w for row in weights for w in row] if weights else [1.0] * n
    return Interactions(
        user_ids=[f"u{i}" for i in range(len(sequences))],
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_rows=np.repeat(np.arange(len(sequences)), lengths).astype(np.int32),
        item_rows=np.array([i for s in sequences for i in s], np.int32),
        types=np.zeros(n, np.int8),
        weights=np.array(flat, np.float32),
        time_us=np.arange(n, dtype=np.int64),
    )


def text(n_items: int, width: int = 24) -> Float32Array:
    rows = np.random.default_rng(0).normal(size=(n_items, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def checkerboard(n_users: int = 80, n_items: int = 20) -> Interactions:
    """Even users take even items, odd users odd ones."""
    rng = np.random.default_rng(1)
    return interactions(
        [(2 * rng.integers(n_items // 2, size=10) + user % 2).tolist() for user in range(n_users)]
    )


def fit(
    log: Interactions,
    out: Path,
    *,
    n_items: int = 20,
    config: SequenceConfig = SMALL,
    warm: Path | None = None,
) -> SequenceReport:
    return fit_sequence(log, text(n_items), config, out, warm=warm, progress=Silent())


def history(*rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    return np.array([rows], np.int32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sequence")
    fit(checkerboard(), out)
    return out


def even_share(model: SequenceModel, *rows: int) -> float:
    best, _ = model.index.search(model.user_vectors(history(*rows)), 8)
    return float((best % 2 == 0).mean())


def test_even_histories_are_answered_with_even_items_and_odd_with_odd(folder: Path) -> None:
    model = SequenceModel.load(folder)
    assert even_share(model, -1, 4, 8, 2) == 1.0
    assert even_share(model, -1, 5, 9, 3) == 0.0


def test_sampled_softmax_learns_the_checkerboard_too(tmp_path: Path) -> None:
    config = SequenceConfig(
        dim=16, blocks=1, heads=1, max_length=8, epochs=12, learning_rate=0.01, positions=16,
        sampled_above=0, negatives=8,
    )  # fmt: skip
    fit(checkerboard(), tmp_path, config=config)
    model = SequenceModel.load(tmp_path)
    assert even_share(model, 4, 8, 2) >= 0.8
    assert even_share(model, 5, 9, 3) <= 0.2


def test_equal_seeds_give_equal_vectors(folder: Path, tmp_path: Path) -> None:
    fit(checkerboard(), tmp_path)
    first, second = SequenceModel.load(folder), SequenceModel.load(tmp_path)
    assert_array_equal(first.index.vectors, second.index.vectors)
    assert_array_equal(first.user_vectors(history(1, 3)), second.user_vectors(history(1, 3)))


def test_an_answer_does_not_depend_on_padding_or_company(folder: Path) -> None:
    model = SequenceModel.load(folder)
    alone = model.user_vectors(history(4, 8))
    assert_allclose(model.user_vectors(history(-1, -1, 4, 8)), alone, atol=1e-5)
    assert_allclose(model.user_vectors(history(-1, 4, -1, 4, 8, 8)), alone, atol=1e-5)
    longer = np.array([[1, 2, 3, 5, 6, 7, 9, 1, 3], [-1] * 7 + [4, 8], [-1] * 9], np.int32)
    together = model.user_vectors(longer)
    assert_allclose(together[1:2], alone, atol=1e-5)
    assert not together[2].any()


def test_no_history_at_all_is_a_zero_vector(folder: Path) -> None:
    model = SequenceModel.load(folder)
    assert not model.user_vectors(np.empty((2, 0), np.int32)).any()
    assert model.user_vectors(np.empty((0, 5), np.int32)).shape == (0, 16)


def test_an_item_that_arrives_later_is_retrieved_and_counts_in_histories(folder: Path) -> None:
    model = SequenceModel.load(folder)
    before = model.user_vectors(history(4, 8))
    model.index.append(model.item_vectors_from_text(text(20)[:1]))
    assert np.abs(model.user_vectors(history(4, 20)) - before).max() > 1e-3
    assert 20 in model.index.search(before, 21)[0]


def test_compacting_keeps_the_latest_items_and_collapses_repeats() -> None:
    rows, lengths = compacted(
        np.array([[-1, 3, 3, -1, 3, 5], [1, 2, 3, 4, 5, 6], [-1] * 6], np.int32), 4
    )
    assert lengths.tolist() == [2, 4, 0]
    assert rows.tolist() == [[3, 5, 0, 0], [3, 4, 5, 6], [0, 0, 0, 0]]


def test_only_positive_events_make_sequences_and_repeats_count_once() -> None:
    log = interactions([[1, 1, 2, 3, 3], [3, 4], [5], []], [[1, 1, 1, -4, 1], [1, 2], [1], []])
    assert [s.tolist() for s in user_sequences(log)] == [[1, 2, 3], [3, 4]]


def test_every_item_but_the_first_is_a_target_once() -> None:
    rng = np.random.default_rng(0)
    sequences: list[Int64Array] = [np.arange(n) + 100 * n for n in (2, 3, 9, 30, 31)]
    pieces = windows(sequences, 10, most=20)
    assert max(len(piece) for piece in pieces) == 11
    made = list(batches(pieces, 12, rng))
    targets = np.concatenate([batch.targets for batch in made])
    assert_array_equal(np.sort(targets), np.sort(np.concatenate([s[1:] for s in sequences])))
    for batch in made:
        assert_array_equal(batch.inputs[batch.is_real] + 1, batch.targets)


def test_held_out_items_are_not_trained_on() -> None:
    sequences: list[Int64Array] = [np.array([i, 10_000 + i, 20_000 + i]) for i in range(6000)]
    kept, held = hold_out(sequences, 1000, np.random.default_rng(0))
    assert len(held.targets) == 120
    trained = np.concatenate(kept)
    assert not np.isin(held.targets, trained).any()
    assert len(trained) == 3 * 6000 - 120
    assert not hold_out(sequences[:200], 1000, np.random.default_rng(0))[1].histories


def test_an_earlier_epoch_ships_only_where_it_was_better_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    last = rng.random(400)
    assert not beyond_chance(last, last)
    assert not beyond_chance(last + rng.normal(0, 1, 400) + 0.01, last)
    assert beyond_chance(last + rng.normal(0, 0.1, 400) + 0.02, last)
    assert not beyond_chance(last - 0.02, last)


def test_the_catalogue_loss_and_its_gradient_are_cross_entropys() -> None:
    torch.manual_seed(0)
    users = torch.randn(400, 6, requires_grad=True)
    items = torch.randn(31, 6, requires_grad=True)
    targets = torch.randint(31, (400,))
    expected = torch.nn.functional.cross_entropy(users @ items.T, targets)
    wanted = torch.autograd.grad(expected, [users, items])
    found = catalogue_loss(users, items, targets)
    assert abs(float(found.detach() - expected.detach())) < 1e-5
    for ours, theirs in zip(torch.autograd.grad(found, [users, items]), wanted, strict=True):
        assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6)


def test_sampled_loss_estimates_the_loss_over_all_items() -> None:
    torch.manual_seed(0)
    users, items, targets = torch.randn(64, 4), torch.randn(5000, 4) / 2, torch.arange(64)
    exact = float(catalogue_loss(users, items, targets))
    estimates = []
    for _ in range(20):
        rows, places = sampled_rows(targets, 5000, 500)
        estimates.append(float(sampled_loss(users, items[rows], places, 5000)))
    assert abs(float(np.mean(estimates)) - exact) < 0.02


def test_a_warm_start_continues_with_more_items_and_few_epochs(
    folder: Path, tmp_path: Path
) -> None:
    report = fit(checkerboard(), tmp_path, n_items=23, config=HARDLY_MOVED, warm=folder)
    assert report.epochs == 1
    old, new = SequenceModel.load(folder), SequenceModel.load(tmp_path)
    assert len(new.index) == 23
    assert_allclose(new.index.vectors[:20], old.index.vectors, atol=1e-3)
    assert_allclose(new.index.vectors[20:], old.item_vectors_from_text(text(23)[20:]), atol=1e-3)


def test_a_warm_start_survives_a_new_basis_of_the_text_vectors(
    folder: Path, tmp_path: Path
) -> None:
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(24, 24)))[0]
    turned = (text(20) @ rotation).astype(np.float32)
    fit_sequence(checkerboard(), turned, HARDLY_MOVED, tmp_path, warm=folder, progress=Silent())
    assert_allclose(
        SequenceModel.load(tmp_path).index.vectors,
        SequenceModel.load(folder).index.vectors,
        atol=1e-3,
    )


def test_a_warm_start_from_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="without a warm start"):
        fit(checkerboard(), tmp_path, config=SequenceConfig(dim=8, heads=1), warm=folder)


@pytest.mark.parametrize(("sequences", "n_items"), [([[0]], 1), ([[]], 3), ([], 0), ([[0, 1]], 2)])
def test_tiny_shops_get_a_model_all_the_same(
    tmp_path: Path, sequences: list[list[int]], n_items: int
) -> None:
    fit(interactions(sequences), tmp_path, n_items=n_items)
    model = SequenceModel.load(tmp_path)
    assert model.index.vectors.shape == (n_items, 16)
    assert np.isfinite(model.index.vectors).all()
    if n_items:
        assert np.isfinite(model.user_vectors(history(0))).all()


def test_interactions_with_unknown_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="20 items or more"):
        fit(checkerboard(), tmp_path, n_items=5)


def test_a_damaged_folder_is_a_release_error(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ReleaseError, match=r"model\.onnx: expected an ONNX model"):
        SequenceModel.load(tmp_path)
