"""Who may not be shown: each rule marks candidates to remove and never changes a score."""

import numpy as np

from features.arrays import BoolArray, Int32Array


def keep_mask(
    item_rows: Int32Array, removals: dict[str, Int32Array]
) -> tuple[BoolArray, dict[str, int]]:
    """Keep what no rule removes; count each removed candidate under the first rule that did.

    `removals` maps a reason to the item rows it forbids.
    """
    keep = np.ones(len(item_rows), np.bool_)
    counts: dict[str, int] = {}
    for reason, forbidden in removals.items():
        hit = keep & np.isin(item_rows, forbidden)
        if hit.any():
            counts[reason] = int(hit.sum())
            keep &= ~hit
    return keep, counts
