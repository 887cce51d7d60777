from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import Float32Array
from features.errors import DataError, ReleaseError
from recsys.progress import Silent
from recsys.retrieval.exact import exact_top
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.shortlist import IndexKind, Shortlist
from recsys.training.index import IndexChoice, IndexConfig, choose_index, recall_at


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


def test_appending_to_a_mapped_index_copies_it_unless_room_was_reserved(tmp_path: Path) -> None:
    VectorIndex(matrix(50)).save(tmp_path / "vectors.npy")
    unprepared, index = (VectorIndex.load(tmp_path / "vectors.npy") for _ in range(2))
    index.reserve(3)
    for each, in_place in ((unprepared, False), (index, True)):
        before = each.vectors
        each.append(matrix(3, seed=1))
        assert np.shares_memory(before, each.vectors) == in_place
        np.testing.assert_array_equal(each.vectors, np.vstack([matrix(50), matrix(3, seed=1)]))


def test_room_reserved_while_others_write_loses_no_row() -> None:
    index = VectorIndex(matrix(20_000, 64))
    done = Event()

    def reserve() -> None:
        while not done.is_set():
            index.reserve(len(index) + 1)  # more than there is after every append

    reserving = Thread(target=reserve)
    reserving.start()
    added = [matrix(1, 64, seed) for seed in range(200)]
    for row in added:
        index.append(row)
        sleep(1e-4)  # so that the other thread has its turn
    done.set()
    reserving.join()
    np.testing.assert_array_equal(index.vectors, np.vstack([matrix(20_000, 64), *added]))


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


def clustered(n: int, d: int = 16, seed: int = 0) -> Float32Array:
    """Unit rows in 40 families, as items of a shop are."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, d))[rng.integers(40, size=n)] + 0.5 * rng.normal(size=(n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def chosen(
    vectors: Float32Array, kind: Literal["auto", "flat", "fp16", "pq4", "cells", "hnsw"]
) -> IndexChoice:
    config = IndexConfig(kind=kind, threads=1)
    questions = vectors[::40] + vectors[7::40][: len(vectors[::40])]
    return choose_index(vectors, sample_queries=questions, config=config, progress=Silent())


QUICK: tuple[IndexKind, ...] = ("fp16", "pq4", "cells", "hnsw")


@pytest.fixture(scope="module")
def choices() -> dict[IndexKind, IndexChoice]:
    return {kind: chosen(clustered(6000), kind) for kind in QUICK}


def test_each_kind_finds_the_exact_200_and_its_report_says_so(
    choices: dict[IndexKind, IndexChoice],
) -> None:
    for kind, choice in choices.items():
        assert choice.report.kind == kind
        assert choice.shortlist is not None
        assert choice.report.recall_at_200 >= 0.99
        assert choice.report.recalls.keys() == choice.report.milliseconds.keys() == {"flat", kind}
        assert (choice.report.n, choice.report.dim) == (6000, 16)
        index = VectorIndex(clustered(6000), choice.shortlist)
        for share in (1.0, 0.9, 0.5):
            allowed = np.random.default_rng(1).random(6000) < share
            assert recall_at(index, clustered(80), allowed=allowed) >= 0.985


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(QUICK),
    steps=st.lists(st.sampled_from(["append", "replace", "nothing"]), max_size=6),
    share=st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.9, 1.0]),
    n=st.sampled_from([1, 10, 200]),
    n_queries=st.sampled_from([1, 3, 9]),
    seed=st.integers(0, 1000),
)
def test_after_any_changes_each_kind_answers_as_an_exact_search_does(
    choices: dict[IndexKind, IndexChoice],
    kind: IndexKind,
    steps: list[str],
    share: float,
    n: int,
    n_queries: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    index = VectorIndex(clustered(6000), choices[kind].shortlist)
    queries = clustered(n_queries, seed=0) + 0.2 * matrix(n_queries, 16, seed=seed)
    changed: set[int] = set()
    for step in steps:
        loud = np.asarray(queries[:1] * rng.uniform(-1, 3, (5, 1)), np.float32)
        if step == "append":
            changed.update(range(len(index), len(index) + 5))
            index.append(loud)
        elif step == "replace":
            for vector, row in zip(loud, rng.integers(len(index), size=5).tolist(), strict=True):
                changed.add(row)
                index.replace(row, vector)
    allowed = rng.random(len(index)) < share
    rows, scores = index.search(queries, n, allowed)
    assert rows.shape == scores.shape == (n_queries, n)
    assert allowed[rows[rows >= 0]].all()
    for found in rows:
        assert len(np.unique(found[found >= 0])) == (found >= 0).sum()
    products = np.where(allowed, queries @ index.vectors.T, -np.inf)
    exact = -np.sort(-products, axis=1)[:, :n]
    n_exact = int(np.isfinite(exact[0]).sum())
    assert ((rows >= 0).sum(axis=1) == n_exact).all()
    found_scores = scores[:, :n_exact]
    if kind == "fp16":
        np.testing.assert_allclose(found_scores, exact[:, :n_exact], rtol=1e-4, atol=1e-5)
    elif n_exact:
        hits = found_scores >= exact[:, n_exact - 1 : n_exact] - 1e-5
        assert hits.mean() >= 0.9  # of one to nine queries; the mean of many is tested above
    late = np.array(sorted(changed), np.int64)
    for query in range(n_queries if n_exact else 0):
        best = late[products[query, late] > exact[query, n_exact - 1] + 1e-5]
        assert set(best.tolist()) <= set(rows[query].tolist())


@pytest.mark.parametrize("kind", QUICK)
def test_a_filter_that_forbids_all_near_rows_is_searched_past(
    kind: IndexKind, choices: dict[IndexKind, IndexChoice]
) -> None:
    index = VectorIndex(clustered(6000), choices[kind].shortlist)
    query = clustered(1)
    far = np.argsort(-(query @ index.vectors.T)[0])[2000:]
    allowed = np.zeros(6000, np.bool_)
    allowed[far] = True
    np.testing.assert_array_equal(index.search(query, 50, allowed)[0][0], far[:50])


@pytest.mark.parametrize("kind", QUICK)
def test_no_rows_asked_for_are_no_rows(
    kind: IndexKind, choices: dict[IndexKind, IndexChoice]
) -> None:
    index = VectorIndex(clustered(6000), choices[kind].shortlist)
    for allowed in (None, np.arange(6000) % 2 == 0):
        rows, scores = index.search(clustered(2), 0, allowed)
        assert rows.shape == scores.shape == (2, 0)


def test_a_row_that_is_replaced_during_a_search_is_found(
    choices: dict[IndexKind, IndexChoice],
) -> None:
    vectors, query = clustered(6000), clustered(1)
    index = VectorIndex(vectors, choices["fp16"].shortlist)
    exact = index.search(query, 200)[0]

    def replace_all() -> None:
        for row in exact[0]:
            index.replace(int(row), vectors[row])  # by itself: no answer may change
            sleep(1e-4)

    writing = Thread(target=replace_all)
    writing.start()
    while writing.is_alive():
        assert set(index.search(query, 200)[0][0]) == set(exact[0])
    writing.join()


@pytest.mark.parametrize("kind", QUICK)
def test_a_loaded_shortlist_answers_as_the_one_that_was_saved(
    kind: IndexKind, choices: dict[IndexKind, IndexChoice], tmp_path: Path
) -> None:
    index = VectorIndex(clustered(6000), choices[kind].shortlist)
    index.save(tmp_path / "vectors.npy")
    choices[kind].save(tmp_path / "vectors.npy")
    loaded = VectorIndex.load(tmp_path / "vectors.npy")
    assert loaded.shortlist is not None
    for ours, theirs in zip(
        index.search(clustered(2), 50), loaded.search(clustered(2), 50), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("damage", ["missing", "truncated", "other kind", "other size", "no card"])
def test_a_shortlist_that_does_not_fit_is_a_release_error(
    kind: IndexKind, damage: str, choices: dict[IndexKind, IndexChoice], tmp_path: Path
) -> None:
    path = tmp_path / "vectors.npy"
    n = 5999 if damage == "other size" else 6000
    VectorIndex(clustered(6000)[:n]).save(path)
    choices[kind].save(path)
    copy, card = path.with_suffix(".faiss"), path.with_suffix(".index.json")
    if damage == "missing":
        copy.unlink()
    elif damage == "truncated":
        copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    elif damage == "other kind":
        other = "fp16" if kind != "fp16" else "hnsw"
        card.write_text(card.read_text().replace(f'"kind": "{kind}"', f'"kind": "{other}"'))
    elif damage == "no card":
        card.write_text("{}")
    with pytest.raises(ReleaseError, match="vectors"):
        VectorIndex.load(path)


def test_recall_is_that_of_one_query_at_a_time_even_where_many_are_searched_exactly(
    choices: dict[IndexKind, IndexChoice],
) -> None:
    pq4 = choices["pq4"].shortlist
    assert pq4 is not None
    shallow = VectorIndex(clustered(6000), Shortlist("pq4", pq4.index, depth=0))
    queries = clustered(60)
    exact = exact_top(queries, shallow.vectors, 200)[0]
    np.testing.assert_array_equal(shallow.search(queries, 200)[0], exact)
    assert recall_at(shallow, queries) < 0.99


def test_what_does_not_find_enough_is_refused_and_the_reason_says_so() -> None:
    vectors = matrix(3000, 64)  # without structure a graph of 2 links finds little
    config = IndexConfig(kind="hnsw", links=2, build_depth=4, threads=1)
    choice = choose_index(
        vectors, sample_queries=matrix(60, 64, 1), config=config, progress=Silent()
    )
    assert choice.shortlist is None
    assert (choice.report.kind, choice.report.recall_at_200) == ("flat", 1.0)
    assert choice.report.recalls["hnsw"] < 0.99
    assert "hnsw found" in choice.report.reason


def test_a_small_catalogue_few_queries_or_the_configuration_keep_the_search_flat(
    tmp_path: Path,
) -> None:
    small = chosen(clustered(900), "auto")
    assert (small.report.kind, small.report.reason) == ("flat", "the catalogue is small")
    assert chosen(clustered(3000), "flat").report.reason == "so configured"
    few = choose_index(
        clustered(3000),
        sample_queries=clustered(10),
        config=IndexConfig(kind="fp16"),
        progress=Silent(),
    )
    assert (few.report.kind, few.shortlist) == ("flat", None)
    assert "too few" in few.report.reason
    VectorIndex(clustered(900)).save(tmp_path / "vectors.npy")
    small.save(tmp_path / "vectors.npy")
    assert VectorIndex.load(tmp_path / "vectors.npy").shortlist is None


def test_numbers_beyond_half_precision_are_still_answered_exactly() -> None:
    vectors = matrix(2000) * np.float32(1e6)
    choice = chosen(vectors, "fp16")
    index = VectorIndex(vectors, choice.shortlist)
    np.testing.assert_array_equal(
        index.search(matrix(2), 20)[0], exact_top(matrix(2), vectors, 20)[0]
    )


def test_rows_that_are_no_numbers_are_never_found(choices: dict[IndexKind, IndexChoice]) -> None:
    for n_queries in (1, 9):
        vectors = matrix(50)
        vectors[3] = np.nan
        rows, scores = VectorIndex(vectors).search(matrix(n_queries), 50)
        assert 3 not in rows
        assert (np.isnan(scores) == (rows < 0)).all()
