"""Which items may stand as wrong answers beside a right one, and which ones make good ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from scipy import sparse

from features.arrays import BoolArray, Int32Array, Int64Array
from features.errors import ConfigError
from recsys.training.encoder.sequences import DistinctSequences

MAX_SHOPPERS = 2_000  # of one item that its company is known from: at most 4 MB for 256 items
MAX_SHOPPER_ITEMS = 200  # latest ones of a shopper that count as met together; more is a crawler


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRules:
    """What goes into a contrastive batch; 0 turns a rule off.

    The three rules are off because none helped. Beauty, 12,000 texts encoded whatever the rule,
    one seed, recall@10 of 4,000 held-out shoppers' 28,275 next items / of the 3,071 that are
    among a tenth of items kept from training, ranked among themselves: frozen .0739 / .1706,
    no rule .0765 / .1771, co_engaged=1 .0765 / .1778, hard_negatives=64 (narrowest category)
    .0757 / .1742, popularity_cap=20 .0756 / .1749. Against no rule, ±95 % over questions, which
    leaves out what another seed would change: +.0000 ±.0005, -.0007 ±.0006, -.0008 ±.0006.
    """

    batch_items: int = 256  # texts of visits encoded a step, about 45 shoppers; more on a GPU
    popularity_cap: int = 0  # times an item is asked for before its questions weigh less
    co_engaged: int = 0  # shoppers shared with the answer from which on an item is no negative
    hard_negatives: int = 0  # items of the answers' categories that a batch encodes besides

    def __post_init__(self) -> None:
        if min(self.popularity_cap, self.co_engaged, self.hard_negatives, self.batch_items - 2) < 0:
            raise ConfigError(
                "BatchRules: expected at least two batch_items and other numbers from 0, found"
                f" {asdict(self)}. Correct the value; 0 turns a rule off."
            )


@dataclass(frozen=True, slots=True)
class Negatives:
    """What is known of every item before it may be anyone's wrong answer.

    Items that share shoppers are found within a batch, from who met what: that needs memory in
    proportion to the events, where a matrix of all pairs grows with the square of a popular
    item's company. Of an item with more than MAX_SHOPPERS a sample of them counts; shoppers are
    drawn in one order for all items, so two popular items keep those they share.
    """

    text_ids: Int64Array  # (n_items,) equal for equal texts
    shoppers: sparse.csc_array | None  # (n_users, n_items) 1 where met; None where nobody asks
    co_engaged: int
    categories: "Categories | None"

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        sequences: DistinctSequences,
        rules: BatchRules,
        categories: Int32Array | None = None,
    ) -> "Negatives":
        """`sequences` are those learned from; `categories` (n_items,) has -1 for none."""
        text_ids = pl.Series(texts, dtype=pl.String).rank("dense").to_numpy().astype(np.int64)
        shoppers = _shoppers(sequences, len(texts)) if rules.co_engaged else None
        members = None
        if rules.hard_negatives and categories is not None:
            members = Categories.of(categories, sequences)
        return cls(text_ids, shoppers, rules.co_engaged, members)

    def forbidden(self, items: Int64Array) -> BoolArray:
        """(m, m): where items[i] is the answer, items[j] must not count as wrong."""
        texts = self.text_ids[items]
        forbidden: BoolArray = texts[:, None] == texts[None, :]
        if self.shoppers is not None:
            met = self.shoppers[:, items]
            forbidden |= (met.T @ met).toarray() >= self.co_engaged
        np.fill_diagonal(forbidden, val=False)
        return forbidden

    def same_text(self, items: Int64Array, others: Int32Array) -> BoolArray:
        """(m,) whether an item says what one of the others says, as each of those does itself."""
        return np.isin(self.text_ids[items], self.text_ids[others])


@dataclass(frozen=True, slots=True)
class Categories:
    """Engaged items by category, each as often as it was engaged with.

    Drawn evenly, popular items would be answers more often than negatives and the encoder would
    learn popularity; items that nobody has met could only ever be wrong, which would push new
    ones down.
    """

    of_item: Int32Array  # (n_items,) -1 for none
    members: Int32Array  # item rows, by category
    indptr: Int64Array  # (n_categories + 1,)

    @classmethod
    def of(cls, categories: Int32Array, sequences: DistinctSequences) -> "Categories":
        engaged = categories[sequences.item_rows]
        known = np.flatnonzero(engaged >= 0)
        order = known[np.argsort(engaged[known], kind="stable")]
        counts = np.bincount(engaged[known], minlength=int(categories.max(initial=-1)) + 1)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(categories, sequences.item_rows[order], indptr)

    def draw(
        self, answers: Int32Array, taken: Int64Array, n: int, rng: np.random.Generator
    ) -> Int64Array:
        """Up to n item rows of the answers' categories, in proportion, none of them `taken`."""
        wanted = self.of_item[answers]
        wanted = wanted[wanted >= 0]
        if not len(wanted):
            return np.empty(0, np.int64)
        drawn_from = rng.choice(wanted, 4 * n)  # popular ones repeat or are in the batch already
        start, end = self.indptr[drawn_from], self.indptr[drawn_from + 1]
        drawn = self.members[rng.integers(start, end)]  # an engaged answer is a member: no gap
        _, first = np.unique(drawn, return_index=True)
        distinct = drawn[np.sort(first)]
        kept: Int64Array = distinct[~np.isin(distinct, taken)][:n].astype(np.int64)
        return kept


def _shoppers(sequences: DistinctSequences, n_items: int) -> sparse.csc_array:
    users = sequences.event_users()
    age = sequences.indptr[users + 1] - np.arange(len(users))
    recent = age <= MAX_SHOPPER_ITEMS
    users, items = users[recent], sequences.item_rows[recent]
    n_users = len(sequences.indptr) - 1
    turn = np.random.default_rng(0).permutation(n_users)[users]
    order = np.lexsort((turn, items))
    turn, items = turn[order], items[order]
    starts = np.searchsorted(items, np.arange(n_items + 1))
    kept = np.arange(len(items)) - starts[items] < MAX_SHOPPERS
    counts = np.bincount(items[kept], minlength=n_items)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    ones = np.ones(int(kept.sum()), np.int32)
    return sparse.csc_array((ones, turn[kept], indptr), shape=(n_users, n_items))
