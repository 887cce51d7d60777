import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError
from features.items import ITEM_SCHEMA
from features.views import FEATURE_NAMES, FEATURE_VIEWS, SOURCES
from jobs.ablation import Removal, removals, run_ablation, without
from jobs.ablation_table import (
    Ablation,
    Outcome,
    Row,
    Standing,
    summarise,
    write_ablation_page,
)
from jobs.judged_past import JudgedPast
from jobs.lambdamart import fit_lambdamart, graded
from recsys.bundle import Bundle
from recsys.evaluation.metrics import judge, ndcg
from recsys.evaluation.offline import ranked_lists
from recsys.policy import Policy
from recsys.progress import Silent
from recsys.training.queries import RankingRows
from recsys.training.ranker import RankerConfig
from recsys.training.recipe import RecipeConfig
from recsys.training.rows import Labelled, labelled_batches
from tests.jobs.test_benchmark import N_USERS, sequences
from tests.tiny import TINY_COLORS, TINY_THINGS, item_row, tiny_config

# One source finds what follows, one never says anything: the items have no dates.
POLICY = Policy(sources={"co_visited": 30, "new_items": 20})


@pytest.fixture(scope="module")
def task() -> JudgedPast:
    items = pl.DataFrame(
        [item_row(c, t) for c in TINY_COLORS for t in TINY_THINGS], schema=ITEM_SCHEMA
    )
    return JudgedPast.of_sequences(items, sequences(), "walks")


@pytest.fixture(scope="module")
def config(tiny_text_encoder: Path) -> RecipeConfig:
    recipe = tiny_config(tiny_text_encoder).recipe
    return replace(recipe, policy=POLICY, ranker=replace(recipe.ranker, epochs=10))


@pytest.fixture(scope="module")
def run(
    task: JudgedPast, config: RecipeConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ablation, Bundle]:
    folder = tmp_path_factory.mktemp("ablation")
    report = run_ablation(
        task, config, folder, Silent(), kinds=("source", "views"), seed=3, n_seeds=2
    )
    return report, Bundle.load(folder / "serving")


def standing(report: Ablation, name: str) -> Standing:
    return next(one for one in report.standings if one.name == name)


def test_a_source_that_proposes_nothing_costs_nothing(run: tuple[Ablation, Bundle]) -> None:
    report = run[0]
    everything, rest = report.standings[0], standing(report, "without new_items")
    assert everything.name == "all sources"
    assert rest.ndcg_by_seed == everything.ndcg_by_seed
    assert rest.candidates == everything.candidates
    assert (rest.only_it_proposed.mean, rest.ndcg_minus_all.low) == (0, 0)


def test_a_source_that_alone_finds_what_follows_costs_everything(
    run: tuple[Ablation, Bundle],
) -> None:
    report = run[0]
    everything, rest = report.standings[0], standing(report, "without co_visited")
    assert everything.candidate_recall > 0.95
    assert everything.recall.mean > 0.8
    assert (rest.candidates, rest.candidate_recall, rest.recall.mean) == (0, 0, 0)
    assert rest.only_it_proposed.mean == everything.candidate_recall
    assert rest.ndcg_minus_all.mean == pytest.approx(-everything.ndcg.mean)
    assert rest.ndcg_minus_all.excludes_zero


def test_with_everything_it_is_the_ranker_a_release_would_get(
    run: tuple[Ablation, Bundle], task: JudgedPast
) -> None:
    report, bundle = run
    lists = ranked_lists(bundle, task.questions(bundle), POLICY, Silent())
    found = ndcg(judge(lists.by_name["ranker"], lists.relevant), 10).mean()
    assert report.users == N_USERS
    assert report.standings[0].ndcg_by_seed[0] == pytest.approx(found)
    assert len(report.standings[0].ndcg_by_seed) == 2


def test_every_group_of_views_is_removed_once_and_its_candidates_stay(
    run: tuple[Ablation, Bundle],
) -> None:
    groups = {view.group for view in FEATURE_VIEWS}
    rows = run[0].of("views")
    assert {one.name for one in rows} == {f"without views: {group}" for group in groups}
    assert {one.candidates for one in rows} == {run[0].standings[0].candidates}


def answers(bundle: Bundle, task: JudgedPast, policy: Policy) -> Labelled:
    batches = labelled_batches(
        bundle, task.questions(bundle), task.data.actions, policy, Silent(), label=""
    )
    return next(iter(batches))


@pytest.mark.parametrize("source", SOURCES)
def test_without_a_source_is_as_if_it_had_never_been_asked(
    run: tuple[Ablation, Bundle], task: JudgedPast, source: str
) -> None:
    sizes = dict.fromkeys(SOURCES, 8)
    everything = answers(run[1], task, Policy(sources=sizes))
    reduced = without(everything, Removal("", "source", frozenset({source})))
    asked = answers(run[1], task, Policy(sources=sizes | {source: 0}))
    assert np.array_equal(reduced.candidates.item_rows, asked.candidates.item_rows)
    assert np.array_equal(reduced.candidates.offsets, asked.candidates.offsets)
    assert np.array_equal(reduced.labels, asked.labels)
    own = [n for n, view in enumerate(FEATURE_VIEWS) if view.group == source]
    assert np.isnan(reduced.features[:, own]).all()
    others = np.setdiff1d(np.arange(len(FEATURE_VIEWS)), own)
    np.testing.assert_allclose(
        reduced.features[:, others], asked.features[:, others], rtol=1e-4, atol=1e-4
    )


def test_without_views_only_their_columns_are_unknown(
    run: tuple[Ablation, Bundle], task: JudgedPast
) -> None:
    everything = answers(run[1], task, Policy())
    reduced = without(everything, Removal("", "views", views=frozenset({"tags"})))
    tags = np.array([view.group == "tags" for view in FEATURE_VIEWS])
    assert tags.sum() >= 2
    assert np.isnan(reduced.features[:, tags]).all()
    assert np.array_equal(reduced.features[:, ~tags], everything.features[:, ~tags], equal_nan=True)
    assert reduced.candidates is everything.candidates


def test_a_source_alone_is_without_all_others() -> None:
    alone = next(one for one in removals(["alone"]) if one.name == "only trending")
    assert alone.sources == set(SOURCES) - {"trending"}
    assert [one.kind for one in removals(["alone"])].count("all") == 1


def test_differences_are_taken_by_shopper() -> None:
    everything = Outcome(9.0, np.array([1.0, 1, 0, 1]), np.ones((2, 4)), np.full((2, 4), 0.8))
    scored = np.array([[0.8, 0.8, 0.2, 0.2], [0.8, 0.8, 0.4, 0.4]])
    reduced = Outcome(5.0, np.array([1.0, 0, 0, 1]), np.ones((2, 4)), scored)
    report = summarise(
        dataset="hand",
        protocol="time",
        seed=0,
        n_seeds=2,
        users=4,
        items=3,
        rows=[Row("all sources", "all", everything), Row("without x", "source", reduced)],
        seconds={},
    )
    rest = report.standings[1]
    assert rest.only_it_proposed.mean == 0.25
    assert rest.ndcg_by_seed == pytest.approx((0.5, 0.6))
    assert rest.seed_spread == pytest.approx(0.1 / 2**0.5)
    assert rest.ndcg_minus_all.mean == pytest.approx(-0.25)
    assert rest.ndcg_minus_all.low == pytest.approx(-0.5)
    assert rest.recall_minus_all.mean == 0


def test_the_page_needs_nothing_else(run: tuple[Ablation, Bundle], tmp_path: Path) -> None:
    write_ablation_page(run[0], tmp_path / "out.html", "today")
    page = (tmp_path / "out.html").read_text("utf-8")
    assert "without co_visited" in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert 'src="http' not in page


def test_the_worthiest_action_is_the_grade() -> None:
    labels = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    grades, label_gain = graded(labels, np.array([1, 3, -4], np.float32))
    assert grades.tolist() == [0, 1, 2, 0]
    assert label_gain == [0, 1, 3]


def test_without_lightgbm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigError, match=r"storefront-recsys\[bench\]"):
        fit_lambdamart(ranking_rows(10), np.ones(1, np.float32), RankerConfig())


def ranking_rows(n_queries: int) -> RankingRows:
    """Eight candidates a query; the one with the greatest first view is taken."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n_queries, 8, len(FEATURE_NAMES))).astype(np.float32)
    taken = features[:, :, 0] == features[:, :, 0].max(axis=1, keepdims=True)
    return RankingRows(
        offsets=np.arange(n_queries + 1, dtype=np.int64) * 8,
        features=features.reshape(-1, len(FEATURE_NAMES)),
        labels=taken.reshape(-1, 1).astype(np.float32),
        stands_for=np.ones(n_queries * 8, np.float32),
        positions=np.full(n_queries * 8, -1, np.int32),
        held_out=np.arange(n_queries) % 5 == 0,
    )


def test_lambdamart_learns_what_is_taken() -> None:
    pytest.importorskip("lightgbm", reason="the yardstick is an extra: bench")
    rows, fresh = ranking_rows(300), ranking_rows(300)
    model = fit_lambdamart(rows, np.ones(1, np.float32), RankerConfig())
    best = model.scores(fresh.features).reshape(-1, 8).argmax(axis=1)
    assert (best == fresh.labels.reshape(-1, 8).argmax(axis=1)).mean() > 0.9
    assert len(model.scores(fresh.features[:0])) == 0
