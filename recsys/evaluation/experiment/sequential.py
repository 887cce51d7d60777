"""Intervals that hold at every look: asymptotic confidence sequences.

Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences" (2024), theorem 2.2: with n units and standard error se the sequence

    d ± se · sqrt( 2 (nρ² + 1) / (nρ²) · log( sqrt(nρ² + 1) / α ) )

covers the truth at all n together with probability 1 - α, and is tightest near n = n_star.
"""

import numpy as np

from features.arrays import Float64Array


def rho_squared(alpha: float, n_star: float) -> float:
    """The mixture's variance that makes the sequence tightest at `n_star` units (ibid. B.2)."""
    bits = -2 * np.log(alpha)
    return float((bits + np.log(bits + 1)) / n_star)


def half_width(
    se: Float64Array | float, n: Float64Array | float, *, alpha: float, n_star: float
) -> Float64Array:
    """Of the interval around a difference; `se` and `n`, the units of both arms, are aligned."""
    information = np.asarray(n, np.float64) * rho_squared(alpha, n_star)
    spread = 2 * (information + 1) / information * np.log(np.sqrt(information + 1) / alpha)
    return np.asarray(se * np.sqrt(spread), np.float64)


def p_value(
    difference: Float64Array | float,
    se: Float64Array | float,
    n: Float64Array | float,
    *,
    alpha: float,
    n_star: float,
) -> Float64Array:
    """The level at which the interval of this look ends at 0; valid at every look.

    `alpha` only says where the mixture was tuned to.
    """
    information = np.asarray(n, np.float64) * rho_squared(alpha, n_star)
    z_squared = np.square(np.asarray(difference, np.float64) / se)
    log_p = 0.5 * np.log1p(information) - information * z_squared / (2 * (information + 1))
    return np.asarray(np.exp(np.minimum(log_p, 0.0)), np.float64)
