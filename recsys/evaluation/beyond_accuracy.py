"""What lists do besides hitting: whom they reach, what they favour, how alike they are."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from features.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from features.interactions import Interactions
from recsys.bundle import Bundle
from recsys.evaluation.metrics import (
    RowSets,
    average_popularity,
    catalogue_coverage,
    gini,
    intra_list_diversity,
    miscalibration,
    novelty,
    personalisation,
    tag_shares,
)
from recsys.training.queries import PastQueries


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


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What every arm's lists are held against: items and shoppers as they were at the cut."""

    item_users: Int64Array  # (n_items,) shoppers who had taken it
    n_users: int
    popularity_taken: float  # mean item_users of what the trial's shoppers took
    vectors: Float32Array  # (n_items, d) of the texts
    item_tags: Int32Array  # (n_items, width)
    n_tags: int
    history_tags: sparse.csr_array  # (n_queries, n_tags)

    @classmethod
    def of(
        cls, bundle: Bundle, log: Interactions, past: PastQueries, relevant: RowSets
    ) -> "Yardstick":
        """`log` up to the cut, in the bundle's rows."""
        liked = log.positive()
        n_items = len(bundle.catalog)
        met = np.unique(liked.user_rows.astype(np.int64) * n_items + liked.item_rows)
        item_users = np.bincount(met % n_items, minlength=n_items)
        queries = past.queries
        is_liked = bundle.type_weights[queries.history_types] > 0
        history = RowSets.padded(np.where(is_liked, queries.history_rows, -1).astype(np.int32))
        tags, n_tags = bundle.catalog.tags, bundle.catalog.n_tags
        return cls(
            item_users=item_users,
            n_users=max(len(np.unique(liked.user_rows)), 1),
            popularity_taken=_mean(_means(relevant, item_users)),
            vectors=bundle.text.taste.vectors,
            item_tags=tags,
            n_tags=n_tags,
            history_tags=tag_shares(history, tags, n_tags),
        )

    def measure(self, top: Int32Array) -> BeyondAccuracy:
        """`top` (n_queries, k) item rows, padded with -1."""
        n_items = len(self.item_users)
        popularity = _mean(average_popularity(top, self.item_users))
        taken = self.popularity_taken
        shown_tags = tag_shares(RowSets.padded(top), self.item_tags, self.n_tags)
        return BeyondAccuracy(
            answered=float((top >= 0).any(axis=1).mean()),
            coverage=catalogue_coverage(top, n_items),
            gini=gini(top, n_items),
            novelty=_mean(novelty(top, self.item_users, self.n_users)),
            popularity=popularity,
            popularity_lift=popularity / taken if taken > 0 else float("nan"),
            diversity=_mean(intra_list_diversity(top, self.vectors)),
            personalisation=personalisation(top, n_items),
            miscalibration=_mean(miscalibration(shown_tags, self.history_tags)),
        )


def _means(sets: RowSets, of_item: Int64Array) -> Float64Array:
    """(n_users,) mean of each user's items; every set holds one."""
    total = np.bincount(sets.owners(), of_item[sets.rows], minlength=len(sets))
    return np.asarray(total / np.diff(sets.indptr), np.float64)


def _mean(values: Float64Array) -> float:
    """Of those that are defined; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
