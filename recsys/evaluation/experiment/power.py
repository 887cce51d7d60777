"""How many units an answer needs, by the rule that decides: the always-valid interval."""

import math

from scipy import stats

from features.errors import DataError
from recsys.evaluation.experiment import sequential

MAX_UNITS = 1e12  # more than there are people: no experiment waits for them


def detectable(se: float, n: float, *, alpha: float, power: float, n_star: float) -> float:
    """The smallest true difference that a look at n units finds with that power, in its units.

    (half width of the always-valid interval in standard errors + z_power) · se.
    """
    reach = float(sequential.half_width(1.0, n, alpha=alpha, n_star=n_star))
    return (reach + float(stats.norm.ppf(power))) * se


def units_needed(
    difference: float, se: float, n: float, *, alpha: float, power: float, n_star: float
) -> int | None:
    """Of all arms together, where n of them have left the standard error `se`.

    None where no number of units that there can be is enough. Several questions share one chance
    of error: give `alpha` divided by their number.
    """
    if not (difference > 0 and se > 0 and n > 0 and math.isfinite(se)):
        raise DataError(
            f"found the difference {difference:g}, standard error {se:g} and {n:g} units, expected "
            "all above 0: without them no number of units can be told"
        )

    def finds(units: float) -> bool:
        then = se * math.sqrt(n / units)
        return detectable(then, units, alpha=alpha, power=power, n_star=n_star) <= difference

    low, high = 1.0, 2.0
    while not finds(high):
        low, high = high, 2 * high
        if high > MAX_UNITS:
            return None
    while high - low > max(0.5, 1e-6 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if finds(middle) else (middle, high)
    return math.ceil(high)


def power_of(difference: float, se: float, *, alpha: float) -> float:
    """The chance that a two-sided test at one planned look finds a true difference."""
    z, cut = abs(difference) / se, stats.norm.ppf(1 - alpha / 2)
    return float(stats.norm.cdf(z - cut) + stats.norm.cdf(-z - cut))


def days_left(units: int, units_per_day: float, needed: int) -> int | None:
    """0 when there are enough; None when none arrive."""
    if units >= needed:
        return 0
    return math.ceil((needed - units) / units_per_day) if units_per_day > 0 else None
