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


MIN_UNITS = 100  # of each variant: below, neither normal nor the variances can be relied on


def harm(row: Row) -> bool:
    """Whether a guardrail is surely beyond its margin, by the always-valid interval."""
    return row.estimate.slack_high is not None and row.estimate.slack_high < 0


def is_unharmed(row: Row) -> bool:
    """Whether a guardrail is surely within its margin."""
    return row.estimate.slack_low is not None and row.estimate.slack_low > 0


def verdict(
    rows: Sequence[Row],
    checks: Sequence[Check],
    plan: Plan,
    *,
    units: int,
    days: float,
    days_left: int | None,
) -> Verdict:
    """`units` are those of the smallest variant, `days` since the first slate.

    `days_left` until the planned power, None if nobody can tell.
    """
    alarms = [check for check in checks if check.is_alarm]
    if alarms:
        return Verdict("unhealthy", f"No verdict: {' '.join(check.words for check in alarms)}")
    if units < MIN_UNITS:
        words = f"Not enough data: {units} units in a variant, at least {MIN_UNITS} are needed."
        return Verdict("collecting", words)
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
    guardrails = [row for row in rows if row.role == "guardrail"]
    return too_early(plan, days) or _of_goals(goals, guardrails, plan, days_left)


def too_early(plan: Plan, days: float) -> Verdict | None:
    """Before the planned days; a week has every day in it."""
    if days >= plan.min_days:
        return None
    left = max(1, round(plan.min_days - days + 0.5))
    words = f"Too early: at least {plan.min_days} days were planned, {left} left."
    return Verdict("collecting", words)


def _of_goals(
    goals: Sequence[Row], guardrails: Sequence[Row], plan: Plan, days_left: int | None
) -> Verdict:
    sure = [row for row in goals if row.p_holm is not None and row.p_holm < plan.alpha]
    worse = [row for row in sure if not _is_better(row)]
    better = [
        row for row in sure if _is_better(row) and row.variant not in {r.variant for r in worse}
    ]
    open_ones = {row.variant for row in guardrails if not is_unharmed(row)}
    free = [row for row in better if row.variant not in open_ones]
    if free:
        best = max(free, key=lambda row: abs(row.estimate.lift or 0.0))
        words = f"Ship {best.variant}: {best.metric.name} {_lift(best)}."
        return Verdict("ship", words, best.variant)
    if better:
        return _unsure_of_guardrails(better[0], guardrails)
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
            f"Undecided: a change of {plan.target_lift:.1%} would by now be found with a chance of "
            f"{plan.power:.0%}, so what there is, is probably smaller. Keep the control, or go on."
        )
        return Verdict("collecting", words)
    if days_left is None:
        return Verdict("collecting", "Not enough data, and nobody can tell yet when it will be.")
    unit = "day" if days_left == 1 else "days"
    return Verdict("collecting", f"Not enough data: about {days_left} {unit} left.")


def _unsure_of_guardrails(best: Row, guardrails: Sequence[Row]) -> Verdict:
    left = [row for row in guardrails if row.variant == best.variant and not is_unharmed(row)]
    told = "; ".join(
        f"{row.metric.name} {row.estimate.problem or _lift(row)}, margin {row.metric.margin:.1%}"
        for row in left
    )
    words = (
        f"Not yet: {best.variant} is better by {best.metric.name}, {_lift(best)}, and is not yet "
        f"shown to keep within the margin of its guardrails ({told})."
    )
    return Verdict("collecting", words, best.variant)


def _is_better(row: Row) -> bool:
    return ((row.estimate.difference or 0.0) > 0) == (row.metric.direction == "up")


def _is_small(row: Row, target: float) -> bool:
    low, high = row.estimate.lift_anytime_low, row.estimate.lift_anytime_high
    return low is not None and high is not None and -target < low and high < target


def _lift(row: Row) -> str:
    e = row.estimate
    if e.difference is None:
        return e.problem or "nothing is known"
    if e.lift is None or e.lift_anytime_low is None or e.lift_anytime_high is None:
        return f"{e.difference:+.4g} [{e.anytime_low:+.4g}, {e.anytime_high:+.4g}]"
    return f"{e.lift:+.1%} [{e.lift_anytime_low:+.1%}, {e.lift_anytime_high:+.1%}]"
