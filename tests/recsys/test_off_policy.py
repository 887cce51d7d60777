from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from features.errors import DataError
from recsys.evaluation.offpolicy.intervals import bca_interval, resampled_sums
from recsys.evaluation.offpolicy.log import ExposureLog, from_frame, from_lake
from recsys.evaluation.offpolicy.policy import (
    RowPolicy,
    TablePolicy,
    explored_at,
    from_table,
    uniform,
)
from recsys.evaluation.offpolicy.replay import Name, ReplayConfig, Value, replay
from recsys.ranking.slate import explore
from tests.recsys.off_policy_by_hand import CLIP, SWITCH, by_hand

exactly = partial(pytest.approx, rel=1e-9, abs=1e-12)
N_ITEMS, N_POSITIONS = 4, 2
LOGGED = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])  # by position
TARGET = np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
WORTH = np.array([[0.1, 0.2, 0.3, 0.4], [0.05, 0.1, 0.2, 0.3]])


def drawn_log(seed: int, n_users: int = 300) -> ExposureLog:
    """Shoppers with one to four slates of two positions, filled from LOGGED."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), 1 + rng.integers(4, size=n_users))
    request = np.repeat(np.arange(len(user)), N_POSITIONS)
    position = np.tile(np.arange(N_POSITIONS), len(user))
    item = (rng.random((len(request), 1)) > LOGGED[position].cumsum(axis=1)).sum(axis=1)
    return ExposureLog(
        unit_rows=user[request],
        request_rows=request,
        positions=position,
        item_rows=item,
        rewards=(rng.random(len(item)) < WORTH[position, item]).astype(np.float64),
        propensities=LOGGED[position, item],
        item_ids=pl.Series(["a", "b", "c", "d"]),
    )


TARGET_POLICY = TablePolicy(TARGET, "position")


def simple_log(**changes: Any) -> pl.DataFrame:
    """120 shoppers with a slate of one item each; every other one is clicked."""
    n = 120
    rows: dict[str, Any] = {
        "unit_id": [f"u{i}" for i in range(n)],
        "request_id": [f"r{i}" for i in range(n)],
        "position": [0] * n,
        "item_id": ["a", "b"] * (n // 2),
        "reward": [0.0, 0.0, 1.0, 1.0] * (n // 4),
        "propensity": [0.5] * n,
    }
    return pl.DataFrame(rows | changes)


def numbers_of(found: object) -> list[float]:
    """Every number of a result, however deep."""
    if isinstance(found, float):
        return [found]
    if isinstance(found, dict):
        return [n for value in found.values() for n in numbers_of(value)]
    return (
        [n for value in found for n in numbers_of(value)] if isinstance(found, list | tuple) else []
    )


def test_every_estimator_is_what_it_is_by_hand() -> None:
    log = drawn_log(1)
    found = replay(log, TARGET_POLICY, ReplayConfig(clip=CLIP, switch=SWITCH))
    expected = by_hand(log, TARGET)
    assert len(set(expected.values())) == 6, "no two estimators agree by accident"
    assert {one.name: one.value for one in found.values} == exactly(expected)


def test_weights_are_what_they_are_by_hand() -> None:
    log = drawn_log(1)
    found = replay(log, TARGET_POLICY).weights
    w = TARGET[log.positions, log.item_rows] / LOGGED[log.positions, log.item_rows]
    assert found.effective_rows == exactly(w.sum() ** 2 / (w**2).sum())
    clicked = w[log.rewards > 0]
    assert found.effective_rewarded == exactly(clicked.sum() ** 2 / (clicked**2).sum())
    assert found.mean_weight == exactly(w.mean())
    assert found.largest_share == exactly(w.max() / w.sum())
    assert (found.units, found.requests) == (300, len(log) / 2)
    assert found.support == exactly(1.0)
    users = np.array([(w - w.mean())[log.unit_rows == user].sum() for user in range(300)])
    assert found.mean_weight_se == exactly(np.sqrt(300 / 299 * (users**2).sum()) / len(log))


def test_a_slate_is_worth_its_positions_together() -> None:
    log = drawn_log(2)
    by_row = replay(log, TARGET_POLICY, ReplayConfig(per="exposure"))
    by_slate = replay(log, TARGET_POLICY, ReplayConfig(per="slate"))
    for one, whole in zip(by_row.values, by_slate.values, strict=True):
        assert one.value is not None
        assert whole.value == exactly(N_POSITIONS * one.value)
        assert whole.lift == (None if one.lift is None else exactly(one.lift))


def test_the_logged_policy_replayed_is_worth_what_was_logged() -> None:
    log = drawn_log(3)
    found = replay(log, TablePolicy(LOGGED, "position"))
    for name in ("ips", "snips", "clipped"):
        assert found[name].value == exactly(log.rewards.mean())
        assert (found[name].lift, found[name].lift_low, found[name].lift_high) == exactly((0, 0, 0))
    assert found.weights.mean_weight_se == exactly(0)
    assert found.verdict.standing == "usable"


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    truth = float((TARGET * WORTH).sum(axis=1).mean())
    names: tuple[Name, ...] = ("ips", "snips", "dr")
    n_runs, held = 300, dict.fromkeys(names, 0)
    for seed in range(n_runs):
        found = replay(drawn_log(seed + 100), TARGET_POLICY, ReplayConfig(resamples=400))
        for name in held:
            low, high = ends(found[name])
            held[name] += low <= truth <= high
    assert all(0.91 <= n / n_runs <= 0.98 for n in held.values()), held


def test_intervals_are_by_shopper_and_not_by_exposure() -> None:
    """Shoppers who click everything or nothing: their exposures say the same over and over."""
    rng = np.random.default_rng(4)
    rows = simple_log(reward=np.repeat(rng.integers(2, size=60), 2).astype(float))
    own = replay(from_frame(rows), uniform_of_two())
    shared = rows.with_columns(unit_id=pl.Series(np.repeat(np.arange(60), 2)))
    by_user = replay(from_frame(shared), uniform_of_two())
    assert width(by_user["ips"]) > 1.25 * width(own["ips"])  # √2 in expectation


def test_intervals_are_those_of_another_library() -> None:
    """A skewed mean, where percentiles alone would lie a quarter of a width too low."""
    values = np.random.default_rng(9).lognormal(sigma=1.5, size=80)
    totals = np.stack([values, np.ones(80)], axis=1)
    sums = resampled_sums(totals, resamples=20_000, seed=0)
    left_out = (values.sum() - values) / 79
    drawn = sums[:, 0] / sums[:, 1]
    found = bca_interval(float(values.mean()), drawn, left_out, level=0.95)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), rel=0.03)
    assert found[1] > 1.05 * np.quantile(drawn, 0.975)


def test_many_shoppers_are_resampled_in_groups_to_the_same_interval() -> None:
    log = drawn_log(5, n_users=25_000)
    found = replay(log, TARGET_POLICY, ReplayConfig(resamples=1_000))
    w = TARGET[log.positions, log.item_rows] / log.propensities
    value = (w * log.rewards).mean()
    apart = np.bincount(log.unit_rows, w * log.rewards - value)  # the delta method, by shopper
    se = np.sqrt((apart**2).sum()) / len(log)
    assert width(found["ips"]) == pytest.approx(2 * 1.96 * se, rel=0.1)


def test_equal_seeds_give_equal_intervals() -> None:
    log = drawn_log(6)
    first, again = (replay(log, TARGET_POLICY, ReplayConfig(seed=1)) for _ in range(2))
    assert first == again
    assert first["ips"] != replay(log, TARGET_POLICY, ReplayConfig(seed=2))["ips"]


def test_chances_of_what_was_shown_are_enough_without_a_model() -> None:
    log = drawn_log(7)
    whole = replay(log, TARGET_POLICY)
    shown = replay(log, RowPolicy(TARGET[log.positions, log.item_rows]))
    assert [shown[n] for n in ("ips", "snips", "clipped")] == [
        whole[n] for n in ("ips", "snips", "clipped")
    ]
    for name in ("dm", "dr", "switch"):
        assert shown[name].value is None
        assert "not those of every item" in (shown[name].problem or "")
    assert (shown.best, whole.best) == ("snips", "dr")
    table = whole.frame().set_index("name")
    assert table.loc["dr", "value"] == whole["dr"].value
    assert table.index.tolist() == ["logged", "ips", "snips", "clipped", "dm", "dr", "switch"]


def explorers_log(rng: np.random.Generator, exploration: float) -> ExposureLog:
    """1,000 shoppers with a slate of 4 each; what was planned is clicked three times as often."""
    drawn = [
        explore(np.arange(12), 4, exploration=exploration, pool_size=6, rng=rng)
        for _ in range(1_000)
    ]
    items = np.concatenate([one.chosen for one in drawn])
    return ExposureLog(
        unit_rows=np.repeat(np.arange(1_000), 4),
        request_rows=np.repeat(np.arange(1_000), 4),
        positions=np.tile(np.arange(4), 1_000),
        item_rows=items,
        rewards=(rng.random(len(items)) < np.where(items < 4, 0.3, 0.1)).astype(np.float64),
        propensities=np.concatenate([one.propensities for one in drawn]).astype(np.float64),
        item_ids=pl.Series(np.arange(12)),
    )


@pytest.mark.parametrize("exploration", [0.0, 0.05, 0.5])
def test_what_another_exploration_costs_is_told_by_the_serving_log(exploration: float) -> None:
    rng = np.random.default_rng(12)
    truth, held = 0.3 * (1 - exploration) + 0.1 * exploration, 0
    for _ in range(25):
        log = explorers_log(rng, 0.2)
        low, high = ends(replay(log, explored_at(log, exploration))["snips"])
        held += low <= truth <= high
    assert held >= 20  # 95 % of 25 less 3 standard errors


def test_another_exploration_needs_a_log_with_one() -> None:
    rng = np.random.default_rng(13)
    first, second = explorers_log(rng, 0.2), explorers_log(rng, 0.1)
    with pytest.raises(DataError, match="asked for"):
        explored_at(first, 1.0)
    mixed = replace(
        first,
        propensities=np.where(first.unit_rows < 9, second.propensities, first.propensities),
    )
    with pytest.raises(DataError, match=r"found exploration 0\.2, 0\.1 in the log"):
        explored_at(mixed, 0.0)


def test_tables_of_chances_are_laid_beside_the_log() -> None:
    log = from_frame(simple_log())
    chances = pl.DataFrame({"item_id": ["b", "a", "new"], "chance": [0.2, 0.7, 0.1]})
    found = from_table(chances, log).chances(log)
    assert found.shown[:2].tolist() == [0.7, 0.2]
    assert found.all_items is not None
    assert found.all_items.table.tolist() == [[0.7, 0.2]]
    by_position = chances.with_columns(position=pl.lit(0))
    assert from_table(by_position, log).chances(log).shown[:2].tolist() == [0.7, 0.2]
    rows = pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in reversed(range(120))],
            "position": 0,
            "chance": [i / 120 for i in reversed(range(120))],
        }
    )
    assert from_table(rows, log).chances(log).shown == exactly(np.arange(120) / 120)


def test_a_lake_becomes_a_log() -> None:
    shown = pl.LazyFrame(
        {
            "request_id": ["r1", "r1", "r2", "r3"],
            "position": [0, 1, 0, 0],
            "user_id": ["u", "u", None, None],
            "session_id": ["s1", "s1", "s2", None],
            "item_id": ["a", "b", "a", "c"],
            "propensity": [0.5, None, 0.25, 1.0],
        }
    )
    happened = pl.LazyFrame(
        {
            "request_id": ["r2", "r2", "r1", "r3", None],
            "item_id": ["a", "a", "b", "c", "a"],
            "event_type": ["click", "click", "click", "view", "click"],
        }
    )
    log = from_lake(shown, happened, "click")
    assert log.rewards.tolist() == [0.0, 1.0, 0.0]
    assert log.propensities.tolist() == [0.5, 0.25, 1.0]
    assert log.item_ids.gather(log.item_rows).to_list() == ["a", "a", "c"]
    assert len(set(log.unit_rows.tolist())) == 3
    assert (log.n_unknown, log.unknown_share) == (1, 0.25)


RARE = [0.002, 0.998]
CERTAIN = pl.DataFrame({"item_id": ["a"], "chance": [1.0]})
ONLY_NEW = pl.DataFrame({"item_id": ["new"], "chance": [1.0]})
HALF_NEW = pl.DataFrame({"item_id": ["a", "b", "new"], "chance": [0.4, 0.4, 0.2]})
EVEN = pl.DataFrame({"item_id": ["a", "b"], "chance": [0.5, 0.5]})


@pytest.mark.parametrize(
    ("changes", "target", "words"),
    [
        ({"propensity": RARE * 60, "item_id": ["b"] * 119 + ["a"]}, CERTAIN, "one exposure has"),
        ({}, CERTAIN, "worth 60 exposures"),
        ({}, ONLY_NEW, "0% of the target's chances are on items that the log has shown"),
        ({"propensity": [0.4] * 120}, EVEN, "mean weight is 1.250 ± 0.000"),
        ({"propensity": [0.53] * 120}, EVEN, "mean weight is 0.943 ± 0.000"),
        ({}, HALF_NEW, "80% of the target's chances"),
        ({"unit_id": ["u"] * 120}, EVEN, "1 of at least 50 shoppers"),
        ({"reward": [0.0] * 120}, EVEN, "every exposure has the same reward"),
        ({"propensity": [0.5, None, None] * 40}, EVEN, "67% of the exposures have no propensity"),
    ],
)
def test_what_a_log_cannot_tell_is_refused_with_the_reason(
    changes: dict[str, Any], target: pl.DataFrame, words: str
) -> None:
    log = from_frame(simple_log(**changes))
    found = replay(log, from_table(target, log), ReplayConfig(resamples=200))
    assert found.verdict.standing == "refuse"
    assert words in found.verdict.words
    numbers = numbers_of(asdict(found))
    assert numbers
    assert np.isfinite(numbers).all()
    assert all(one.value is not None or one.problem for one in found.values)


def test_few_rewards_and_weights_slightly_off_make_a_replay_weak() -> None:
    few = from_frame(simple_log(reward=[1.0] * 10 + [0.0] * 110))
    found = replay(few, from_table(EVEN, few))
    assert found.verdict.standing == "weak"
    assert "10 exposures with a reward decide" in found.verdict.words
    off = from_frame(simple_log(propensity=[0.49] * 120))
    assert "not quite right" in replay(off, from_table(EVEN, off)).verdict.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"propensity": [None] * 120}, "none of them with a propensity"),
        ({"propensity": [0.0] * 120}, "chances above 0"),
        ({"propensity": [1.5] * 120}, "at most 1"),
        ({"reward": [np.nan] * 120}, "120 rewards"),
        ({"reward": [None] * 120}, "120 rewards"),
        ({"position": ["first"] * 120}, "120 rows without position"),
        ({"position": [-1] * 120}, "120 positions"),
        ({"request_id": ["r"] * 120}, "119 rows at a position"),
        ({"unit_id": [None] * 120}, "120 rows without unit_id"),
    ],
)
def test_a_log_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_frame(simple_log(**changes))


def test_a_log_without_rows_or_columns_is_refused() -> None:
    with pytest.raises(DataError, match="found 0 rows"):
        from_frame(simple_log().clear())
    with pytest.raises(DataError, match="expected also reward"):
        from_frame(simple_log().drop("reward").to_pandas())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"item_id": ["a", "b"], "chance": [0.5, 0.2]}, "sum to 0.7"),
        ({"item_id": ["a", "a"], "chance": [0.5, 0.5]}, "1 rows twice"),
        ({"item_id": ["a", "b"], "chance": [1.5, -0.5]}, "outside 0 to 1"),
        ({"item_id": ["a", "b"], "chance": [None, 1.0]}, "1 empty cells"),
        ({"item_id": ["a", "b"], "chance": [float("nan"), 1.0]}, "1 empty cells"),
        ({"item_id": ["a", "b"], "chance": ["half", "0.5"]}, "1 empty cells"),
        ({"item_id": ["a"], "position": [1], "chance": [1.0]}, "no chances at position 0"),
        ({"request_id": ["r1"], "position": [0], "chance": [1.0]}, "no chance for 119"),
        ({"request_id": ["r1"], "chance": [1.0]}, "expected also position"),
        ({"item": ["a"], "chance": [1.0]}, "found columns item, chance"),
    ],
)
def test_chances_that_do_not_fit_the_log_are_refused(target: dict[str, Any], words: str) -> None:
    log = from_frame(simple_log())
    with pytest.raises(DataError, match=words):
        from_table(pl.DataFrame(target), log).chances(log)


def test_a_policy_must_know_the_log_it_is_asked_about() -> None:
    log = drawn_log(8)
    with pytest.raises(DataError, match="chances of 3 items"):
        TablePolicy(np.full((1, 3), 1 / 3)).chances(log)
    with pytest.raises(DataError, match="found position 1"):
        TablePolicy(TARGET[:1], "position").chances(log)
    with pytest.raises(DataError, match="without contexts"):
        TablePolicy(TARGET, "context").chances(log)
    with pytest.raises(DataError, match="at least the log's 4"):
        uniform(log, 3)
    by_context = TablePolicy(TARGET, "context").chances(replace(log, contexts=log.positions))
    assert (by_context.shown == TARGET_POLICY.chances(log).shown).all()


def uniform_of_two() -> TablePolicy:
    return TablePolicy(np.array([[0.5, 0.5]]))


def ends(value: Value) -> tuple[float, float]:
    assert value.low is not None
    assert value.high is not None
    return value.low, value.high


def width(value: Value) -> float:
    low, high = ends(value)
    return high - low
