"""What a result means, in words: never a bare p-value, never a verdict on a sick experiment.

Only always-valid intervals decide, so that looking every day changes no promise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.evaluation.experiment.estimates import Estimate
from recsys.evaluation.experiment.health import Check
from recsys.experiments.experiment import Metric, Plan

Standing = Literal[
    "unhealthy", "collecting", "ship", "roll back", "no difference", "harmful", "preferred"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of one variant, and its p-value among all goals."""

    role: Literal["goal", "guardrail", "secondary"]
    metric: Metric
    variant: str
    estimate: Estimate
    p_holm: float | None = None  # always-valid, adjusted for all goals and variants


@dataclass(frozen=True, slots=True)
class Verdict:
    """One status line; `variant` is the one it is about."""

    standing: Standing
    words: str
    variant: str | None = None


def harm(row: Row) -> bool:
    """Whether a guardrail's whole always-valid interval lies beyond its margin."""
    estimate, margin = row.estimate, row.metric.margin
    low, high = estimate.lift_anytime_low, estimate.lift_anytime_high
    if margin is None or low is None or high is None:
        return False
    return high < -margin if row.metric.direction == "up" else low > margin


def verdict(
    rows: Sequence[Row],
    checks: Sequence[Check],
    plan: Plan,
    *,
    days: float,
    days_left: int | None,
) -> Verdict:
    """`days` it has run; `days_left` until the planned power, None if nobody can tell."""
    alarms = [check for check in checks if check.is_alarm]
    if alarms:
        return Verdict("unhealthy", f"No verdict: {' '.join(check.words for check in alarms)}")
    for row in rows:
        if row.role == "guardrail" and harm(row):
            words = f"{row.variant} harms {row.metric.name}: {_lift(row)}. Stop it."
            return Verdict("harmful", words, row.variant)
    goals = [row for row in rows if row.role == "goal"]
    problems = [
        f"{row.metric.name}: {row.estimate.problem}" for row in goals if row.estimate.problem
    ]
    if len(problems) == len(goals):
        return Verdict("collecting", f"Not enough data: {'; '.join(dict.fromkeys(problems))}.")
    return too_early(plan, days) or _of_goals(goals, plan, days_left)


def too_early(plan: Plan, days: float) -> Verdict | None:
    """Before the planned days; a week has every day in it."""
    if days >= plan.min_days:
        return None
    left = max(1, round(plan.min_days - days + 0.5))
    words = f"Too early: at least {plan.min_days} days were planned, {left} left."
    return Verdict("collecting", words)


def _of_goals(goals: Sequence[Row], plan: Plan, days_left: int | None) -> Verdict:
    sure = [row for row in goals if row.p_holm is not None and row.p_holm < plan.alpha]
    worse = [row for row in sure if not _is_better(row)]
    better = [
        row for row in sure if _is_better(row) and row.variant not in {r.variant for r in worse}
    ]
    if better:
        best = max(better, key=lambda row: abs(row.estimate.lift or 0.0))
        words = f"Ship {best.variant}: {best.metric.name} {_lift(best)}."
        return Verdict("ship", words, best.variant)
    variants = list(dict.fromkeys(row.variant for row in goals))
    if worse and {row.variant for row in worse} == {*variants}:
        first = worse[0]
        words = f"Keep the control: with {first.variant}, {first.metric.name} {_lift(first)}."
        return Verdict("roll back", words, first.variant)
    if all(_is_small(row, plan.target_lift) for row in goals):
        words = f"No variant changes a goal by {plan.target_lift:.1%} or more: keep the control."
        return Verdict("no difference", words)
    if days_left == 0:
        words = (
            "Undecided with the planned number of units: what difference there is, is too small "
            "to tell. Keep the control, or go on."
        )
        return Verdict("collecting", words)
    if days_left is None:
        return Verdict("collecting", "Not enough data, and nobody can tell yet when it will be.")
    unit = "day" if days_left == 1 else "days"
    return Verdict("collecting", f"Not enough data: about {days_left} {unit} left.")


def _is_better(row: Row) -> bool:
    return ((row.estimate.difference or 0.0) > 0) == (row.metric.direction == "up")


def _is_small(row: Row, target: float) -> bool:
    low, high = row.estimate.lift_anytime_low, row.estimate.lift_anytime_high
    return low is not None and high is not None and -target < low and high < target


def _lift(row: Row) -> str:
    e = row.estimate
    if e.lift is None or e.lift_anytime_low is None or e.lift_anytime_high is None:
        return f"{e.difference:+.4g} [{e.anytime_low:+.4g}, {e.anytime_high:+.4g}]"
    return f"{e.lift:+.1%} [{e.lift_anytime_low:+.1%}, {e.lift_anytime_high:+.1%}]"
