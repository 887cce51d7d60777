"""One order from several sources' lists, where the ranker is not, or not alone, to decide.

Reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): Σ over lists of 1 / (60 + rank from 1).
It needs no common scale of the sources' scores, and is 0 for what none of them found.
"""

from collections.abc import Iterable

import numpy as np

from features.arrays import Float32Array, Int32Array
from recsys.types import Retrieved

RRF_CONSTANT = 60  # the paper's; between 20 and 100 it hardly mattered there


def fused(item_rows: Int32Array, answers: Iterable[Retrieved]) -> Float32Array:
    """(n,) for the items of one request, of answers to a batch of one."""
    out = np.zeros(len(item_rows), np.float32)
    for answer in answers:
        ranks = np.arange(1, answer.item_rows.shape[1] + 1)
        worth = (1 / (RRF_CONSTANT + ranks)).astype(np.float32)
        out += np.nan_to_num(of_items(item_rows, answer, worth))
    return out


def of_items(item_rows: Int32Array, answer: Retrieved, values: Float32Array) -> Float32Array:
    """(n,) the value of each item's place in the answer, NaN where it has none.

    `item_rows` are distinct; `values` is aligned with the answer's only row.
    """
    out = np.full(len(item_rows), np.nan, np.float32)
    found = np.flatnonzero(answer.item_rows[0] >= 0)
    if len(item_rows) == 0 or len(found) == 0:
        return out
    order = np.argsort(item_rows, kind="stable")
    wanted = answer.item_rows[0, found]
    at = order[np.minimum(np.searchsorted(item_rows, wanted, sorter=order), len(order) - 1)]
    here = item_rows[at] == wanted
    out[at[here]] = values[found[here]]
    return out


def added(rows: Int32Array, more: Int32Array) -> Int32Array:
    """Those of `more` that are not among `rows`, each once, in their order; -1 means nothing."""
    fresh = more[(more >= 0) & ~np.isin(more, rows)]
    _, first = np.unique(fresh, return_index=True)
    return fresh[np.sort(first)]
