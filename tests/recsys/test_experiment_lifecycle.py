from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features.errors import DataError
from recsys.experiments.experiment import Design, Experiment, Metric, Plan, RampStep, Variant
from recsys.experiments.lifecycle import (
    FLOOR,
    changed,
    check_beside,
    decided,
    drafted,
    reallocated,
    started,
    stopped,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
NAN, INFINITE = float("nan"), float("inf")
OLD = Variant(key="old")
NEW = Variant(key="new", policy={"diversity": 0.4})


def design(**changes: Any) -> Design:
    fields: dict[str, Any] = {
        "name": "try",
        "hypothesis": "it helps",
        "variants": (OLD, NEW),
        "plan": Plan(goals=(Metric(name="clicks", event_type="click"),)),
    }
    return Design(**fields | changes)


def running(**changes: Any) -> Experiment:
    return started(drafted(design(**changes), NOW), NOW, "", ())


def with_design(experiment: Experiment, **changes: Any) -> Experiment:
    return changed(experiment, experiment.design.model_copy(update=changes), LATER, ())


def test_a_life_is_drafted_started_stopped_and_decided() -> None:
    draft = drafted(design(), NOW)
    assert (draft.status, draft.phases, draft.phase) == ("draft", (), None)
    live = started(draft, NOW, "monday", ())
    assert (live.status, live.phase and live.phase.ended_at) == ("running", None)
    over = stopped(live, LATER, "enough")
    assert over.status == "stopped"
    assert over.phases == (live.phases[0].model_copy(update={"ended_at": LATER}),)
    end = decided(over, LATER, "new", "+3 %")
    assert (end.status, end.decision) == ("decided", "new")
    assert [(entry.at, entry.action, entry.reason) for entry in end.log] == [
        (NOW, "drafted", ""),
        (NOW, "started", "phase 1: monday"),
        (LATER, "stopped", "enough"),
        (LATER, "decided", "new: +3 %"),
    ]
    assert draft.log == end.log[:1], "what was before is not touched"


def test_steps_out_of_order_are_refused_in_words() -> None:
    draft, live = drafted(design(), NOW), running()
    over = stopped(live, NOW, "")
    end = decided(over, NOW, "old", "")
    steps: tuple[tuple[Callable[[], Experiment], str], ...] = (
        (lambda: started(live, NOW, "", ()), "it is running; start a draft or a stopped one"),
        (lambda: started(end, NOW, "", ()), "it is decided"),
        (lambda: stopped(draft, NOW, ""), "it is draft; only a running one can stop"),
        (lambda: stopped(over, NOW, ""), "it is stopped"),
        (lambda: decided(draft, NOW, "new", ""), "it is draft; stop it first"),
        (lambda: decided(live, NOW, "new", ""), "it is running; stop it first"),
        (lambda: decided(end, NOW, "new", ""), "it is decided"),
        (lambda: decided(over, NOW, "newer", ""), "found the variant 'newer', expected one of old"),
        (lambda: with_design(end, owner="me"), "draft a new experiment under another name"),
        (lambda: with_design(live, name="other"), "found the name 'other' for the experiment"),
    )
    for step, words in steps:
        with pytest.raises(DataError, match=words):
            step()


def test_the_longest_reason_fits_into_the_log() -> None:
    reason = "x" * 2_000
    live = started(drafted(design(), NOW), NOW, reason, ())
    end = decided(stopped(live, NOW, reason), NOW, "new", reason)
    assert end.log[1].reason == f"phase 1: {reason}"
    assert end.log[3].reason == f"new: {reason}"
    assert Experiment.model_validate_json(end.model_dump_json()) == end


def test_a_draft_may_change_in_everything_but_its_name() -> None:
    plan = Plan(goals=(Metric(name="shares", event_type="share"),))
    draft = with_design(drafted(design(), NOW), plan=plan, unit="session", coverage=0.1)
    assert (draft.design.plan, draft.design.unit, draft.phases) == (plan, "session", ())
    assert [entry.action for entry in draft.log] == ["drafted", "changed"]


def test_no_change_is_no_entry() -> None:
    live = running()
    assert changed(live, design(), LATER, ()) is live


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": "session"},
        {"salt": "pepper"},
        {"layer": "shelf"},
        {"layer": "shelf", "layer_range": (0.0, 0.5)},
        {"placements": ("home",)},
        {"targeting": "country = 'NL'"},
        {"kind": "bandit"},
        {"variants": (OLD, NEW.model_copy(update={"weight": 2.0}))},
        {"variants": (OLD, NEW.model_copy(update={"policy": {"diversity": 0.5}}))},
        {"variants": (OLD, NEW, Variant(key="third"))},
    ],
)
def test_what_decides_who_sees_what_begins_a_phase(changes: dict[str, Any]) -> None:
    after = with_design(running(), **changes)
    first, second = after.phases
    assert (first.ended_at, second.started_at, second.ended_at) == (LATER, LATER, None)
    assert (first.number, second.number) == (1, 2)
    assert first.seed != second.seed
    assert second.unit == after.design.unit
    assert sum(second.weights) == pytest.approx(1)
    assert after.log[-1].reason == f"new phase: {', '.join(changes)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"hypothesis": "said better"},
        {"owner": "me"},
        {"overrides": {"tester": "new"}},
        {"ramp": (RampStep(at=LATER, coverage=1.0),)},
        {"variants": (OLD, NEW.model_copy(update={"description": "more of all"}))},
    ],
)
def test_what_moves_nobody_stays_in_its_phase(changes: dict[str, Any]) -> None:
    after = with_design(running(), **changes)
    assert (after.phases, after.log[-1].reason) == (running().phases, "")


def test_seeds_are_the_salt_and_then_a_new_one_a_phase() -> None:
    live = running(salt="pepper")
    again = started(stopped(live, NOW, ""), LATER, "", ())
    assert [phase.seed for phase in again.phases] == ["pepper", "pepper/2"]
    assert [phase.seed for phase in with_design(again, salt=None).phases][2] == "try/3"
    assert running().phases[0].seed == "try", "as another SDK hashes it, by its name alone"


def test_weights_of_a_phase_are_shares() -> None:
    variants = (OLD.model_copy(update={"weight": 1.0}), NEW.model_copy(update={"weight": 3.0}))
    assert running(variants=variants).phases[0].weights == (0.25, 0.75)


def test_the_plan_is_fixed_once_units_were_seen() -> None:
    plan = Plan(goals=(Metric(name="shares", event_type="share"),))
    for experiment in (running(), stopped(running(), NOW, "")):
        with pytest.raises(DataError, match="its plan is fixed, or goals could be chosen"):
            with_design(experiment, plan=plan)


def test_coverage_of_a_running_experiment_only_grows() -> None:
    live = running(coverage=0.5)
    assert with_design(live, coverage=0.6).design.coverage == 0.6
    with pytest.raises(DataError, match=r"it covers 0\.5 of the units and whoever is in stays in"):
        with_design(live, coverage=0.4)
    assert len(with_design(live, coverage=0.4, salt="new").phases) == 2, "others are dealt anew"
    assert with_design(stopped(live, NOW, ""), coverage=0.4).design.coverage == 0.4


def test_a_ramp_that_was_climbed_may_not_be_taken_away() -> None:
    climbed = running(coverage=0.1, ramp=(RampStep(at=NOW, coverage=0.8),))
    with pytest.raises(DataError, match=r"it covers 0\.8"):
        with_design(climbed, ramp=())
    ahead = running(coverage=0.1, ramp=(RampStep(at=LATER + timedelta(days=1), coverage=0.8),))
    assert with_design(ahead, ramp=()).design.ramp == ()


def test_results_of_a_stopped_experiment_stay_those_of_its_variants() -> None:
    over = stopped(running(), NOW, "")
    for changes in ({"kind": "bandit"}, {"variants": (OLD, NEW, Variant(key="third"))}):
        with pytest.raises(DataError, match="its results are those of its variants"):
            with_design(over, **changes)
    assert with_design(over, layer="shelf", layer_range=(0.0, 0.5)).phases == over.phases


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({}, {}, "both vary diversity on the same placements"),
        ({"placements": ("home",)}, {"placements": ("cart", "home")}, "both vary diversity"),
        ({"placements": ("home",)}, {}, "both vary diversity"),
        ({"layer": "a"}, {"layer": "b"}, "both vary diversity"),
        ({"kind": "interleave", "variants": (OLD, Variant(key="b", policy={"about": "context"}))},
         {"kind": "interleave"}, "both vary interleaving"),
        ({"layer": "a", "layer_range": (0.0, 0.6)}, {"layer": "a", "layer_range": (0.5, 1.0)},
         r"found \[0, 0.6\) of the layer 'a'"),
        ({"layer": "a", "layer_range": (0.0, 0.5), "unit": "user"},
         {"layer": "a", "layer_range": (0.5, 1.0), "unit": "session"},
         "a user and their session would be in both"),
    ],
)  # fmt: skip
def test_experiments_that_would_meet_are_refused(
    ours: dict[str, Any], theirs: dict[str, Any], words: str
) -> None:
    other = running(**{"name": "other"} | theirs)
    mine = design(**ours)
    with pytest.raises(DataError, match=words):
        started(drafted(mine, NOW), NOW, "", [other])
    check_beside(mine, [stopped(other, NOW, "")])
    quiet = (OLD, Variant(key="new", policy={"exploration": 0.2}))
    alone = running(variants=quiet, placements=("mail",))
    with pytest.raises(DataError, match=words):
        changed(alone, mine, LATER, [alone, other])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"placements": ("home",)}, {"placements": ("cart",)}),
        ({}, {"variants": (OLD, Variant(key="new", policy={"exploration": 0.2}))}),
        ({"layer": "a", "layer_range": (0.0, 0.5)}, {"layer": "a", "layer_range": (0.5, 1.0)}),
        (
            {"layer": "a", "layer_range": (0.0, 0.5), "unit": "user"},
            {"layer": "a", "layer_range": (0.5, 1.0), "unit": "shopper"},
        ),
    ],
)
def test_experiments_that_cannot_meet_run_together(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    other, mine = running(**{"name": "other"} | theirs), drafted(design(**ours), NOW)
    assert started(mine, NOW, "", [mine, other]).status == "running"


def test_a_bandit_gets_new_shares_from_then_on() -> None:
    bandit = running(kind="bandit")
    after = reallocated(reallocated(bandit, LATER, (1.0, 3.0)), LATER, (0.99, 0.01))
    assert after.phase is not None
    assert [(a.at, a.weights) for a in after.phase.allocations] == [
        (LATER, (0.25, 0.75)),
        (LATER, (0.99, FLOOR)),
    ]
    assert after.phase.weights == (0.5, 0.5), "what was planned stays written"
    assert after.log[-2].reason == "old 25.0%, new 75.0%"
    assert len(after.phases) == 1


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ((0.995, 0.005), "found the share 0.005, expected at least 0.01 each"),
        ((1.0, 0.0), "expected 2 positive numbers"),
        ((1.0, -1.0), "expected 2 positive numbers"),
        ((NAN, 1.0), "expected 2 positive numbers"),
        ((1.0, NAN), "expected 2 positive numbers"),
        ((INFINITE, 1.0), "expected 2 positive numbers"),
        ((1e308, 1e308), "expected at least 0.01 each"),
        ((1.0,), "expected 2 positive numbers"),
        ((), "expected 2 positive numbers"),
    ],
)
def test_shares_that_starve_a_variant_are_refused(weights: tuple[float, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        reallocated(running(kind="bandit"), LATER, weights)


def test_only_a_running_bandit_is_reallocated() -> None:
    for experiment in (
        running(),
        drafted(design(kind="bandit"), NOW),
        stopped(running(kind="bandit"), NOW, ""),
    ):
        with pytest.raises(DataError, match="no running bandit; leave its weights as designed"):
            reallocated(experiment, LATER, (0.5, 0.5))
