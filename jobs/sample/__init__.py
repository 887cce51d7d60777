"""A storefront whose truth is known: what every shopper would do with every item, at any time."""

from jobs.sample.judges import Judges
from jobs.sample.sessions import DayOfEvents, Shown, simulate_day
from jobs.sample.storefront import FIRST_DAY, Storefront
from jobs.sample.world import Size
from jobs.sample.writer import is_written, write_sample

__all__ = [
    "FIRST_DAY",
    "DayOfEvents",
    "Judges",
    "Shown",
    "Size",
    "Storefront",
    "is_written",
    "simulate_day",
    "write_sample",
]
