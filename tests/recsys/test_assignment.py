import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from growthbook import Experiment as TheirExperiment
from growthbook import GrowthBook
from growthbook.core import chooseVariation, getBucketRanges
from growthbook.core import gbhash as their_bucket
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from features.slates import Assignment
from recsys.experiments.assignment import (
    BUCKETS,
    HOLDOUT_SALT,
    LAYER_SALT,
    Assigned,
    Running,
    bucket,
    chosen,
    fnv1a32,
    ranges,
)
from recsys.experiments.experiment import (
    Allocation,
    Design,
    Experiment,
    Holdout,
    Metric,
    Plan,
    RampStep,
    Variant,
)
from recsys.experiments.lifecycle import drafted, started, stopped

NOW = datetime(2026, 3, 2, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1e6)
PLAN = Plan(goals=(Metric(name="clicks", event_type="click"),))
USERS = [f"user-{n}" for n in range(2_000)]
# As sdk-js hashes, run by Node: FNV-1a of the text, and the buckets of seeds "seed" and "größe".
JAVASCRIPT = {
    "é": (0x6C0B6C44, 0.8663, 0.8264),
    "ж": (0x33065989, 0.2211, 0.1475),
    "日本": (0x5FFCBEA4, 0.9652, 0.7366),
    "😀": (0xCB31C4B8, 0.4346, 0.5959),
    "user-ñ-7": (0xCDC9C284, 0.3927, 0.4597),
    "\ud83d": (0x37822568, 0.9009, 0.9796),  # half a pair, which JavaScript lets be
}


def running(name: str = "try", **changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": name,
        "hypothesis": "it helps",
        "variants": (Variant(key="control"), Variant(key="new", policy={"diversity": 0.4})),
        "plan": PLAN,
    }
    return started(drafted(Design(**fields | changes), NOW), NOW, "", ())


def asked(
    of: Running | Experiment,
    user_id: str | None = "u",
    session_id: str | None = None,
    *,
    placement: str = "home",
    now: datetime = NOW,
    stored: Mapping[str, object] | None = None,
) -> Assigned:
    everything = of if isinstance(of, Running) else Running.of([of], None)
    return everything.assign(
        placement=placement,
        user_id=user_id,
        session_id=session_id,
        now_us=int(now.timestamp() * 1e6),
        attributes=lambda: stored or {},
    )


def arm(of: Running | Experiment, user_id: str, **changes: Any) -> str | None:
    given = asked(of, user_id, **changes).assignments
    return given[0].variant if given else None


def arms(of: Running | Experiment, **changes: Any) -> dict[str, str | None]:
    return {user: arm(of, user, **changes) for user in USERS}


@given(st.text(), st.text())
def test_buckets_equal_those_of_the_growthbook_sdk(seed: str, unit: str) -> None:
    assert bucket(seed, unit) == their_bucket(seed, unit, 2)


def test_the_hash_equals_its_published_vectors() -> None:
    # http://www.isthe.com/chongo/src/fnv/test_fnv.c, FNV-1a 32
    assert [fnv1a32(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


@pytest.mark.parametrize("text", JAVASCRIPT)
def test_text_beyond_ascii_is_hashed_as_javascript_does(text: str) -> None:
    found = fnv1a32(text), bucket("seed", text), bucket("größe", text)
    assert found == JAVASCRIPT[text]


def test_ranges_and_choices_equal_those_of_the_sdk() -> None:
    rng = np.random.default_rng(1)
    for _ in range(2_000):
        weights = [float(w) for w in rng.dirichlet(np.ones(rng.integers(2, 6)))]
        coverage = float(rng.choice([0, 1, rng.random()]))
        theirs = getBucketRanges(len(weights), coverage, weights)
        assert ranges(weights, coverage) == tuple(theirs)
        n = float(rng.integers(BUCKETS)) / BUCKETS
        found = chosen(n, theirs)
        assert (-1 if found is None else found) == chooseVariation(n, theirs)


def test_whole_experiments_deal_as_the_sdk_does() -> None:
    rng = np.random.default_rng(2)
    dealt = 0
    for number in range(60):
        weights = [float(w) for w in rng.integers(1, 9, rng.integers(2, 5))]
        coverage = float(rng.choice([0.25, 0.8, 1.0]))
        high = float(rng.choice([0.5, 1.0]))
        ours = running(
            salt=f"salt-{number}",
            variants=tuple(Variant(key=f"v{at}", weight=w) for at, w in enumerate(weights)),
            coverage=coverage,
            layer="shelf",
            layer_range=(0.0, high),
        )
        theirs = TheirExperiment(
            key="try",
            variations=[f"v{at}" for at in range(len(weights))],
            weights=[weight / sum(weights) for weight in weights],
            coverage=coverage,
            hashVersion=2,
            seed=f"salt-{number}",
            filters=[{"seed": f"{LAYER_SALT}shelf", "ranges": [(0.0, high)], "hashVersion": 2}],
        )
        for unit in (f"u-{number}-{n}" for n in range(40)):
            sdk = GrowthBook(attributes={"id": unit})
            result = sdk.run(theirs)
            sdk.destroy()
            assert arm(ours, unit) == (result.value if result.inExperiment else None)
            dealt += result.inExperiment
    assert 800 < dealt < 1_800, "both answers were seen"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("diversity", "novelty"),
        ("e1", "e2"),
        ("try", "try/2"),
        ("same", f"{LAYER_SALT}same"),
        ("holdout", f"{HOLDOUT_SALT}holdout"),
    ],
)
def test_two_seeds_deal_independently(first: str, second: str) -> None:
    n = 100_000
    a, b = (np.array([bucket(seed, f"user-{u}") for u in range(n)]) for seed in (first, second))
    for parts in (2, 10):
        table = np.zeros((parts, parts), np.int64)
        np.add.at(table, ((a * parts).astype(int), (b * parts).astype(int)), 1)
        assert stats.chi2_contingency(table, correction=False).pvalue > 0.001
    assert abs((a < 0.5).mean() - 0.5) < 0.005  # 3 standard errors


def test_buckets_are_even() -> None:
    counts = np.bincount(
        [int(bucket("even", f"user-{n}") * 100) for n in range(100_000)], minlength=100
    )
    assert stats.chisquare(counts).pvalue > 0.001


def test_where_a_layer_puts_a_unit_says_nothing_of_its_variant_there() -> None:
    """Even where layer, experiment and salt have one name: in half the layer both arms are even."""
    dealt = Counter(arms(running("same", layer="same", layer_range=(0.0, 0.5))).values())
    assert abs(dealt[None] - 1_000) < 90  # 4 standard deviations of 2,000 fair draws
    assert stats.binomtest(dealt["new"], dealt["new"] + dealt["control"]).pvalue > 0.001


def test_experiments_of_a_layer_share_no_unit_and_cover_all_together() -> None:
    parts = ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0))
    everything = Running.of(
        [running(f"e{n}", layer="shelf", layer_range=part) for n, part in enumerate(parts)], None
    )
    found = [asked(everything, user).assignments for user in USERS]
    assert {len(assignments) for assignments in found} == {1}
    shares = Counter(assignments[0].experiment for assignments in found)
    assert [shares[f"e{n}"] / len(USERS) for n in range(3)] == pytest.approx(
        [0.3, 0.4, 0.3], abs=0.05
    )


def test_growing_coverage_and_ramps_move_nobody_who_is_in() -> None:
    ramp = tuple(
        RampStep(at=NOW + timedelta(days=day), coverage=share)
        for day, share in ((1, 0.3), (2, 0.7), (3, 1.0))
    )
    steep = running(coverage=0.1, ramp=ramp)
    before = arms(steep)
    for day, share in ((1, 0.3), (2, 0.7), (3, 1.0)):
        after = arms(steep, now=NOW + timedelta(days=day))
        assert all(after[user] == arm for user, arm in before.items() if arm is not None)
        assert np.mean([a is not None for a in after.values()]) == pytest.approx(share, abs=0.05)
        assert after == arms(running(coverage=share)), "a ramp's step is that coverage"
        before = after
    assert arms(steep, now=NOW + timedelta(days=1, microseconds=-1)) == arms(running(coverage=0.1))


def test_a_variant_gets_its_weight_and_no_coverage_deals_nobody() -> None:
    heavy = (Variant(key="control", weight=1), Variant(key="new", weight=3))
    counts = Counter(arms(running(variants=heavy)).values())
    assert counts["new"] / len(USERS) == pytest.approx(0.75, abs=0.04)
    assert set(arms(running(coverage=0.0)).values()) == {None}


def test_a_bandit_deals_by_its_newest_shares() -> None:
    bandit = running(kind="bandit")
    phase = bandit.phases[0].model_copy(
        update={
            "allocations": (
                Allocation(at=NOW + timedelta(days=1), weights=(0.2, 0.8)),
                Allocation(at=NOW + timedelta(days=2), weights=(0.9, 0.1)),
            )
        }
    )
    bandit = bandit.model_copy(update={"phases": (phase,)})
    for day, share in ((0, 0.5), (1, 0.8), (2, 0.1)):
        found = Counter(arms(bandit, now=NOW + timedelta(days=day)).values())
        assert found["new"] / len(USERS) == pytest.approx(share, abs=0.05)


def test_an_override_wins_over_holdout_targeting_layer_and_coverage() -> None:
    closed = running(
        overrides={"tester": "new"},
        targeting="country = 'NL'",
        layer="shelf",
        layer_range=(0.0, 0.0001),
        coverage=0.0,
    )
    found = asked(Running.of([closed], Holdout(share=0.999)), "tester")
    assert found.assignments == (Assignment("try", 1, "new", "override", "tester"),)
    assert found.policy == {"diversity": 0.4}


def test_the_holdout_keeps_its_share_out_of_every_experiment() -> None:
    everything = Running.of([running("a"), running("b")], Holdout(share=0.2, salt="quiet"))
    found = {user: asked(everything, user) for user in USERS}
    held = {user for user in USERS if bucket("holdout/quiet", user) < 0.2}
    assert len(held) / len(USERS) == pytest.approx(0.2, abs=0.03)
    for user, assigned in found.items():
        hows = {given.how for given in assigned.assignments}
        assert hows == ({"holdout"} if user in held else {"hash"})
        assert user not in held or (assigned.policy, assigned.interleave) == (None, None)


def test_the_holdout_is_remembered_only_of_units_the_experiment_would_have_dealt() -> None:
    alone = running(coverage=0.5, layer="shelf", layer_range=(0.0, 0.5), targeting="vip = true")
    held = Running.of([alone], Holdout(share=0.999))
    for user in USERS[:300]:
        expected = [] if arm(alone, user, stored={"vip": True}) is None else ["holdout"]
        if bucket("holdout/holdout", user) < 0.999:
            found = asked(held, user, stored={"vip": True}).assignments
            assert [given.how for given in found] == expected
            assert asked(held, user, stored={"vip": False}).assignments == ()


def test_no_name_of_an_experiment_hashes_like_the_holdout_or_a_layer() -> None:
    """Else whom the holdout takes would all be missing from one variant."""
    for name, layer in (("holdout", None), ("layer", "layer"), ("layer:shelf", "shelf")):
        part = (0.0, 1.0) if layer is None else (0.0, 0.5)
        everything = Running.of([running(name, layer=layer, layer_range=part)], Holdout(share=0.4))
        dealt = Counter(arms(everything).values())
        assert stats.binomtest(dealt["new"], dealt["new"] + dealt["control"]).pvalue > 0.001


def test_targeting_asks_the_stored_attributes() -> None:
    dutch = running(targeting="country = 'NL' and age >= 18")
    assert arm(dutch, "u", stored={"country": "NL", "age": 30}) is not None
    for stored in ({"country": "NL", "age": 17}, {"country": "DE", "age": 30}, {}):
        assert arm(dutch, "u", stored=stored) is None


def test_users_sessions_and_shoppers_are_dealt_by_their_own_ids() -> None:
    for unit, ids, expected in (
        ("user", ("u", "s"), "u"),
        ("user", (None, "s"), None),
        ("session", ("u", "s"), "s"),
        ("session", ("u", None), None),
        ("shopper", ("u", "s"), "u"),
        ("shopper", (None, "s"), "s"),
        ("shopper", (None, None), None),
    ):
        found = [given.unit_id for given in asked(running(unit=unit), *ids).assignments]
        assert found == ([] if expected is None else [expected])


def test_only_running_experiments_of_the_placement_deal() -> None:
    live = running(placements=("home", "cart"))
    assert arm(live, "u", placement="cart") is not None
    assert arm(live, "u", placement="trending") is None
    assert arm(stopped(live, NOW, ""), "u") is None
    assert arm(drafted(live.design, NOW), "u") is None


def test_an_interleaving_gives_both_rankings() -> None:
    mixed = running(kind="interleave")
    found = asked(mixed)
    assert found.assignments == (Assignment("try", 1, "interleaved", "hash", "u"),)
    assert found.interleave == mixed.design.variants
    assert found.policy is None


def test_changes_of_several_experiments_are_obeyed_together() -> None:
    pairs: dict[str, dict[str, Any]] = {"a": {"diversity": 0.7}, "b": {"exploration": 0.2}}
    everything = Running.of(
        [
            running(name, variants=(Variant(key="x", policy=policy), Variant(key="y")),
                    overrides={"u": "x"})
            for name, policy in pairs.items()
        ],
        None,
    )  # fmt: skip
    assert asked(everything).policy == {"diversity": 0.7, "exploration": 0.2}


def test_what_fails_lets_the_control_answer_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    everything = Running.of(
        [running("a", targeting="x = 1"), running("b"), running("c", targeting="x = 1")], None
    )
    calls = []

    def broken() -> Mapping[str, object]:
        calls.append(1)
        raise OSError("the disk is gone")

    with caplog.at_level(logging.WARNING):
        found = everything.assign(
            placement="home", user_id="u", session_id=None, now_us=NOW_US, attributes=broken
        )
    assert [given.experiment for given in found.assignments] == ["b"]
    assert found.failed == ("a", "c")
    assert len(calls) == 1, "a store that is down is asked once a request, not once an experiment"
    assert "the disk is gone" in caplog.text


def test_attributes_are_asked_once_and_only_where_something_is_targeted() -> None:
    calls = []

    def stored() -> Mapping[str, object]:
        calls.append(1)
        return {"x": 1}

    targeted = [running(name, targeting="x = 1") for name in ("a", "b")]
    for experiments, n in (([running("c")], 0), (targeted, 1)):
        calls.clear()
        Running.of(experiments, None).assign(
            placement="home", user_id="u", session_id=None, now_us=NOW_US, attributes=stored
        )
        assert len(calls) == n
