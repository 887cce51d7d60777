from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from features.errors import ReleaseError
from features.interactions import Interactions
from recsys.progress import Silent
from recsys.retrieval.collaborative import FactorModel
from recsys.training.collaborative import (
    CollaborativeConfig,
    CollaborativeReport,
    fit_collaborative,
)

SMALL = CollaborativeConfig(dim=8, epochs=15)
PARITY_TAGS = [["even"], ["odd"]] * 10


def interactions(rows: list[tuple[str, int, float]]) -> Interactions:
    users = sorted({user for user, _, _ in rows})
    rows = sorted(rows, key=lambda row: row[0])
    user_rows = np.array([users.index(user) for user, _, _ in rows], np.int32)
    counts = np.bincount(user_rows, minlength=len(users)) if rows else np.zeros(0)
    return Interactions(
        user_ids=users,
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        user_rows=user_rows,
        item_rows=np.array([item for _, item, _ in rows], np.int32),
        types=np.zeros(len(rows), np.int8),
        weights=np.array([weight for _, _, weight in rows], np.float32),
        time_us=np.arange(len(rows), dtype=np.int64),
    )


def checkerboard() -> Interactions:
    """Even users take even items, odd users odd ones, and turn away from one of the others."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        parity = user % 2
        rows += [(f"u{user:02}", int(2 * i + parity), 1.0) for i in rng.choice(10, 5, False)]
        rows.append((f"u{user:02}", int(1 - parity), -4.0))
    return interactions(rows)


def fit(log: Interactions, out: Path, tags: Sequence[Sequence[str] | None]) -> CollaborativeReport:
    return fit_collaborative(log, tags, SMALL, out, Silent())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collaborative")
    fit(checkerboard(), out, PARITY_TAGS)
    return out


def vector_of(
    model: FactorModel, user_id: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return model.user_vectors(np.array([model.user_row(user_id)], np.int32))


def test_even_users_get_even_items_and_odd_users_odd_ones(folder: Path) -> None:
    model = FactorModel.load(folder)
    for user, parity in (("u04", 0), ("u07", 1)):
        rows, _ = model.index.search(vector_of(model, user), 10)
        assert (rows % 2 == parity).all()


def test_a_stranger_with_a_history_gets_what_goes_with_it(folder: Path) -> None:
    model = FactorModel.load(folder)
    for parity in (0, 1):
        history = model.index.vectors[[parity, 4 + parity, 8 + parity]]
        placed = model.vectors_from_history(history.mean(axis=0, keepdims=True))
        rows, _ = model.index.search(placed, 10)
        assert (rows % 2 == parity).mean() >= 0.9
    assert not model.vectors_from_history(np.zeros((1, 9), np.float32)).any()


def test_a_new_item_is_placed_by_its_tags(folder: Path) -> None:
    model = FactorModel.load(folder)
    new = model.item_vectors_from_tags([["even"], ["odd"], ["unheard of"], None])
    even, odd, unknown, untagged = (vector_of(model, "u04") @ new.T)[0]
    assert even > odd
    assert unknown == untagged == 0.0


def test_equal_seeds_give_equal_factors(folder: Path, tmp_path: Path) -> None:
    fit(checkerboard(), tmp_path, PARITY_TAGS)
    first, second = FactorModel.load(folder), FactorModel.load(tmp_path)
    assert_array_equal(first.index.vectors, second.index.vectors)
    assert_array_equal(vector_of(first, "u04"), vector_of(second, "u04"))


def test_saving_and_loading_changes_no_score(folder: Path, tmp_path: Path) -> None:
    model = FactorModel.load(folder)
    model.save(tmp_path / "again")
    again = FactorModel.load(tmp_path / "again")
    queries = model.user_vectors(np.arange(60, dtype=np.int32))
    for ours, theirs in zip(
        model.index.search(queries, 5), again.index.search(queries, 5), strict=True
    ):
        assert_array_equal(ours, theirs)


def test_popular_items_score_higher_through_the_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{user:02}", 0, 1.0) for user in range(40)]
    rows += [(f"u{user:02}", int(rng.integers(1, 20)), 1.0) for user in range(40)]
    fit(interactions(rows), tmp_path, [None] * 20)
    assert FactorModel.load(tmp_path).index.vectors[:, -1].argmax() == 0


def test_a_shopper_without_positive_events_is_unknown(tmp_path: Path) -> None:
    log = interactions([("fan", 0, 1.0), ("fan", 2, 8.0), ("critic", 1, -4.0)])
    report = fit(log, tmp_path, [None] * 3)
    model = FactorModel.load(tmp_path)
    assert (report.users, report.pairs) == (1, 2)
    assert model.user_row("fan") == 0
    assert model.user_row("critic") == model.user_row("nobody") == -1
    assert not model.user_vectors(np.array([-1], np.int32)).any()


@pytest.mark.parametrize(
    ("rows", "n_items"), [([], 0), ([], 3), ([("one", 0, 1.0)], 1), ([("one", 1, -4.0)], 2)]
)
def test_tiny_shops_get_a_model_all_the_same(
    tmp_path: Path, rows: list[tuple[str, int, float]], n_items: int
) -> None:
    fit(interactions(rows), tmp_path, [["tag"]] * n_items)
    model = FactorModel.load(tmp_path)
    assert model.index.vectors.shape == (n_items, 9)
    assert np.isfinite(model.index.vectors).all()
    assert model.n_users == len({user for user, _, weight in rows if weight > 0})
    assert model.item_vectors_from_tags([["tag"]]).shape == (1, 9)


def test_the_same_pair_twice_weighs_more_and_is_one_pair(tmp_path: Path) -> None:
    log = interactions([("a", 0, 1.0)] * 3 + [("a", 1, 1.0), ("b", 1, 1.0)])
    assert fit(log, tmp_path, [None] * 2).pairs == 3
    assert_allclose(FactorModel.load(tmp_path).user_vectors(np.array([0, 1]))[:, -1], 1.0)


def test_files_that_do_not_fit_each_other_are_a_release_error(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "user_ids.json").write_bytes(b'["u00"]')
    with pytest.raises(ReleaseError, match="users, tags and the map"):
        FactorModel.load(tmp_path)
