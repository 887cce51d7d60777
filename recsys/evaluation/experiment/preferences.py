"""Which of two rankings the units took more from, one number for each unit.

A unit prefers the ranking it took more from (Chapelle, Joachims, Radlinski & Yue 2012), so that
units, not clicks, are what is independent:

    d = (units that prefer the second + ties / 2) / n - 1/2

over the n units that took anything.
"""

import math
from dataclasses import dataclass, replace

from scipy import stats

from features.arrays import Float64Array
from recsys.evaluation.experiment import sequential


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """d of one metric and its intervals at 1 - alpha; above 0 the second ranking is preferred."""

    n: int  # units that took something
    wins: tuple[int, int, int] = (0, 0, 0)  # units for the first, tied, for the second
    d: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    anytime_low: float | None = None
    anytime_high: float | None = None
    p_value: float | None = None
    p_anytime: float | None = None
    problem: str | None = None


def preference(wins: Float64Array, *, alpha: float, n_star: int) -> Preference:
    """`wins` (n,) of the units that took something: -1 the first ranking, 0 tied, 1 the second."""
    n = len(wins)
    counts = (int((wins < 0).sum()), int((wins == 0).sum()), int((wins > 0).sum()))
    told = Preference(n=n, wins=counts)
    if n < 2:
        return replace(told, problem="fewer than two units took anything from one of the rankings")
    if not wins.any():
        return replace(told, d=0.0, problem=f"all {n} units are tied")
    d, se = float(wins.mean() / 2), float(wins.std(ddof=1) / 2 / math.sqrt(n))
    se = se or 0.5 / math.sqrt(n)  # all prefer the same: as if nobody had a preference
    fixed = float(stats.t.ppf(1 - alpha / 2, n - 1)) * se
    always = float(sequential.half_width(se, n, alpha=alpha, n_star=n_star))
    return replace(
        told,
        d=d,
        se=se,
        low=d - fixed,
        high=d + fixed,
        anytime_low=d - always,
        anytime_high=d + always,
        p_value=float(2 * stats.t.sf(abs(d) / se, n - 1)),
        p_anytime=float(sequential.p_value(d, se, n, alpha=alpha, n_star=n_star)),
    )


def words_of(found: Preference) -> str:
    if found.d is None or found.anytime_low is None or found.anytime_high is None:
        return found.problem or "nothing is known"
    return f"d {found.d:+.1%} [{found.anytime_low:+.1%}, {found.anytime_high:+.1%}]"
