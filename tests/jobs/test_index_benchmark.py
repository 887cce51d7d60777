import numpy as np

from jobs.index_benchmark import enlarged, index_speed
from recsys.progress import Silent
from recsys.training.index import IndexConfig


def test_an_enlarged_catalogue_keeps_its_rows_and_adds_ones_near_them() -> None:
    rng = np.random.default_rng(0)
    vectors = np.eye(50, 64, dtype=np.float32)
    matrix = enlarged(vectors, 150, rng)
    assert matrix.shape == (150, 64)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-5)
    nearness = (matrix @ vectors.T).max(axis=1)
    assert (nearness > 0.999).sum() == 50
    assert nearness.min() > 0.4
    assert enlarged(vectors, 20, rng).shape == (20, 64)
    np.testing.assert_array_equal(vectors, np.eye(50, 64))


def test_kinds_are_compared_at_each_size_and_share_with_the_flat_search_as_one() -> None:
    vectors = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    rows = index_speed(
        vectors,
        [2000, 3000],
        kinds=("flat", "pq4"),
        shares=(1.0, 0.5),
        n_queries=20,
        config=IndexConfig(threads=1),
        progress=Silent(),
    )
    assert [(row.kind, row.n, row.allowed) for row in rows] == [
        (kind, n, share) for n in (2000, 3000) for share in (1.0, 0.5) for kind in ("flat", "pq4")
    ]
    for row in rows:
        assert row.d == 16
        assert 0 < row.p50_ms <= row.p99_ms
        assert row.recall_at_200 == 1.0 if row.kind == "flat" else row.recall_at_200 > 0.9
        assert row.ratio == 1.0 if row.kind == "flat" else row.ratio > 0
        assert row.mib > 0
