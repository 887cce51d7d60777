import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from features.arrays import Float64Array
from features.errors import ConfigError, DataError
from jobs.__main__ import app
from jobs.offpolicy.open_bandit import judge_directions, mean_chances, read_log, replay_both
from jobs.offpolicy.past import past_experiments
from jobs.offpolicy.storefront import LOGGED, TARGETS, Shop, run_storefront_replays
from jobs.sample.world import SLATE_LENGTH
from recsys.evaluation.offpolicy.policy import from_table
from recsys.evaluation.offpolicy.replay import ReplayConfig, replay
from recsys.progress import Silent
from tests.jobs.both_ways import shown_both_ways
from tests.jobs.test_real_data import real
from tests.recsys.off_policy_by_hand import CLIP, SWITCH, by_hand

exactly = partial(pytest.approx, rel=1e-9, abs=1e-12)


def bandit_target(name: str, rows: pl.DataFrame) -> Float64Array:
    """(positions, items) by plain loops: the mean logged chance made to sum to 1, or 1 / n."""
    n_items = int(rows["item_id"].max()) + 1  # type: ignore[arg-type]
    if name == "random":
        return np.full((3, n_items), 1 / n_items)
    sums, counts = np.zeros((3, n_items)), np.zeros((3, n_items))
    columns = ("position", "item_id", "propensity_score")
    for position, item, chance in rows.select(columns).iter_rows():
        sums[position - 1, item] += chance
        counts[position - 1, item] += 1
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return np.asarray(means / means.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("campaign", ["men", "all"])
@pytest.mark.parametrize(("shown", "target"), [("random", "bts"), ("bts", "random")])
def test_open_bandit_is_what_it_is_by_hand(campaign: str, shown: str, target: str) -> None:
    folder = real("open-bandit")
    log = read_log(folder, shown, campaign)
    rows = pl.read_csv(folder / target / campaign / f"{campaign}.csv.gz")
    hand = bandit_target(target, rows)[:, log.item_ids.cast(pl.Int64).to_numpy()]
    if target == "bts":
        policy = from_table(mean_chances(read_log(folder, "bts", campaign)), log)
    else:
        policy = from_table(even_chances(hand.shape[1]), log)
    found = replay(log, policy, ReplayConfig(clip=CLIP, switch=SWITCH))
    assert {one.name: one.value for one in found.values} == exactly(by_hand(log, hand))


def even_chances(n_items: int) -> pl.DataFrame:
    return pl.DataFrame({"item_id": np.arange(n_items), "chance": 1 / n_items})


@pytest.mark.parametrize("campaign", ["men", "all"])
def test_open_bandit_intervals_cover_the_other_logs_click_rate(campaign: str) -> None:
    directions = replay_both(real("open-bandit"), campaign, seed=0)
    assert all(one.replayed.verdict.standing != "refuse" for one in directions)
    rows = judge_directions(directions).rows
    assert len(rows) == 12
    assert [row.covers for row in rows if row.estimator != "dm"] == [True] * 10


def test_a_rarely_shown_item_alone_is_a_hopeless_target() -> None:
    log = read_log(real("open-bandit"), "bts", "men")
    rare = log.item_ids[int(np.bincount(log.item_rows).argmin())]
    found = replay(log, from_table(pl.DataFrame({"item_id": [rare], "chance": [1.0]}), log))
    assert found.verdict.standing == "refuse"
    assert "exposures of the target, at least 100 are needed" in found.verdict.words


@cache
def shop() -> Shop:
    return Shop.open(3, shoppers=1_000, items=80)


def test_the_storefronts_chances_are_those_it_logged() -> None:
    log = shop().log(300, np.random.default_rng(0))
    assert log.contexts is not None
    assert set(np.unique(log.contexts)) > {0}
    table = shop().chances(LOGGED)
    assert table[log.contexts, log.item_rows] == exactly(log.propensities)
    for mixture in TARGETS.values():
        assert shop().chances(mixture).sum(axis=1) == exactly(1.0)


def test_slates_of_another_mixture_are_drawn_by_its_chances() -> None:
    mixture = TARGETS["more similar"]
    log = shop().log(8_000, np.random.default_rng(2), mixture)
    assert log.contexts is not None
    table = shop().chances(mixture)
    assert table[log.contexts, log.item_rows] == exactly(log.propensities)
    n_slates = len(log) // SLATE_LENGTH
    assert len(np.unique(log.request_rows * 1_000 + log.item_rows)) == len(log), "no item twice"
    for position in (0, 5):
        there = log.positions == position
        contexts, items = log.contexts[there], log.item_rows[there]
        expected = table[contexts].sum(axis=0)
        deviation = np.sqrt((table[contexts] * (1 - table[contexts])).sum(axis=0))
        shown = np.bincount(items, minlength=len(expected))
        assert shown.sum() == n_slates
        assert (np.abs(shown - expected) < 5 * deviation + 1).all()


def test_replays_predict_what_experiments_of_the_storefront_measure() -> None:
    found = past_experiments(experiments=12, shoppers=500, seed=1, progress=Silent())
    assert found.agreeing >= 9  # 95 % of 12 less 3 standard errors
    assert found.bias_low < 0.02
    assert found.bias_high > -0.02
    assert found.slope is not None
    assert 0.5 < found.slope < 1.5


def test_the_storefronts_truth_is_what_many_shoppers_do() -> None:
    (truth,) = shop().truth([LOGGED])
    log = shop().log(30_000, np.random.default_rng(1))
    by_user = np.bincount(log.unit_rows, log.rewards - truth)
    se = np.sqrt((by_user**2).sum()) / len(log)
    assert log.rewards.mean() == pytest.approx(truth, abs=4 * se)
    assert se < 0.01 * truth
    assert len(log) % SLATE_LENGTH == 0


def test_replays_of_the_storefront_hold_its_truth() -> None:
    found = run_storefront_replays(replays=60, shoppers=600, seed=0, progress=Silent())
    for row in found.rows:
        if row.estimator == "dm":
            assert row.covered is None
            continue
        assert row.covered is not None
        assert row.lift_covered is not None
        assert min(row.covered, row.lift_covered) >= 0.86, row  # 95 % less 3 standard errors
        assert abs(row.bias) < 4 * row.spread / np.sqrt(60), row
    assert all(sum(counts.values()) == 60 for counts in found.verdicts.values())
    assert sum(counts["refuse"] for counts in found.verdicts.values()) == 0


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return shown_both_ways(tmp_path, monkeypatch)


def run(*words: str) -> Result:
    found = CliRunner().invoke(app, ["replay", *words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def chances(folder: Path, **columns: list[object]) -> str:
    pl.DataFrame(columns).write_parquet(folder / "target.parquet")
    return str(folder / "target.parquet")


def test_a_target_is_replayed_on_the_lake_by_command(lake: Path) -> None:
    """i0 first, always: a quarter of all exposures was clicked there, at twice the weight."""
    always = chances(lake, item_id=["i0", "i1"], position=[0, 1], chance=[1.0, 1.0])
    out = lake / "figures.json"
    found = run(always, "--json", str(out), "--per", "slate", "--placement", "home")
    assert found.exit_code == 0
    assert "SNIPS" in found.output
    assert "Usable" in found.output
    figures = json.loads(out.read_text())
    assert figures["verdict"]["standing"] == "usable"
    assert figures["logged"]["value"] == pytest.approx(100 / 400)
    assert figures["values"][0]["value"] == pytest.approx(2 * 100 / 400)


def test_a_replay_that_is_refused_ends_with_1_and_the_reason(lake: Path) -> None:
    never = chances(lake, item_id=["i9"], chance=[1.0])
    found = run(never)
    assert found.exit_code == 1
    assert "Refused: " in found.output
    assert "nan" not in found.output.lower()


def test_what_cannot_be_replayed_is_said_in_words(lake: Path) -> None:
    even = chances(lake, item_id=["i0", "i1"], chance=[0.5, 0.5])
    with pytest.raises(DataError, match="no slates since 2999-01-01"):
        run(even, "--since", "2999-01-01")
    with pytest.raises(DataError, match="no slates at cart"):
        run(even, "--placement", "cart")
    with pytest.raises(ConfigError, match="expected YYYY-MM-DD"):
        run(even, "--since", "yesterday")
    with pytest.raises(DataError, match="unreadable"):
        run(str(lake / "none.parquet"))
    with pytest.raises(ConfigError, match="--per"):
        run(even, "--per", "page")
    with pytest.raises(ConfigError, match="expected one of the two"):
        run()
    with pytest.raises(DataError, match="found exploration none below a half in the log"):
        run("--exploration", "0")
    assert run(even, "--reward", "purchase").exit_code == 1


def test_the_benchmark_writes_what_it_shows(tmp_path: Path) -> None:
    out = tmp_path / "offpolicy.json"
    words = ["benchmark-offpolicy", "--json", str(out), "--replays", "3", "--shoppers", "300"]
    words += ["--experiments", "4"]
    found = CliRunner().invoke(app, words, catch_exceptions=False)
    assert found.exit_code == 0
    figures = json.loads(out.read_text())
    assert len(figures["storefront"]["rows"]) == 6 * len(TARGETS)
    assert len(figures["experiments"]["pairs"]) == 4
    assert "of 4 replays agree with their experiment" in found.output
    assert figures["open_bandit"] is None
