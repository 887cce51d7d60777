from datetime import timedelta

import numpy as np
import pytest

from features.events import US_PER_DAY
from recsys.experiments.experiment import Metric, Plan, RampStep, Variant
from recsys.experiments.lifecycle import stopped
from tests.recsys.experiment_rows import (
    CLICKS,
    RATE,
    SPENT,
    START,
    START_US,
    clicking,
    crowd,
    event,
    looked,
    running,
    slate,
)


def test_an_effect_is_found_and_said_in_words() -> None:
    found = looked(crowd(), clicking())
    assert found.verdict.standing == "ship"
    assert found.verdict.variant == "new"
    assert found.verdict.words.startswith("Ship new: clicks +")
    assert found.units == {"control": 200, "new": 200}


def test_no_verdict_before_the_planned_days() -> None:
    found = looked(crowd(days=2.5), clicking(400, 2.9), days=3)
    assert found.verdict.standing == "collecting"
    assert "at least 7 days were planned" in found.verdict.words


def test_a_guardrail_that_is_surely_harmed_is_said_before_the_planned_days() -> None:
    plan = Plan(goals=(SPENT,), guardrails=(RATE,))
    clicks = clicking(400, 3.95)
    fewer = [row for row in clicks if int(str(row["user_id"])[1:]) % 8 in (0, 1, 2, 4, 6)]
    found = looked(crowd(days=3.9), fewer, running(plan=plan), days=4)
    assert found.verdict.standing == "harmful"
    assert found.verdict.words.startswith("new harms click-rate")


def test_goals_share_their_chance_of_error() -> None:
    goals = (CLICKS, Metric(name="any", kind="proportion", event_type="click"))
    found = looked(crowd(), clicking(), running(plan=Plan(goals=goals)))
    alone = [row.estimate.p_anytime for row in found.rows]
    together = [row.p_holm for row in found.rows]
    assert all(
        b is not None and a is not None and b >= a for a, b in zip(alone, together, strict=True)
    )
    assert together != alone


def test_what_comes_after_the_end_does_not_count() -> None:
    over = stopped(running(), START + timedelta(days=10), "enough")
    then = looked(crowd(), clicking(), over)
    late = [event(f"u{u}", 11 + c / 10) for u in range(400) for c in range(30)]
    later = looked(crowd(), [*clicking(), *late], over, days=45)
    assert later.rows[0].estimate == then.rows[0].estimate
    assert (later.days, later.verdict) == (then.days, then.verdict)
    assert later.verdict.standing == "ship"


ORDERS = Metric(name="orders", event_type="purchase", margin=0.05)
GUARDED = Plan(goals=(CLICKS,), guardrails=(ORDERS,))


def buying(rates: tuple[float, float], n: int = 400) -> list[dict[str, object]]:
    rng = np.random.default_rng(5)
    return [
        event(f"u{u}", 9.7 + c / 1_000, "purchase")
        for u in range(n)
        for c in range(int(rng.poisson(rates[u % 2])))
    ]


def test_a_better_variant_waits_until_its_guardrails_are_shown_unharmed() -> None:
    known = looked(crowd(), [*clicking(), *buying((4.0, 6.0))], running(plan=GUARDED))
    assert known.verdict.standing == "ship"
    unsure = looked(crowd(), [*clicking(), *buying((0.2, 0.2))], running(plan=GUARDED))
    assert unsure.verdict.standing == "collecting"
    assert unsure.verdict.words.startswith("Not yet: new is better by clicks, +")
    assert "not yet shown to keep within the margin of its guardrails (orders " in (
        unsure.verdict.words
    )
    nothing = looked(crowd(), clicking(), running(plan=GUARDED))
    assert nothing.verdict.standing == "collecting"
    assert "orders the metric does not vary between units, margin 5.0%" in nothing.verdict.words


def test_harm_where_the_control_has_none_at_all_is_harm() -> None:
    dismissed = ORDERS.model_copy(update={"direction": "down"})
    plan = Plan(goals=(CLICKS,), guardrails=(dismissed,))
    found = looked(crowd(), [*clicking(), *buying((0.0, 5.0))], running(plan=plan))
    assert found.verdict.standing == "harmful"
    assert found.rows[-1].estimate.lift is None


def test_a_handful_of_units_has_no_verdict_however_far_apart() -> None:
    plan = Plan(goals=(CLICKS,), guardrails=(ORDERS,))
    clicks = [event(f"u{u}", 9.6 + c / 1_000) for u in range(8) for c in range(u % 2 * 10 + u % 3)]
    found = looked(crowd(8), [*clicks, event("u0", 9.7, "purchase")], running(plan=plan))
    assert found.verdict.standing == "collecting"
    assert "4 units in a variant, at least 100 are needed" in found.verdict.words


def test_days_without_traffic_are_no_days() -> None:
    steps = (RampStep(at=START + timedelta(days=9), coverage=1.0),)
    late = [row | {"shown_at_us": START_US + 9 * US_PER_DAY} for row in crowd()]
    found = looked(late, clicking(), running(coverage=0.0, ramp=steps))
    assert found.days == pytest.approx(1.0)
    assert "at least 7 days were planned" in found.verdict.words


def test_days_left_are_those_of_the_rule_that_decides() -> None:
    """Uneven shares need longer, and so do more goals."""

    def left(weights: tuple[float, float], goals: int = 1) -> int:
        rng = np.random.default_rng(1)
        named = [
            (f"u{u}", ("control", "new")[int(rng.random() < weights[1])]) for u in range(2_000)
        ]
        slates = [slate(user, variant, 9.0) for user, variant in named]
        clicks = [event(user, 9.5 + c / 99) for user, _ in named for c in range(rng.poisson(1.0))]
        variants = tuple(
            Variant(key=key, weight=w) for key, w in zip(("control", "new"), weights, strict=True)
        )
        plan = Plan(goals=tuple(CLICKS.model_copy(update={"name": f"g{n}"}) for n in range(goals)))
        found = looked(slates, clicks, running(variants=variants, plan=plan))
        assert found.days_left is not None
        return found.days_left

    even, uneven, many = left((0.5, 0.5)), left((0.95, 0.05)), left((0.5, 0.5), goals=5)
    assert even < uneven / 3
    assert even < many
