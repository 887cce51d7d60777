"""How often the sample-ratio check sees that units of one variant go uncounted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.arrays import Int64Array
from jobs.experiments.simulation import LOOKS, Share
from recsys.evaluation.experiment import srm
from recsys.progress import Progress

UNITS = 20_000  # of an experiment
DROPPED = (0.0, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioAlarms:
    """Sample-ratio alarms at p < 0.001 where a share of the treated units goes uncounted."""

    dropped: float
    once: Share
    daily: Share  # the chi-square test at any look
    sequential: Share  # the always-valid test at any look


def ratio_alarms(
    first_day: Int64Array, *, experiments: int, seed: int, progress: Progress
) -> Iterator[RatioAlarms]:
    """`first_day` (n,) says how the units arrive."""
    arriving = np.bincount(first_day, minlength=LOOKS) / len(first_day)
    weights = np.array([0.5, 0.5])
    for dropped in DROPPED:
        once, daily, always = [], [], []
        label = f"sample ratio: {dropped:.0%} dropped"
        for number in progress.track(range(experiments), total=experiments, label=label):
            rng = np.random.default_rng([seed, 5, round(1_000 * dropped), number])
            came = rng.multinomial(UNITS, arriving)
            treated = rng.binomial(came, 0.5)
            counted = rng.binomial(treated, 1 - dropped)
            counts = np.cumsum(np.column_stack([came - treated, counted]), axis=0)
            p = [srm.chi_square_p(one, weights) for one in counts]
            q = [srm.sequential_p(one, weights) for one in counts]
            once.append(p[-1] < srm.ALARM)
            daily.append(min(p) < srm.ALARM)
            always.append(min(q) < srm.ALARM)
        yield RatioAlarms(
            dropped=dropped, once=Share.of(once), daily=Share.of(daily), sequential=Share.of(always)
        )
