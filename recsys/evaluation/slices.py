"""For whom the ranker is good: the trial's shoppers parted by what they and their items are like.

Intervals are 95 % each, not corrected for being many: slices raise questions, they decide nothing.
"""

from dataclasses import dataclass

from recsys.evaluation.bootstrap import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Shoppers of one kind; a slice nobody is in does not exist."""

    dimension: str  # "shopper", "events known", "items taken", "category"
    name: str
    shoppers: int  # few make wide intervals, below about 20 too narrow ones
    ndcg: dict[str, Interval]  # nDCG@10 of the ranker and its rivals
    against: dict[str, Interval]  # rival → the ranker's minus the rival's, paired
