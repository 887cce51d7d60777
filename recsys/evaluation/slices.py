"""For whom the ranker is good: the trial's shoppers parted by what they and their items are like.

Intervals are 95 % each, not corrected for being many: slices raise questions, they decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import BoolArray, Float64Array, Int32Array, Int64Array
from recsys.catalog import Catalog
from recsys.evaluation.bootstrap import Interval, bootstrap_columns
from recsys.evaluation.metrics import RowSets

EVENTS_KNOWN = {"0": 0, "1": 1, "2-5": 2, "6-20": 6, "21 and more": 21}  # name → from
HEAD_SHARE = 0.5  # of all that was taken before: the few items that hold it are the head
MAX_CATEGORIES = 12  # a page's worth; shoppers of the smaller ones are "other"
EVERYWHERE = 0.9  # of the items: a tag on that many, "Beauty" in a beauty shop, parts nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Shoppers of one kind; a slice nobody is in does not exist."""

    dimension: str  # "shopper", "events known", "items taken", "category"
    name: str
    shoppers: int  # few make wide intervals, below about 20 too narrow ones
    ndcg: dict[str, Interval]  # nDCG@10 of the ranker and its rivals
    against: dict[str, Interval]  # rival → the ranker's minus the rival's, paired


@dataclass(frozen=True, slots=True)
class Partition:
    """One way to part shoppers; `codes` (n_users,) index into the names, -1 for neither."""

    dimension: str
    names: tuple[str, ...]
    codes: Int64Array

    def slices(self, ndcg: Mapping[str, Float64Array], *, seed: int) -> tuple[Slice, ...]:
        """`ndcg`: the ranker's (n_users,) first, then its rivals'."""
        arms = list(ndcg)
        values = np.stack([ndcg[arm] for arm in arms], axis=1)
        columns = np.concatenate([values, values[:, :1] - values[:, 1:]], axis=1)
        slices = []
        for code, name in enumerate(self.names):
            inside = self.codes == code
            if inside.any():
                found = bootstrap_columns(columns[inside], seed=seed)
                slices.append(
                    Slice(
                        dimension=self.dimension,
                        name=name,
                        shoppers=int(inside.sum()),
                        ndcg=dict(zip(arms, found[: len(arms)], strict=True)),
                        against=dict(zip(arms[1:], found[len(arms) :], strict=True)),
                    )
                )
        return tuple(slices)


def partitions(
    events_known: Int64Array, relevant: RowSets, item_users: Int64Array, catalog: Catalog
) -> tuple[Partition, ...]:
    """`events_known` (n_users,) and the shoppers of each item (n_items,) are of before the cut."""
    return (
        Partition("shopper", ("new", "returning"), (events_known > 0).astype(np.int64)),
        Partition("events known", tuple(EVENTS_KNOWN), history_bucket(events_known)),
        Partition("items taken", ("head", "tail"), _mostly_tail(relevant, head(item_users))),
        _categories(relevant, catalog),
    )


def history_bucket(events_known: Int64Array) -> Int64Array:
    """(n,) index into EVENTS_KNOWN."""
    starts = list(EVENTS_KNOWN.values())
    return np.searchsorted(starts, events_known, side="right").astype(np.int64) - 1


def head(item_users: Int64Array) -> BoolArray:
    """(n_items,) the fewest items that hold HEAD_SHARE of the sum, ties by item row."""
    order = np.argsort(-item_users, kind="stable")
    before = np.cumsum(item_users[order]) - item_users[order]
    is_head = np.zeros(len(item_users), np.bool_)
    is_head[order] = before < HEAD_SHARE * item_users.sum()
    return is_head


def _mostly_tail(relevant: RowSets, is_head: BoolArray) -> Int64Array:
    """(n_users,) 1 where less than half of what they took is head."""
    n_head = np.bincount(relevant.owners(), is_head[relevant.rows], minlength=len(relevant))
    return (2 * n_head < np.diff(relevant.indptr)).astype(np.int64)


def _categories(relevant: RowSets, catalog: Catalog) -> Partition:
    """The category most of what they took belongs to, ties by tag row."""
    of_item = item_categories(catalog.tags, catalog.n_tags)
    tags = of_item[relevant.rows]
    pairs = relevant.owners()[tags >= 0] * max(catalog.n_tags, 1) + tags[tags >= 0]
    found, counts = np.unique(pairs, return_counts=True)
    users, tags = found // max(catalog.n_tags, 1), found % max(catalog.n_tags, 1)
    best_first = np.lexsort((tags, -counts, users))
    users, first = np.unique(users[best_first], return_index=True)
    mine = np.full(len(relevant), -1, np.int64)
    mine[users] = tags[best_first][first]
    return _named(mine, list(catalog.tag_row_of))


def item_categories(tags: Int32Array, n_tags: int) -> Int64Array:
    """(n_items,) tag row of each item's category, -1 without: its first tag that tells items apart.

    Shops list tags from general to special. The place in the list is the same for all items.
    """
    for place in range(tags.shape[1]):
        column = tags[:, place]
        counts = np.bincount(column[column >= 0], minlength=max(n_tags, 1))
        if 0 < counts.max() < EVERYWHERE * len(tags):
            return column.astype(np.int64)
    return tags[:, 0].astype(np.int64)


def _named(tags: Int64Array, names: Sequence[str]) -> Partition:
    """Tags of most shoppers first, the smallest together as "other"."""
    found, counts = np.unique(tags[tags >= 0], return_counts=True)
    kept = found[np.argsort(-counts, kind="stable")]
    if len(kept) > MAX_CATEGORIES:
        kept = kept[: MAX_CATEGORIES - 1]
    code_of = np.full(len(names) + 1, len(kept), np.int64)  # the last for -1
    code_of[kept] = np.arange(len(kept))
    code_of[-1] = -1
    return Partition("category", (*(names[tag] for tag in kept), "other"), code_of[tags])
