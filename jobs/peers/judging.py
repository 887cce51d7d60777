"""What the arms' lists are worth: everything judged alike, by this system's own metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import BoolArray, Float64Array
from features.errors import DataError
from jobs.peers.arms import OWN, Failed, Ran
from jobs.peers.split import Split
from recsys.evaluation.bootstrap import (
    Interval,
    PairedDifference,
    bootstrap,
    holm,
    paired_bootstrap,
)
from recsys.evaluation.metrics import judge, ndcg, recall
from recsys.evaluation.offline import relevant_rows

METRICS = {"recall@10": (recall, 10), "ndcg@10": (ndcg, 10)}
CHOICE = "ndcg@10"  # what "best" means


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport:
    """One arm: 95 % intervals over users; seconds are means over folds, memory the largest."""

    name: str
    error: str | None = None
    quality: Mapping[str, Interval] | None = None
    returning: Mapping[str, float] | None = None  # means over users with a history
    own_minus_this: Mapping[str, Interval] | None = None  # paired by user
    p_holm: float | None = None  # of the difference in CHOICE, over all peers
    fit_s: float | None = None
    tune_s: float | None = None
    recommend_s: float | None = None
    peak_mb: float | None = None
    folds: Sequence[dict[str, Any]] = ()  # figures as each arm wrote them


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersReport:
    """All arms on the same users and catalogue."""

    dataset: str
    protocol: str
    seed: int
    threads: int
    folds: int
    users: int
    returning_users: int
    items: int
    best_peer: str | None  # by CHOICE
    arms: Sequence[ArmReport]


@dataclass(frozen=True, slots=True)
class _Scores:
    """By metric, (n_users,): a user asked in several folds is one user, of the mean score."""

    values: dict[str, Float64Array]
    returning: BoolArray  # who had a history, in every fold that asked


def judged_arms(
    splits: Sequence[Split],
    results: Sequence[Mapping[str, Ran | Failed]],
    *,
    dataset: str,
    seed: int,
    threads: int,
) -> PeersReport:
    """`results` by fold; an arm that failed on one fold has failed."""
    scores = {arm: _scores(splits, [found[arm] for found in results]) for arm in results[0]}
    judged = {arm: found for arm, found in scores.items() if isinstance(found, _Scores)}
    if not judged:
        raise DataError("every arm failed: see the logs named above")
    against = _differences(judged, seed)
    adjusted = holm([found[CHOICE].p_value for found in against.values()])
    p_holm = dict(zip(against, adjusted.tolist(), strict=True))
    arms = []
    for arm, found in scores.items():
        if isinstance(found, Failed):
            arms.append(ArmReport(name=arm, error=found.error))
            continue
        ran = [fold[arm] for fold in results]
        figures = [one.figures for one in ran if isinstance(one, Ran)]
        arms.append(_arm_report(arm, found, figures, against.get(arm), p_holm.get(arm), seed))
    anybody = next(iter(judged.values())).returning
    means = {arm: float(found.values[CHOICE].mean()) for arm, found in judged.items()}
    return PeersReport(
        dataset=dataset,
        protocol="sequences strict" if splits[0].is_strict else "time",
        seed=seed,
        threads=threads,
        folds=len(splits),
        users=len(anybody),
        returning_users=int(anybody.sum()),
        items=len(splits[0].data.items),
        best_peer=max((arm for arm in judged if arm != OWN), key=means.__getitem__, default=None),
        arms=arms,
    )


def _arm_report(
    arm: str,
    found: _Scores,
    figures: Sequence[dict[str, Any]],
    against: Mapping[str, PairedDifference] | None,
    p_holm: float | None,
    seed: int,
) -> ArmReport:
    return ArmReport(
        name=arm,
        quality={m: bootstrap(v, seed=seed) for m, v in found.values.items()},
        returning=_means(found),
        own_minus_this={m: one.interval for m, one in against.items()} if against else None,
        p_holm=p_holm,
        peak_mb=max(one["peak_mb"] for one in figures),
        folds=figures,
        fit_s=_mean(figures, "fit_s"),
        tune_s=_mean(figures, "tune_s"),
        recommend_s=_mean(figures, "recommend_s"),
    )


def _differences(
    judged: Mapping[str, _Scores], seed: int
) -> dict[str, dict[str, PairedDifference]]:
    """This system minus each peer, by user; nothing if this system failed."""
    own = judged.get(OWN)
    if own is None:
        return {}
    return {
        arm: {m: paired_bootstrap(own.values[m], found.values[m], seed=seed) for m in METRICS}
        for arm, found in judged.items()
        if arm != OWN
    }


def _scores(splits: Sequence[Split], ran: Sequence[Ran | Failed]) -> _Scores | Failed:
    users, returning = [], []
    values: dict[str, list[Float64Array]] = {metric: [] for metric in METRICS}
    for split, one in zip(splits, ran, strict=True):
        if isinstance(one, Failed):
            return one
        past = split.questions()
        judged = judge(one.lists, relevant_rows(past))
        for metric, (of, k) in METRICS.items():
            values[metric].append(of(judged, k))
        users.append(past.users[judged.users])
        returning.append(np.diff(past.seen_indptr)[judged.users] > 0)
    _, owner, times = np.unique(np.concatenate(users), return_inverse=True, return_counts=True)
    means = {m: np.bincount(owner, np.concatenate(v)) / times for m, v in values.items()}
    return _Scores(means, np.bincount(owner, np.concatenate(returning)) == times)


def _mean(figures: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.mean([one[name] for one in figures]))


def _means(found: _Scores) -> dict[str, float]:
    kept = found.returning
    return {m: float(v[kept].mean()) if kept.any() else 0.0 for m, v in found.values.items()}
