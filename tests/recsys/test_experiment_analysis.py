import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.errors import DataError
from features.events import EVENT_SCHEMA, US_PER_DAY
from features.slates import ASSIGNMENT_SCHEMA
from jobs.sample import Size, Storefront
from jobs.sample.experiment import Population, draw_population, frames
from recsys.evaluation.experiment.analysis import Analysis, analyse
from recsys.evaluation.experiment.units import samples, units_of
from recsys.experiments.experiment import Design, Experiment, Metric, Plan, RampStep, Variant
from recsys.experiments.lifecycle import changed, drafted, reallocated, started, stopped

START = datetime(2026, 3, 2, tzinfo=UTC)
START_US = int(START.timestamp() * 1e6)
CLICKS = Metric(name="clicks", event_type="click")
SPENT = Metric(name="spent", event_type="purchase", of="value")
RATE = Metric(name="click-rate", event_type="click", kind="ratio", per="slates", margin=0.02)


def running(start: datetime = START, **changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "try",
        "hypothesis": "it helps",
        "unit": "user",
        "variants": (Variant(key="control"), Variant(key="new", policy={"exploration": 0.05})),
        "plan": Plan(goals=(CLICKS,)),
    }
    return started(drafted(Design(**fields | changes), start), start, "", ())


def slate(user_id: str | None, variant: str, day: float, **changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "request_id": f"r-{user_id}-{day}",
        "experiment": "try",
        "phase": 1,
        "variant": variant,
        "how": "hash",
        "unit_id": user_id,
        "user_id": user_id,
        "session_id": f"s-{user_id}",
        "placement": "home",
        "shown_at_us": START_US + int(day * US_PER_DAY),
        "n_items": 10,
        "teams": None,
    }
    return given | changes


def event(user_id: str, day: float, kind: str = "click", **changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "event_id": f"e-{user_id}-{day}-{kind}",
        "user_id": user_id,
        "session_id": None,
        "item_id": "i",
        "event_type": kind,
        "event_time_us": START_US + int(day * US_PER_DAY),
        "request_id": None,
        "value": None,
    }
    return given | changes


def tables(
    slates: list[dict[str, object]], events: list[dict[str, object]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.DataFrame(slates, ASSIGNMENT_SCHEMA), pl.DataFrame(events, EVENT_SCHEMA)


def looked(
    slates: list[dict[str, object]],
    events: list[dict[str, object]],
    experiment: Experiment | None = None,
    *,
    days: float = 10,
) -> Analysis:
    as_of_us = START_US + int(days * US_PER_DAY)
    return analyse(experiment or running(), *tables(slates, events), as_of_us=as_of_us)


def crowd(n: int = 400, *, days: float = 9.5) -> list[dict[str, object]]:
    return [slate(f"u{u}", ("control", "new")[u % 2], days * (u + 1) / n) for u in range(n)]


def clicking(n: int = 400, day: float = 9.6) -> list[dict[str, object]]:
    rng = np.random.default_rng(3)
    return [
        event(f"u{u}", day + 0.001 * c)
        for u in range(n)
        for c in range(int(rng.poisson(2 + u % 2)))
    ]


def numbers(value: object) -> list[float]:
    if isinstance(value, Mapping):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, float) else []


def test_an_effect_is_found_and_said_in_words() -> None:
    found = looked(crowd(), clicking())
    assert found.verdict.standing == "ship"
    assert found.verdict.variant == "new"
    assert found.verdict.words.startswith("Ship new: clicks +")
    assert found.units == {"control": 200, "new": 200}


def test_the_difference_of_a_tiny_experiment_is_what_a_hand_finds() -> None:
    slates = [slate(f"u{n}", "control" if n < 3 else "new", n / 10) for n in range(6)]
    clicks = {"u0": 1, "u2": 2, "u3": 4, "u4": 2}
    events = [event(user, 1 + n / 100) for user, times in clicks.items() for n in range(times)]
    (row,) = looked(slates, events).rows
    assert (row.estimate.control_value, row.estimate.variant_value) == (1.0, 2.0)
    assert row.estimate.difference == 1.0
    assert row.estimate.se == pytest.approx(math.sqrt(1 / 3 + 4 / 3))


def test_everything_can_be_written_as_json_and_read_as_tables() -> None:
    found = looked(crowd(), clicking())
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["verdict"]["standing"] == "ship"
    assert json.loads(text)["experiment"]["design"]["name"] == "try"
    assert list(found.tables()["metrics"]["metric"]) == ["clicks"]
    assert found.tables()["looks"]["day"].is_monotonic_increasing


def test_an_arm_without_traffic_has_no_verdict() -> None:
    found = looked([slate(f"u{n}", "control", 1) for n in range(50)], clicking(50))
    assert found.verdict.standing == "unhealthy"
    assert "No unit has been given new yet" in found.verdict.words
    assert found.rows[0].estimate.problem == "no units in the variant"


def test_an_experiment_nobody_has_seen_says_so() -> None:
    found = looked([], [])
    assert found.verdict.standing == "unhealthy"
    assert found.looks == ()
    assert numbers(found.as_json()["rows"]) == []


def test_one_user_is_no_result() -> None:
    found = looked([slate("u0", "control", 1), slate("u1", "new", 1)], [event("u1", 2)])
    assert found.rows[0].estimate.problem == "one unit in the control, at least two are needed"
    assert found.verdict.standing in ("unhealthy", "collecting")


def test_a_metric_that_does_not_vary_is_said_to_be_so() -> None:
    found = looked(crowd(), [event(f"u{n}", 9.6) for n in range(400)])
    assert found.rows[0].estimate.problem == "the metric does not vary between units"
    assert found.verdict.standing == "collecting"
    assert "does not vary" in found.verdict.words


def test_a_metric_whose_values_are_all_null_says_nothing() -> None:
    experiment = running(plan=Plan(goals=(SPENT,)))
    found = looked(crowd(), [event(f"u{n}", 9.6, "purchase") for n in range(400)], experiment)
    assert found.rows[0].estimate.problem == "no purchase of control has a value"
    assert found.verdict.standing == "collecting"


@pytest.mark.parametrize("per", ["slates", "exposures", "view"])
def test_ratios_without_a_denominator_say_so_and_others_have_numbers(per: str) -> None:
    metric = Metric(name="rate", event_type="click", kind="ratio", per=per)
    found = looked(crowd(), clicking(), running(plan=Plan(goals=(metric,))))
    estimate = found.rows[0].estimate
    if per == "view":
        assert estimate.problem == "nothing to divide by in the control: no view"
    else:
        assert estimate.lift is not None
        assert estimate.lift > 0


def test_bad_inputs_never_leave_a_nan() -> None:
    value = Metric(name="basket", event_type="purchase", kind="quantile", quantile=0.9)
    plan = Plan(goals=(CLICKS, SPENT, value), guardrails=(RATE,))
    for slates in ([], crowd(1), crowd(2), crowd(3), crowd(60)):
        for events in ([], [event("u0", 9.6, "purchase", value=3.0)], clicking(60)):
            found = looked(slates, events, running(plan=plan))
            assert all(math.isfinite(n) for n in numbers(found.as_json()))
            json.dumps(found.as_json(), allow_nan=False)


def test_events_before_the_first_slate_explain_but_do_not_count() -> None:
    slates = [slate(f"u{n}", ("control", "new")[n % 2], 1) for n in range(8)]
    early = [event(f"u{n}", 0.5) for n in range(4)]
    late = [event(f"u{n}", 1.5) for n in range(2, 6)]
    units = units_of(*tables(slates, early + late), "user")
    (found,) = samples(units, CLICKS, ["control"])  # u0, u2, u4, u6
    assert found.totals.tolist() == [0, 1, 1, 0]
    assert found.before is not None
    assert found.before.tolist() == [1, 1, 0, 0]


def test_the_window_after_the_first_slate_ends() -> None:
    metric = Metric(name="clicks", event_type="click", window_days=2)
    slates = [slate("u0", "control", 0), slate("u1", "new", 0)]
    events = [event("u0", 0), event("u0", 1.99), event("u0", 2)]
    (found,) = samples(units_of(*tables(slates, events), "user"), metric, ["control"])
    assert found.totals[0] == 2


def test_attributed_events_must_name_a_slate_of_the_experiment() -> None:
    metric = Metric(name="clicks", event_type="click", attributed=True)
    slates = [slate("u0", "control", 0), slate("u1", "new", 0)]
    events = [event("u0", 1, request_id="r-u0-0"), event("u0", 2, request_id="r-other")]
    (found,) = samples(units_of(*tables(slates, events), "user"), metric, ["control"])
    assert found.totals[0] == 1


def test_a_slate_seen_twice_counts_its_unit_once() -> None:
    slates = [*crowd(40), *crowd(40)]
    assert looked(slates, clicking(40)).units == {"control": 20, "new": 20}


def test_who_saw_several_variants_is_left_out_and_many_of_them_forbid_a_verdict() -> None:
    both = [slate(f"u{n}", "new", 9.8) for n in range(0, 40, 2)]
    found = looked([*crowd(), *both], clicking())
    assert found.n_multiple == 20
    assert found.units["control"] == 180
    assert found.verdict.standing == "unhealthy"
    assert "choose a unit that stays the same" in found.verdict.words


def test_a_login_between_variants_is_one_unit_in_several() -> None:
    """A session dealt apart from the user it turned out to be: links give its rows the user."""
    dealt = [
        slate("u1", "control", 0.1, unit_id="s-1", session_id="s-1"),
        slate("u1", "new", 0.2, session_id="s-1"),
        slate("u2", "new", 0.2),
    ]
    units = units_of(*tables(dealt, []), "shopper")
    assert units.n_multiple == 1
    assert units.table["unit"].to_list() == ["u2"]


def test_overrides_and_held_out_units_are_left_out() -> None:
    apart = [
        slate("qa", "new", 1, how="override"),
        slate("qa", "new", 2),
        slate("kept", "holdout", 1, how="holdout"),
    ]
    found = looked([*crowd(), *apart], clicking())
    assert (found.n_overrides, found.n_held_out) == (1, 1)
    assert sum(found.units.values()) == 400


def test_shares_that_were_not_planned_forbid_a_verdict() -> None:
    lost = [row for n, row in enumerate(crowd(2000)) if n % 2 == 0 or n % 10 < 7]
    found = looked(lost, clicking(2000))
    assert found.verdict.standing == "unhealthy"
    assert "planned shares" in found.verdict.words


def test_variants_that_differed_before_forbid_a_verdict() -> None:
    past = [event(f"u{n}", -3 - c / 100) for n in range(1, 400, 2) for c in range(n % 5)]
    found = looked(crowd(), [*past, *clicking()])
    assert found.verdict.standing == "unhealthy"
    assert "restart it with a new salt" in found.verdict.words


def test_a_running_experiment_whose_slates_stopped_is_unhealthy() -> None:
    found = looked(crowd(), clicking(), days=20)
    assert found.verdict.standing == "unhealthy"
    assert "slates are no longer logged" in found.verdict.words


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


def test_only_the_newest_phase_counts_unless_an_older_one_is_asked_for() -> None:
    before = running()
    later = START + timedelta(days=5)
    after = changed(before, before.design.model_copy(update={"unit": "shopper"}), later, ())
    second = [slate(f"v{n}", ("control", "new")[n % 2], 6, phase=2) for n in range(30)]
    rows = tables([*crowd(days=4), *second], clicking())
    as_of_us = START_US + 6 * US_PER_DAY + US_PER_DAY // 2
    assert sum(analyse(after, *rows, as_of_us=as_of_us).units.values()) == 30
    first = analyse(after, *rows, as_of_us=as_of_us, phase=after.phases[0])
    assert sum(first.units.values()) == 400


def test_what_never_ran_cannot_be_analysed() -> None:
    draft = drafted(running().design, START)
    with pytest.raises(DataError, match="never ran: start it first"):
        looked([], [], draft)


def test_goals_share_their_chance_of_error() -> None:
    goals = (CLICKS, Metric(name="any", kind="proportion", event_type="click"))
    found = looked(crowd(), clicking(), running(plan=Plan(goals=goals)))
    alone = [row.estimate.p_anytime for row in found.rows]
    together = [row.p_holm for row in found.rows]
    assert all(
        b is not None and a is not None and b >= a for a, b in zip(alone, together, strict=True)
    )
    assert together != alone


@pytest.fixture(scope="module")
def population() -> Population:
    storefront = Storefront(0, Size.for_events(100_000, n_days=44))
    return draw_population(storefront, 800, knowledge=(0.0, 0.1))


def test_the_whole_path_finds_the_storefronts_true_lift(population: Population) -> None:
    treated = np.random.default_rng(0).random(len(population)) < 0.5
    start = datetime.fromtimestamp(population.start_us / 1e6, UTC)
    slates, events = frames(population, treated, experiment="try", variants=("control", "new"))
    as_of_us = population.start_us + population.n_days * US_PER_DAY
    found = analyse(running(start), slates, events, as_of_us=as_of_us)
    estimate = found.rows[0].estimate
    assert found.verdict.standing == "ship"
    assert estimate.anytime_low is not None
    assert estimate.anytime_high is not None
    assert estimate.anytime_low < population.true_difference < estimate.anytime_high
    assert estimate.variance_cut is not None
    assert estimate.variance_cut > 0.3
    assert len(found.looks) == 30
    widths = [
        (row.estimate.lift_anytime_high or 0) - (row.estimate.lift_anytime_low or 0)
        for look in found.looks
        for row in look.rows
    ]
    assert widths[-1] < widths[0]


def test_a_bandit_is_judged_by_period_where_shares_and_days_moved_together() -> None:
    """Both variants are alike; the second period is better for all, and mostly "new"'s."""
    moved = START + timedelta(days=5)
    bandit = reallocated(running(kind="bandit"), moved, (0.1, 0.9))
    rng = np.random.default_rng(7)
    slates, clicks = [], []
    for unit in range(2_000):
        late = unit >= 1_000
        variant = ("control", "new")[int(rng.random() < (0.9 if late else 0.5))]
        day = 6.0 if late else 1.0
        slates.append(slate(f"u{unit}", variant, day))
        clicks += [
            event(f"u{unit}", day + 0.001 * (c + 1)) for c in range(rng.poisson(3 if late else 1))
        ]
    fair = looked(slates, clicks, bandit).rows[0].estimate
    assert fair.anytime_low is not None
    assert fair.anytime_high is not None
    assert fair.anytime_low < 0 < fair.anytime_high
    pooled = looked(slates, clicks, running()).rows[0].estimate
    assert pooled.anytime_low is not None
    assert pooled.anytime_low > 0, "without periods the better days look like a better variant"


def test_the_impact_is_the_difference_of_all_who_come_a_day() -> None:
    found = looked(crowd(), clicking(), running(coverage=0.5))
    (impact,) = found.impact
    estimate = found.rows[0].estimate
    units_a_day = 400 / 10 / 0.5
    assert impact.mean == pytest.approx(units_a_day * (estimate.difference or 0))
    assert impact.low == pytest.approx(units_a_day * (estimate.anytime_low or 0))
    hours = looked(crowd(days=0.4), clicking(day=0.45), running(coverage=0.5), days=0.5)
    assert hours.impact == (), "of hours nobody can say what a day brings"


def test_a_ramps_days_count_by_the_share_it_covered() -> None:
    steps = (RampStep(at=START + timedelta(days=4), coverage=0.75),)
    ramped = looked(crowd(), clicking(), running(coverage=0.25, ramp=steps))
    whole = looked(crowd(), clicking())
    covered = 4 * 0.25 + 6 * 0.75
    assert ramped.impact[0].mean == pytest.approx(whole.impact[0].mean * 10 / covered)


def test_items_without_a_chance_are_counted_and_forbid_nothing() -> None:
    rows = tables(crowd(), clicking())
    as_of_us = START_US + 10 * US_PER_DAY
    found = analyse(running(), *rows, as_of_us=as_of_us, unknown_chances=0.25)
    assert "25.0% of the items shown have no propensity" in found.checks[-1].words
    assert found.verdict.standing != "unhealthy"


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


def test_a_variant_that_loses_its_values_is_unhealthy_and_no_result() -> None:
    bought = [event(f"u{u}", 9.6, "purchase", value=None if u % 2 else 5.0 + u) for u in range(400)]
    plan = Plan(goals=(SPENT,), guardrails=(SPENT.model_copy(update={"margin": 0.1, "name": "g"}),))
    found = looked(crowd(), bought, running(plan=plan))
    assert found.verdict.standing == "unhealthy"
    assert "purchase comes without a value from unequal shares" in found.verdict.words
    assert found.rows[0].estimate.problem == "no purchase of new has a value"


def test_slates_told_twice_count_once_in_a_ratio() -> None:
    once = looked(crowd(), clicking(), running(plan=Plan(goals=(RATE,))))
    twice = [row for n, row in enumerate(crowd()) for _ in range(1 + n % 2)]
    again = looked(twice, clicking(), running(plan=Plan(goals=(RATE,))))
    assert again.rows[0].estimate == once.rows[0].estimate


def moving_bandit(n_periods: int, shares: float = 0.45) -> Experiment:
    bandit = running(kind="bandit")
    for period in range(1, n_periods):
        share = shares if period % 2 else 1 - shares
        bandit = reallocated(bandit, START + timedelta(days=period), (share, 1 - share))
    return bandit


def test_who_comes_in_every_period_of_a_bandit_is_one_person() -> None:
    """A/A; habits last and hardly anybody changes sides, so periods repeat each other."""
    n, n_periods, z = 200, 6, []
    bandit = moving_bandit(n_periods)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        habit, place = rng.gamma(1.0, 3.0, n), rng.random(n)
        slates, clicks = [], []
        for period in range(n_periods):
            edge = 0.5 if period == 0 else (0.45 if period % 2 else 0.55)
            for u in range(n):
                day = period + 0.1
                slates.append(slate(f"u{u}", ("control", "new")[int(place[u] >= edge)], day))
                times = rng.poisson(habit[u])
                clicks += [event(f"u{u}", day + 0.001 * (c + 1)) for c in range(times)]
        found = looked(slates, clicks, bandit, days=n_periods).rows[0].estimate
        assert found.se is not None
        assert found.n_control + found.n_variant < 1.4 * n, "persons, not their periods"
        z.append((found.difference or 0.0) / found.se)
    assert 0.75 < np.std(z) < 1.3  # 1 ± 3 standard errors of 60


def test_a_bandits_shares_are_checked_by_who_came_in_which_period() -> None:
    bandit = reallocated(running(kind="bandit"), START + timedelta(days=5), (0.1, 0.9))
    rng = np.random.default_rng(2)
    fair = [
        slate(f"u{u}", ("control", "new")[int(rng.random() < (0.5 if u < 500 else 0.9))], day)
        for u in range(1_000)
        for day in [1.0 if u < 500 else 6.0]
    ]
    clicks = [event(f"u{u}", 7) for u in range(0, 1_000, 3)]
    words = {c.name: c for c in looked(fair, clicks, bandit).checks}
    assert not words["shares"].is_alarm
    lost = [row for n, row in enumerate(fair) if row["variant"] == "control" or n % 3]
    assert looked(lost, clicks, bandit).verdict.standing == "unhealthy"


def test_what_a_bandit_did_to_somebody_is_not_their_time_before() -> None:
    """Who saw "new" clicks on the next morning too, before their first slate of that period."""
    bandit = moving_bandit(2, shares=0.5)
    slates = [
        slate(f"u{u}", ("control", "new")[u % 2], day) for u in range(400) for day in (0.5, 1.5)
    ]
    clicks = [event(f"u{u}", 1.2 + c / 100) for u in range(1, 400, 2) for c in range(1 + u % 5)]
    found = looked(slates, clicks, bandit, days=2)
    told = {check.name: check for check in found.checks}
    assert not told["time before"].is_alarm


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


def test_the_json_names_no_tester() -> None:
    found = looked(crowd(), clicking(), running(overrides={"secret-name": "new"}))
    assert "secret-name" not in json.dumps(found.as_json())
