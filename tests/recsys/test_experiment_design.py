from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from recsys.experiments.experiment import (
    MAX_OVERRIDES,
    Allocation,
    Design,
    Experiment,
    Holdout,
    LogEntry,
    Metric,
    Phase,
    Plan,
    RampStep,
    Variant,
    microseconds,
)

NOW = datetime(2026, 3, 2, 10, 30, 0, 123_457, tzinfo=UTC)
CLICKS: dict[str, Any] = {"name": "clicks", "event_type": "click"}
DESIGN: dict[str, Any] = {
    "name": "variety",
    "hypothesis": "more variety, more clicks",
    "variants": [{"key": "as-is"}, {"key": "varied", "policy": {"diversity": 0.4}}],
    "plan": {"goals": [CLICKS]},
}
NAN, INFINITE = float("nan"), float("inf")


def problem(model: type[Any], **fields: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(fields)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "two words"}, "should match pattern"),
        ({"name": "x" * 65}, "should match pattern"),
        ({"name": ""}, "should match pattern"),
        ({"name": ".."}, "should match pattern"),
        ({"name": ".hidden"}, "should match pattern"),
        ({"name": "a\n"}, "should match pattern"),
        ({"hypothesis": "x" * 2_001}, "at most 2000 characters"),
        ({"kind": "abc"}, "'ab', 'interleave' or 'bandit'"),
        ({"unit": "item"}, "'user', 'session' or 'shopper'"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"coverage": 1.1}, "less than or equal to 1"),
        ({"coverage": -0.1}, "greater than or equal to 0"),
        ({"coverage": NAN}, "finite number"),
        ({"targeting": "country ="}, "expected"),
        ({"variants": [{"key": "only"}]}, "at least 2 items"),
        ({"variants": [{"key": f"v{n}"} for n in range(11)]}, "at most 10 items"),
        ({"variants": [{"key": "a"}, {"key": "a"}]}, "found 'a' twice, expected names that differ"),
        ({"variants": [{"key": "a"}, {"key": "holdout"}]}, "'holdout', which means something else"),
        ({"variants": [{"key": "interleaved"}, {"key": "b"}]}, "which means something else"),
        (
            {"variants": [{"key": "a", "weight": 5_000}, {"key": "b"}]},
            "found the share 0.00019996 of 'b', expected at least 0.001: for few units choose",
        ),
        (
            {"variants": [{"key": key, "weight": 1e308} for key in "ab"]},
            "found the share 0 of 'a', expected at least 0.001",
        ),
        (
            {"kind": "interleave", "variants": [{"key": key} for key in "abc"]},
            "found 3, expected 2 rankings to interleave",
        ),
        ({"overrides": {"tester": "nobody"}}, "found 'nobody', expected one of as-is, varied"),
        (
            {"overrides": {f"u{n}": "as-is" for n in range(MAX_OVERRIDES + 1)}},
            "at most 1000 items",
        ),
        ({"layer": "shelf", "layer_range": (0.5, 0.5)}, "expected low below high"),
        ({"layer": "shelf", "layer_range": (0.5, 1.2)}, "less than or equal to 1"),
        ({"layer_range": (0.0, 0.5)}, "expected the layer's name too"),
        (
            {"ramp": [{"at": NOW, "coverage": 0.5}], "coverage": 0.6},
            "expected it to grow: whoever is in must stay in",
        ),
        (
            {"ramp": [{"at": NOW, "coverage": 0.5}, {"at": NOW, "coverage": 0.6}], "coverage": 0.1},
            "expected ascending times",
        ),
        ({"ramp": [{"at": datetime(2026, 3, 2), "coverage": 1.0}]}, "should have timezone info"),  # noqa: DTZ001
    ],
)
def test_designs_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    assert words in problem(Design, **DESIGN | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": 0}, "greater than 0"),
        ({"weight": INFINITE}, "finite number"),
        ({"policy": {"divercity": 0.4}}, "divercity"),
        ({"policy": {"diversity": 4}}, "less than or equal to 1"),
        ({"policy": {"sources": {"telepathy": 10}}}, "found the source 'telepathy', expected one"),
        ({"key": "a b"}, "should match pattern"),
    ],
)
def test_variants_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    assert words in problem(Variant, **{"key": "new"} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "ratio"}, "per: found none on a ratio, expected one on a ratio"),
        ({"per": "slates"}, "per: found one on a mean, expected one only on a ratio"),
        ({"kind": "quantile"}, "quantile: found none on a quantile, expected one on a quantile"),
        ({"quantile": 0.5}, "quantile: found one on a mean, expected one only on a quantile"),
        ({"kind": "quantile", "quantile": 1.0}, "less than 1"),
        ({"kind": "proportion", "cap": 0.99}, "cap: found one on a proportion"),
        ({"kind": "quantile", "quantile": 0.5, "cap": 0.99}, "cap: found one on a quantile"),
        ({"cap": 0.5}, "greater than or equal to 0.9"),
        ({"window_days": 0}, "greater than 0"),
        ({"window_days": NAN}, "finite number"),
        ({"cuped_days": 91}, "less than or equal to 90"),
        ({"margin": -0.1}, "greater than or equal to 0"),
        ({"direction": "sideways"}, "'up' or 'down'"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    assert words in problem(Metric, **CLICKS | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"goals": []}, "at least 1 item"),
        ({"secondary": [CLICKS]}, "metrics: found 'clicks' twice"),
        (
            {"guardrails": [CLICKS | {"name": "other"}]},
            "guardrail other: found no margin, expected one",
        ),
        ({"alpha": 0}, "greater than 0"),
        ({"alpha": 0.5}, "less than 0.5"),
        ({"power": 1}, "less than 1"),
        ({"min_days": 0}, "greater than or equal to 1"),
        ({"n_star": 0}, "greater than or equal to 1"),
        ({"target_lift": 0}, "greater than 0"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    assert words in problem(Plan, **{"goals": [CLICKS]} | changes)


def test_a_holdout_of_everybody_is_refused() -> None:
    assert "less than 1" in problem(Holdout, share=1.0)
    assert "greater than or equal to 0" in problem(Holdout, share=-0.1)


def everything() -> Experiment:
    """No field has its default."""
    rate = Metric(
        name="rate",
        kind="ratio",
        event_type="click",
        of="value",
        per="slates",
        attributed=True,
        window_days=3.5,
        cap=0.99,
        direction="down",
        margin=0.02,
        cuped_days=7,
    )
    slow = Metric(name="slow", kind="quantile", event_type="view", quantile=0.95)
    design = Design(
        name="variety",
        hypothesis="größer → besser",
        owner="home team",
        kind="bandit",
        unit="session",
        placements=("home", "cart"),
        salt="pepper",
        layer="shelf",
        layer_range=(0.1, 0.7),
        coverage=0.2,
        ramp=(RampStep(at=NOW, coverage=0.3), RampStep(at=NOW + timedelta(days=1), coverage=0.9)),
        targeting="country = 'NL'",
        overrides={"tester": "new"},
        variants=(
            Variant(key="old", description="as ever", weight=3.0),
            Variant(key="new", policy={"sources": {"trending": 3}}, release_id="r1"),
        ),
        plan=Plan(
            goals=(Metric(name="clicks", event_type="click"),),
            guardrails=(rate,),
            secondary=(slow,),
            alpha=0.01,
            power=0.9,
            n_star=100,
            min_days=14,
            target_lift=0.01,
        ),
    )
    phase = Phase(
        number=1,
        started_at=NOW,
        ended_at=NOW + timedelta(days=2),
        seed="pepper",
        unit="session",
        weights=(0.75, 0.25),
        allocations=(Allocation(at=NOW + timedelta(days=1), weights=(0.1, 0.9)),),
    )
    return Experiment(
        design=design,
        status="decided",
        phases=(phase,),
        decision="new",
        log=(LogEntry(at=NOW, action="drafted", reason="why not"),),
    )


@pytest.mark.parametrize("exclude_defaults", [False, True])
def test_experiments_come_back_from_json_as_they_were(exclude_defaults: bool) -> None:
    plain = Experiment(design=Design.model_validate(DESIGN))
    for experiment in (plain, everything()):
        text = experiment.model_dump_json(exclude_defaults=exclude_defaults)
        assert Experiment.model_validate_json(text) == experiment


def test_what_an_experiment_says_of_itself_cannot_be_overwritten() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        everything().design.coverage = 1.0


def test_moments_are_whole_microseconds_exactly() -> None:
    """A phase that began one later would lose its first slate."""
    rng = np.random.default_rng(1)
    for at_us in map(int, rng.integers(1_600_000_000_000_000, 4_000_000_000_000_000, 10_000)):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
        assert microseconds(moment) == at_us
        assert microseconds(moment.astimezone(tz=None)) == at_us


def test_a_step_and_an_allocation_begin_at_their_microsecond() -> None:
    design = Design(**DESIGN | {"coverage": 0.1, "ramp": (RampStep(at=NOW, coverage=0.9),)})
    phase = (
        everything()
        .phases[0]
        .model_copy(update={"allocations": (Allocation(at=NOW, weights=(0.5, 0.5)),)})
    )
    for late_us, coverage, weights in ((-1, 0.1, (0.75, 0.25)), (0, 0.9, (0.5, 0.5))):
        assert design.coverage_at(microseconds(NOW) + late_us) == coverage
        assert phase.weights_at(microseconds(NOW) + late_us) == weights
