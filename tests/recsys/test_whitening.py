import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import Float32Array
from features.errors import DataError, ReleaseError
from recsys.retrieval.whitening import PRIOR_ROWS, ROWS_AT_ONCE, Whitening


def unit_rows(n: int, d: int, seed: int = 0) -> Float32Array:
    """Rows that share a direction and differ mostly along a few axes, as text vectors do."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) * np.linspace(2.0, 0.05, d) + 1.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_many_rows_come_out_centred_with_the_chosen_spread() -> None:
    vectors = unit_rows(20_000, 16)
    whitening = Whitening.fit(vectors, n_components=8, power=1.0)
    white = (vectors - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(np.cov(white.T), np.eye(8), atol=0.05)


def test_a_large_catalogue_is_summed_up_in_parts_as_if_at_once() -> None:
    vectors = unit_rows(ROWS_AT_ONCE + 7, 6)
    vectors[ROWS_AT_ONCE:] *= 100.0  # the second part must count
    whitening = Whitening.fit(vectors, power=1.0)
    covariance = np.cov(vectors.T.astype(np.float64), bias=True) * len(vectors)
    prior = PRIOR_ROWS * np.trace(covariance) / covariance.shape[0] / len(vectors)
    shrunk = (covariance + prior * np.eye(6)) / (len(vectors) + PRIOR_ROWS)
    inverse = whitening.projection.astype(np.float64) @ whitening.projection.T
    np.testing.assert_allclose(inverse @ shrunk, np.eye(6), atol=1e-5)


def test_fitting_takes_less_memory_than_the_vectors() -> None:
    vectors = np.ones((10 * ROWS_AT_ONCE, 64), np.float32)
    tracemalloc.start()
    Whitening.fit(vectors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < vectors.nbytes  # in float64 they are twice as large


def test_power_zero_only_rotates() -> None:
    vectors = unit_rows(500, 8)
    whitening = Whitening.fit(vectors, n_components=8, power=0.0)
    np.testing.assert_allclose(whitening.projection.T @ whitening.projection, np.eye(8), atol=1e-5)


def test_whitening_undoes_a_common_direction() -> None:
    vectors = unit_rows(2_000, 32)
    white = Whitening.fit(vectors, n_components=16)(vectors)
    assert np.abs(vectors @ vectors.T).mean() > 0.3
    assert np.abs((white @ white.T).mean()) < 0.01


@given(n=st.integers(0, 40), d=st.integers(1, 24), copies=st.booleans())
def test_any_number_of_rows_gives_finite_unit_vectors_of_one_width(
    n: int, d: int, *, copies: bool
) -> None:
    vectors = unit_rows(n, d)
    if copies and n:
        vectors = np.repeat(vectors[:1], n, axis=0)
    whitening = Whitening.fit(vectors, n_components=12)
    probe = unit_rows(5, d, seed=1)
    for rows in (vectors, probe):
        white = whitening(rows)
        assert white.shape == (len(rows), min(12, d))
        assert np.isfinite(white).all()
        norms = np.linalg.norm(white, axis=1)
        assert (np.isclose(norms, 1.0, atol=1e-4) | (norms < 1e-4)).all()


def test_two_items_stay_two_different_items() -> None:
    vectors = unit_rows(2, 384)
    white = Whitening.fit(vectors)(vectors)
    assert white.shape == (2, 256)
    assert white[0] @ white[1] < 0.99


def test_a_null_direction_is_not_blown_up() -> None:
    vectors = unit_rows(5_000, 32)
    vectors[:, -1] = 0.0
    whitening = Whitening.fit(vectors, n_components=32)
    noisy = vectors.copy()
    noisy[:, -1] = 1e-4
    assert (whitening(noisy) * whitening(vectors)).sum(axis=1).min() > 0.99


def test_a_saved_whitening_gives_equal_vectors(tmp_path: Path) -> None:
    vectors = unit_rows(100, 16)
    whitening = Whitening.fit(vectors)
    whitening.save(tmp_path / "whitening.safetensors")
    loaded = Whitening.load(tmp_path / "whitening.safetensors")
    np.testing.assert_array_equal(loaded(vectors), whitening(vectors))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whitening.safetensors"
    path.write_bytes(b"not this")
    with pytest.raises(ReleaseError, match="expected a safetensors file"):
        Whitening.load(path)


def test_a_vector_that_is_not_finite_is_refused() -> None:
    vectors = unit_rows(3, 4)
    vectors[1, 1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        Whitening.fit(vectors)
