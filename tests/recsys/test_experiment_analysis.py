import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from features.errors import DataError
from features.events import US_PER_DAY
from jobs.sample import Size, Storefront
from jobs.sample.experiment import Population, draw_population, frames
from recsys.evaluation.experiment.analysis import analyse
from recsys.evaluation.experiment.units import samples, units_of
from recsys.experiments.experiment import Metric, Plan, RampStep
from recsys.experiments.lifecycle import changed, drafted
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
    tables,
)


def numbers(value: object) -> list[float]:
    if isinstance(value, Mapping):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, float) else []


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


def test_a_variant_that_loses_its_values_is_unhealthy_and_no_result() -> None:
    bought = [event(f"u{u}", 9.6, "purchase", value=None if u % 2 else 5.0 + u) for u in range(400)]
    plan = Plan(goals=(SPENT,), guardrails=(SPENT.model_copy(update={"margin": 0.1, "name": "g"}),))
    found = looked(crowd(), bought, running(plan=plan))
    assert found.verdict.standing == "unhealthy"
    assert (
        "purchase has no value in 0.0% of the control's and 100.0% of new's" in found.verdict.words
    )
    assert found.rows[0].estimate.problem == "no purchase of new has a value"


def test_a_unit_with_one_value_missing_keeps_the_others() -> None:
    both = [
        event(f"u{u}", 9.6 + c / 100, "purchase", value=5.0 + u if c else None)
        for u in range(400)
        for c in range(2)
    ]
    found = looked(crowd(), both, running(plan=Plan(goals=(SPENT,))))
    assert found.rows[0].estimate.problem is None
    assert found.verdict.standing != "unhealthy"


def test_a_variant_that_sells_more_often_loses_no_more_of_its_values() -> None:
    """The same tenth of all purchases has no value; more units of "new" have such a one."""
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(20):
        bought = [
            event(f"u{u}", 9.6 + c / 1_000, "purchase", value=None if rng.random() < 0.1 else 9.0)
            for u in range(2_000)
            for c in range(rng.poisson((2.0, 4.0)[u % 2]))
        ]
        found = looked(crowd(2_000), bought, running(plan=Plan(goals=(SPENT,))))
        alarms += any(check.name == "values" for check in found.checks)
    assert alarms <= 1


def test_slates_told_twice_count_once_in_a_ratio() -> None:
    once = looked(crowd(), clicking(), running(plan=Plan(goals=(RATE,))))
    twice = [row for n, row in enumerate(crowd()) for _ in range(1 + n % 2)]
    again = looked(twice, clicking(), running(plan=Plan(goals=(RATE,))))
    assert again.rows[0].estimate == once.rows[0].estimate


def test_the_json_names_no_tester() -> None:
    found = looked(crowd(), clicking(), running(overrides={"secret-name": "new"}))
    assert "secret-name" not in json.dumps(found.as_json())
