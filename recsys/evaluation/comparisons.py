"""What each arm of a trial scores, and the ranker against its rivals on the same shoppers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array
from recsys.evaluation.bootstrap import Interval, holm, paired_columns
from recsys.evaluation.metrics import ACCURACY, Judged

CUTS = {
    "recall": (5, 10, 20),
    "ndcg": (5, 10, 20),
    "hit_rate": (10,),
    "precision": (10,),
    "mrr": (10,),
    "map": (10,),
}
GATED = "ndcg@10"
HEADLINES = (GATED, "recall@10", "hit_rate@10", "mrr@10")  # each more costs Holm a factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The ranker against one rival in one metric, paired by shopper."""

    metric: str
    rival: str
    ours: float
    theirs: float
    difference: Interval  # ours - theirs, two-sided 95 %
    at_least: float  # lower end of the difference's one-sided 95 % interval
    p_value: float  # chance of so large a difference if there were none, two-sided
    p_holm: float  # adjusted for all comparisons of the trial


def scores(judged: Judged) -> dict[str, Float64Array]:
    """(n_users,) of every metric in CUTS, named as `ndcg@10`."""
    return {f"{name}@{k}": ACCURACY[name](judged, k) for name, ks in CUTS.items() for k in ks}


def compare(
    ours: Mapping[str, Float64Array],
    rivals: Mapping[str, Mapping[str, Float64Array]],
    metrics: Sequence[str] = HEADLINES,
    *,
    seed: int,
) -> tuple[Comparison, ...]:
    """Every metric against every rival; all arrays (n_users,) are of the same users."""
    pairs = [(metric, rival) for rival in rivals for metric in metrics]
    if not pairs:
        return ()
    found = paired_columns(
        np.stack([ours[metric] for metric, _ in pairs], axis=1),
        np.stack([rivals[rival][metric] for metric, rival in pairs], axis=1),
        seed=seed,
    )
    adjusted = holm([difference.p_value for difference in found])
    return tuple(
        Comparison(
            metric=metric,
            rival=rival,
            ours=float(ours[metric].mean()),
            theirs=float(rivals[rival][metric].mean()),
            difference=difference.interval,
            at_least=difference.at_least,
            p_value=difference.p_value,
            p_holm=float(p_holm),
        )
        for (metric, rival), difference, p_holm in zip(pairs, found, adjusted, strict=True)
    )
