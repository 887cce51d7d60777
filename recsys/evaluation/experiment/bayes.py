"""What a flat prior makes of a difference: how likely the variant is better, and what it risks."""

from scipy import stats


def chance_to_win(difference: float, se: float) -> float:
    """P(truth > 0) for a normal posterior around the difference."""
    return float(stats.norm.cdf(difference / se))


def risk(difference: float, se: float) -> float:
    """E[max(-truth, 0)]: what is lost on average by choosing the variant, in the metric's units."""
    z = difference / se
    return float(se * stats.norm.pdf(z) - difference * stats.norm.cdf(-z))
