import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from features.errors import DataError
from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, US_PER_DAY
from features.interactions import Interactions
from features.items import ITEM_SCHEMA
from jobs.peers.answers import DEPTH, answers, popularity_ranks, silent, top, validation_ndcg
from jobs.peers.arms import OWN, Arms, Failed, Ran, arm_commands, known_peers, run_fold
from jobs.peers.bench import run_bench
from jobs.peers.ease import ease_weights
from jobs.peers.judging import judged_arms
from jobs.peers.own_arm import run_own
from jobs.peers.report import peers_page, report_rows, verdict_of
from jobs.peers.run_peer import LISTS
from jobs.peers.sources import splits_of
from jobs.peers.split import Split, sequences_split, time_splits
from jobs.peers.world import DAY_US, World, last_round, validation_round
from jobs.plan import Plan
from recsys.evaluation.metrics import judge, ndcg
from recsys.evaluation.offline import relevant_rows
from recsys.progress import Silent
from recsys.settings import Settings
from recsys.training.recipe import TrainingData
from tests.jobs.test_benchmark import N_USERS, sequences
from tests.tiny import (
    FIRST_DAY_US,
    N_DAYS,
    TINY_COLORS,
    TINY_THINGS,
    item_row,
    tiny_config,
    tiny_events,
    tiny_items,
)

# Shows everybody the same items, as a peer would: lists, figures, exit code 0.
CONSTANT_PEER = """
import json, sys
import numpy as np
world = np.load(sys.argv[1] + "/world.npz")
lists = np.tile(np.arange(20, dtype=np.int32), (len(world["asked"]), 1))
np.save(sys.argv[2] + "/lists.npy", lists)
figures = {"fit_s": 1.5, "tune_s": 0, "recommend_s": 0.5, "peak_mb": 10, "settings": {"top": 20}}
open(sys.argv[2] + "/figures.json", "w").write(json.dumps(figures))
open(sys.argv[2] + "/../runs.txt", "a").write("x")
"""
FAILING_PEER = "print('fitting'); raise MemoryError('the catalogue is too large')"


def walks() -> Split:
    rows = [item_row(c, t) for c in TINY_COLORS for t in TINY_THINGS]
    items = pl.DataFrame(rows, schema=ITEM_SCHEMA)
    return sequences_split(items, sequences())


def shop() -> TrainingData:
    items = tiny_items()
    log = Interactions.build(tiny_events(), items["item_id"].to_list(), DEFAULT_EVENT_TYPES)
    return TrainingData(items, log, DEFAULT_EVENT_TYPES)


@pytest.fixture
def arms(tmp_path: Path) -> Arms:
    for name, text in {"constant": CONSTANT_PEER, "failing": FAILING_PEER}.items():
        (tmp_path / f"{name}.py").write_text(text)
    commands: dict[str, tuple[str, ...]] = {
        name: (sys.executable, str(tmp_path / f"{name}.py")) for name in ("constant", "failing")
    }
    commands["missing"] = (str(tmp_path / "no-python"), "-m", "peer")
    return Arms(work=tmp_path / "work", commands=commands, environment=dict(os.environ))


def test_peers_are_told_everything_before_the_question_and_nothing_else() -> None:
    split = walks()
    world = split.world()
    assert len(world.users) == N_USERS * 5  # of 6 events each
    assert world.time_us.max() == split.ask_us - US_PER_DAY
    assert np.bincount(world.users[world.is_validation]).tolist() == [1] * N_USERS
    learned = last_round(world).learned
    assert not (learned & world.is_validation).any()
    assert last_round(world).known.all()


def test_targets_are_those_of_the_benchmark() -> None:
    past = walks().questions()
    wanted = relevant_rows(past)
    last = sequences().sort("position").group_by("user_id", maintain_order=True).last()
    items = walks().data.items["item_id"].to_list()
    by_user = dict(zip(last["user_id"], last["item_id"], strict=True))
    assert len(wanted) == N_USERS
    found = {
        walks().data.log.user_ids[u]: items[r] for u, r in zip(past.users, wanted.rows, strict=True)
    }
    assert found == by_user


def test_time_is_cut_where_evaluate_cuts_it() -> None:
    data = shop()
    end_us = FIRST_DAY_US + N_DAYS * US_PER_DAY
    newer, older = time_splits(data, 2)
    plan = Plan.of(data.log.before(end_us), end_us, None)
    assert (newer.label_us, newer.ask_us, newer.end_us) == (
        plan.label_us,
        plan.evaluation_us,
        end_us,
    )
    assert older.end_us == newer.ask_us
    world = newer.world()
    assert world.time_us.max() < newer.ask_us
    assert last_round(world).learned.all()


def test_items_published_after_the_cut_are_not_in_the_catalogue() -> None:
    data = shop()
    early = replace(data, log=data.log.before(FIRST_DAY_US + 14 * US_PER_DAY))
    split = time_splits(early, 1)[0]
    assert "red-glove" not in split.data.items["item_id"].to_list()
    ids = split.data.items["item_id"].to_list()
    before = [data.items["item_id"][int(r)] for r in early.log.item_rows]
    assert [ids[int(row)] for row in split.data.log.item_rows] == before


def test_split_and_world_come_back_from_disk(tmp_path: Path) -> None:
    split = time_splits(shop(), 1)[0]
    split.save(tmp_path)
    split.world().save(tmp_path)
    again, world = Split.load(tmp_path), World.load(tmp_path)
    assert again.data.items.equals(split.data.items)
    assert again.data.event_types == split.data.event_types
    assert relevant_rows(again.questions()).rows.tolist() == (
        relevant_rows(split.questions()).rows.tolist()
    )
    assert world.refit is True
    assert np.array_equal(world.items, split.world().items)
    assert DAY_US == US_PER_DAY


def test_lists_mask_what_was_touched_and_are_filled_by_popularity() -> None:
    world = World(
        n_users=3,
        n_items=5,
        cut_us=100,
        refit=True,
        users=np.array([0, 0, 0, 1, 1], np.int32),
        items=np.array([0, 1, 2, 1, 2], np.int32),
        weights=np.array([1, 1, -1, 1, 1], np.float32),
        time_us=np.array([1, 2, 3, 4, 5]),
        asked=np.array([0, 1, 2], np.int32),
        tag_indptr=np.zeros(6, np.int64),
        tags=np.array([], np.int32),
    )
    questions = last_round(world)
    popular = popularity_ranks(world, questions, None)
    assert popular.tolist() == [1, 0, 2, 3, 4]  # a dislike is no vote

    def score(users: np.ndarray, history: sparse.csr_matrix) -> np.ndarray:
        found = np.full((len(users), 5), -np.inf, np.float32)
        found[:, 4] = 2.0
        found[:, 1] = 3.0
        return found

    lists = answers(world, questions, score, popular)
    assert lists[0, :3].tolist() == [4, 3, -1]
    assert lists[1, :4].tolist() == [4, 0, 3, -1]
    assert lists[2, :5].tolist() == [1, 0, 2, 3, 4]  # without a history: popularity alone


def test_equal_scores_go_by_item_row() -> None:
    scores = np.zeros((1, 30), np.float32)
    scores[0, 25] = 1
    assert top(scores)[0].tolist() == [25, *range(DEPTH - 1)]


def test_validation_asks_about_events_from_the_cut_on() -> None:
    world = walks().world()
    validation = validation_round(world, max_users=10, seed=0)
    assert len(validation.asked) == 10
    targets = world.positives(world.is_validation)[validation.asked].indices
    perfect = np.full((10, DEPTH), -1, np.int32)
    perfect[:, 0] = targets
    assert validation_ndcg(world, validation, perfect) == 1.0
    lists = answers(world, validation, silent, np.arange(60))
    assert 0 <= validation_ndcg(world, validation, lists) < 0.5


def test_ease_is_ridge_regression_of_each_item_on_the_others() -> None:
    rng = np.random.default_rng(0)
    X = (rng.random((40, 7)) < 0.4).astype(np.float32)
    found = ease_weights(sparse.csr_matrix(X), regularization=3.0)
    assert np.diag(found).tolist() == [0] * 7
    for item in range(7):
        others = np.delete(np.arange(7), item)
        A = X[:, others]
        expected = np.linalg.solve(A.T @ A + 3.0 * np.eye(6), A.T @ X[:, item])
        np.testing.assert_allclose(found[others, item], expected, atol=1e-5)


def test_a_peer_runs_through_the_bench_and_a_failing_one_is_reported(arms: Arms) -> None:
    split = walks()
    report = run_bench(arms, [split], "walks", Silent())
    by_name = {arm.name: arm for arm in report.arms}
    lists = np.tile(np.arange(DEPTH, dtype=np.int32), (N_USERS, 1))
    expected = ndcg(judge(lists, relevant_rows(split.questions())), 10).mean()
    constant = by_name["constant"]
    assert constant.quality is not None
    assert constant.quality["ndcg@10"].mean == pytest.approx(expected)
    assert (constant.fit_s, constant.peak_mb) == (1.5, 10)
    assert "the catalogue is too large" in str(by_name["failing"].error)
    assert by_name["missing"].error is not None
    assert report_rows(report)[0][0] == "constant"
    page = peers_page(report)
    assert "the catalogue is too large" in page
    assert "<svg" in page


def test_what_an_arm_has_done_is_kept_until_asked_for_afresh(arms: Arms) -> None:
    one = replace(arms, commands={"constant": arms.commands["constant"]})
    runs = arms.work / "fold-0-arms" / "runs.txt"
    for _ in range(2):
        run_bench(one, [walks()], "walks", Silent())
    assert runs.read_text() == "x"
    run_bench(replace(one, seed=1), [walks()], "walks", Silent())
    assert runs.read_text() == "xx"
    run_bench(one, [walks()], "walks", Silent(), fresh=True)
    assert runs.read_text() == "x"


def test_lists_for_other_users_are_refused(arms: Arms, tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(CONSTANT_PEER.replace('len(world["asked"])', "3"))
    short = replace(arms, commands={"short": (sys.executable, str(tmp_path / "short.py"))})
    found = run_fold(short, walks(), "fold-0", Silent())["short"]
    assert isinstance(found, Failed)
    assert "(3, 20)" in found.error


def test_this_system_is_measured_like_a_peer_and_compared_by_user(
    arms: Arms, tiny_text_encoder: Path, tmp_path: Path
) -> None:
    recipe = tiny_config(tiny_text_encoder).recipe
    recipe = replace(recipe, ranker=replace(recipe.ranker, epochs=10))
    split = walks()
    run_own(split, recipe, tmp_path, Silent(), threads=1, seed=3)
    own = np.load(tmp_path / LISTS)
    constant = run_fold(
        replace(arms, commands={"constant": arms.commands["constant"]}), split, "f", Silent()
    )
    figures = {"fit_s": 1.0, "tune_s": 0.0, "recommend_s": 1.0, "peak_mb": 1.0, "settings": {}}
    results = [{OWN: Ran(own, figures), **constant}]
    report = judged_arms([split], results, dataset="walks", seed=0, threads=1)
    quality = next(arm.quality for arm in report.arms if arm.name == OWN)
    assert quality is not None
    assert quality["recall@10"].mean > 0.8  # what always follows is found
    assert report.best_peer == "constant"
    assert "ahead of the best peer, constant" in verdict_of(report)


def test_a_shopper_of_several_windows_is_one_shopper() -> None:
    splits = time_splits(shop(), 2)
    figures = {"fit_s": 1.0, "tune_s": 0.0, "recommend_s": 1.0, "peak_mb": 1.0, "settings": {}}
    results, asked = [], []
    for number, split in enumerate(splits):
        past = split.questions()
        wanted = relevant_rows(past)
        lists = np.full((len(past), DEPTH), -1, np.int32)
        has = np.flatnonzero(np.diff(wanted.indptr))
        if number == 0:  # the newer window's lists hit at once, the older one's are empty
            lists[has, 0] = wanted.rows[wanted.indptr[has]]
        results.append({"peer": Ran(lists, figures)})
        asked.append(set(past.users[has].tolist()))
    assert asked[0] & asked[1]
    report = judged_arms(splits, results, dataset="shop", seed=0, threads=1)
    assert report.users == len(asked[0] | asked[1])
    quality = report.arms[0].quality
    assert quality is not None
    recalls = judge(results[0]["peer"].lists, relevant_rows(splits[0].questions()))
    own = recalls.hits.sum(axis=1) / recalls.n_relevant
    halved = [u in asked[1] for u in splits[0].questions().users[recalls.users]]
    expected = np.where(halved, own / 2, own).sum() / report.users
    assert quality["recall@10"].mean == pytest.approx(expected)


def test_sequences_are_found_in_a_folder_and_anything_else_is_imported(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    folder = tmp_path / "walks"
    folder.mkdir()
    items = [item_row(c, t) for c in TINY_COLORS for t in TINY_THINGS]
    pl.DataFrame(items).select("item_id", "title", "tags").write_ndjson(folder / "items.jsonl")
    sequences().write_csv(folder / "sequences.csv")
    name, splits = splits_of(folder, settings, 1, Silent(), now_us=0)
    assert (name, splits[0].is_strict) == ("walks", True)
    with pytest.raises(DataError, match="cut once"):
        splits_of(folder, settings, 2, Silent(), now_us=0)
    shop_folder = tmp_path / "shop"
    shop_folder.mkdir()
    tiny_items().select("item_id", "title", "tags").write_parquet(shop_folder / "items.parquet")
    tiny_events().select(*EVENT_SCHEMA).rename({"event_time_us": "event_time"}).write_parquet(
        shop_folder / "events.parquet"
    )
    now_us = FIRST_DAY_US + 2 * N_DAYS * US_PER_DAY
    _, splits = splits_of(shop_folder, settings, 1, Silent(), now_us=now_us)
    assert not splits[0].is_strict
    assert not settings.data_dir.exists()


def test_unknown_peers_are_named() -> None:
    assert known_peers(["ease", "als"]) == ("als", "ease")
    with pytest.raises(DataError, match="svd"):
        known_peers(["svd"])
    commands = arm_commands(Path("python"), ("ease",))
    assert list(commands) == [OWN, "ease"]
