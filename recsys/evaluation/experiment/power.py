"""How many units an answer needs: planned before, asked again while the experiment runs."""

import math

from scipy import stats

from features.errors import DataError


def detectable(se: float, *, alpha: float, power: float) -> float:
    """The smallest true difference that is found with that power, in the metric's units.

    (z_{1 - α/2} + z_power) · se, two-sided and with equal variances under both hypotheses.
    """
    return float((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) * se)


def units_needed(
    *, mean: float, sd: float, lift: float, alpha: float, power: float, share: float = 0.5
) -> int:
    """Of both arms together, so that a relative change of `lift` is found with that power.

    `share` is the variant's part of them. The variance of a difference of means is
    sd² (1/(n·share) + 1/(n·(1 - share))).
    """
    if not 0 < share < 1:
        raise DataError(f"found the share {share}, expected one between 0 and 1")
    if mean == 0 or sd == 0 or lift == 0:
        raise DataError(
            f"found mean {mean:g}, standard deviation {sd:g} and lift {lift:g}, expected none of "
            "them to be 0: without them no number of units can be told"
        )
    unit = detectable(sd * math.sqrt(1 / share + 1 / (1 - share)), alpha=alpha, power=power)
    return math.ceil((unit / (lift * mean)) ** 2)


def power_of(difference: float, se: float, *, alpha: float) -> float:
    """The chance that a two-sided test finds a true difference."""
    z, cut = abs(difference) / se, stats.norm.ppf(1 - alpha / 2)
    return float(stats.norm.cdf(z - cut) + stats.norm.cdf(-z - cut))


def days_left(units: int, units_per_day: float, needed: int) -> int | None:
    """0 when there are enough; None when none arrive."""
    if units >= needed:
        return 0
    return math.ceil((needed - units) / units_per_day) if units_per_day > 0 else None
