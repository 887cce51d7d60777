"""What learning the encoder and learning the item map have in common: rate and temperature."""

from collections.abc import Callable

WARM_UP_STEPS = 10
TEMPERATURE_LEARNING_RATE = 1e-2  # a scalar in log space would stand still at the layers' rate
MIN_TEMPERATURE = 0.05  # sharper, and every cosine rises instead of the right ones


def rate_factor(n_steps: int) -> Callable[[int], float]:
    """Up in a few steps, then down in a line to 0 after `n_steps`."""

    def factor(step: int) -> float:
        return min((step + 1) / WARM_UP_STEPS, max(0.0, (n_steps - step) / n_steps))

    return factor
