from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import DataError, ReleaseError
from recsys.retrieval.index import VectorIndex


def matrix(n: int, d: int = 8, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    n_items=st.integers(0, 60),
    n=st.integers(1, 80),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 5),
)
def test_search_finds_what_sorting_every_allowed_score_finds(
    n_items: int, n: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = matrix(n_items, seed=seed), matrix(3, seed=seed + 100)
    allowed = rng.random(n_items) < share
    rows, scores = VectorIndex(vectors).search(queries, n, allowed)
    products = queries @ vectors.T
    products[:, ~allowed] = -np.inf
    order = np.argsort(-products, axis=1)[:, : min(n, int(allowed.sum()))]
    found = order.shape[1]
    assert rows.shape == scores.shape == (3, n)
    np.testing.assert_array_equal(rows[:, :found], order)
    np.testing.assert_allclose(
        scores[:, :found], np.take_along_axis(products, order, 1), rtol=1e-4, atol=1e-5
    )
    assert (rows[:, found:] == -1).all()
    assert np.isnan(scores[:, found:]).all()


def test_a_filter_that_removes_the_best_rows_is_searched_past() -> None:
    vectors = np.linspace(1, 0, 1000, dtype=np.float32)[:, None]
    allowed = np.arange(1000) >= 500
    rows, _ = VectorIndex(vectors).search(np.ones((2, 1), np.float32), 3, allowed)
    assert rows.tolist() == [[500, 501, 502]] * 2


def test_appended_and_replaced_rows_are_found_at_once_and_old_views_stay_readable() -> None:
    index = VectorIndex(matrix(5))
    before = index.vectors
    kept = before.copy()
    for step in range(40):
        far = np.full((1, 8), 10.0 + step, np.float32)
        index.append(far)
        assert index.search(np.ones((1, 8), np.float32), 1)[0][0, 0] == 5 + step
    np.testing.assert_array_equal(before, kept)
    index.replace(2, np.full(8, 100.0, np.float32))
    assert index.search(np.ones((1, 8), np.float32), 1)[0][0, 0] == 2
    assert len(index) == 45


def test_rows_the_filter_does_not_reach_are_not_allowed() -> None:
    index = VectorIndex(np.ones((4, 2), np.float32))
    rows, _ = index.search(np.ones((1, 2), np.float32), 4, np.ones(2, np.bool_))
    assert sorted(rows[0].tolist()) == [-1, -1, 0, 1]


def test_no_items_answer_nothing_and_no_queries_get_no_rows() -> None:
    rows, scores = VectorIndex(matrix(0)).search(matrix(2), 3)
    assert (rows == -1).all()
    assert np.isnan(scores).all()
    assert VectorIndex(matrix(3)).search(matrix(0), 2)[0].shape == (0, 2)


def test_a_loaded_index_scores_the_same_and_does_not_write_to_its_file(tmp_path: Path) -> None:
    index, queries = VectorIndex(matrix(50)), matrix(4, seed=1)
    index.save(tmp_path / "vectors.npy")
    loaded = VectorIndex.load(tmp_path / "vectors.npy")
    for ours, theirs in zip(index.search(queries, 7), loaded.search(queries, 7), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    loaded.replace(0, np.zeros(8, np.float32))
    loaded.append(matrix(3))
    np.testing.assert_array_equal(VectorIndex.load(tmp_path / "vectors.npy").vectors, index.vectors)


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="8 numbers"):
        VectorIndex(matrix(3)).search(matrix(1, 5), 2)


def test_a_truncated_file_is_a_release_error(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    VectorIndex(matrix(50)).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ReleaseError, match=r"vectors\.npy"):
        VectorIndex.load(path)
