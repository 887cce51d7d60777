"""What lists do besides hitting: whom they reach, what they favour, how alike they are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BeyondAccuracy:
    """One arm's first ten; a mean over shoppers with a list, NaN where it has no meaning."""

    answered: float  # share of shoppers who get a list at all
    coverage: float  # share of the catalogue that somebody is shown
    gini: float  # of exposure over the catalogue; 0 all alike
    novelty: float  # bits: -log2 of the share of shoppers who know the item
    popularity: float  # earlier shoppers of an item shown
    popularity_lift: float  # that, over the earlier shoppers of an item then taken; 1 as asked for
    diversity: float  # 1 - cosine of the list's texts, whitened: unrelated items are near 1
    personalisation: float  # 1 - cosine of two shoppers' lists as sets
    miscalibration: float  # KL of the list's tags from the history's (Steck 2018), nats
