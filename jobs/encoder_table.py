"""The encoder benchmark's table: every row against the whitened frozen encoder, in pairs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from features.arrays import Float64Array, Int64Array
from jobs.console import Terminal
from jobs.encoder_training import TrainingFacts
from recsys.evaluation.bootstrap import Interval, bootstrap
from recsys.evaluation.metrics import Judged, judge_ranks, ndcg, recall

FROZEN: Final = "frozen"
BASELINE_SPACE = "words"
BY_SEED = "all R@10"
K = 10
SPACES = {"raw": "raw cosine", "words": "whitened", "taste": "item map"}
# What a score is made of, and how. Every fold asks all shoppers, all texts; it asks shoppers
# about its own cold items only.
CASES: Mapping[str, tuple[str, Callable[[Judged, int], Float64Array] | None]] = {
    "all R@10": ("all", recall),
    "all N@10": ("all", ndcg),
    "cold R@10": ("cold", recall),
    "cold N@10": ("cold", ndcg),
    "search": ("search", None),
    "typos": ("typos", None),
}

Numbers: TypeAlias = Int64Array | Float64Array


@dataclass(frozen=True, slots=True)
class Measures:
    """What one training gave; `values` are keyed "space.measure"."""

    fold: int
    strategy: str
    seed: int
    facts: TrainingFacts
    values: Mapping[str, Numbers]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean, and the paired difference from the whitened frozen encoder, 95 % by bootstrap."""

    mean: float
    difference: Interval | None  # None on the baseline's own row


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRow:
    """One way to make vectors; `scores` by CASES, without those that the space has not."""

    strategy: str
    space: str
    folds: int
    scores: dict[str, Score]
    all_recall_by_seed: dict[str, Score]  # against the baseline on the seed's own folds
    shipped: int  # of the folds, where validation preferred what was learned
    tuning_cpu_s: float  # means of the folds
    map_cpu_s: float
    total_cpu_s: float  # with encoding the catalogue and the export
    wall_s: float
    peak_mb: float  # the largest

    @property
    def name(self) -> str:
        return f"{self.strategy}, {SPACES[self.space]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderBenchmark:
    """One run, as far as it is."""

    dataset: str
    users: int
    items: int
    folds: int
    seeds: tuple[int, ...]
    rows: tuple[EncoderRow, ...]


def summarise(
    dataset: str, n_users: int, n_items: int, measured: Sequence[Measures]
) -> EncoderBenchmark:
    """A row for each strategy and space, over the folds that it has; the baseline has them all."""
    baseline = [one for one in measured if one.strategy == FROZEN]
    rows: list[EncoderRow] = []
    for strategy in dict.fromkeys(one.strategy for one in measured):
        own = [one for one in measured if one.strategy == strategy]
        rows.extend(
            _row(strategy, space, own, baseline)
            for space in SPACES
            if f"{space}.all" in own[0].values
        )
    return EncoderBenchmark(
        dataset=dataset,
        users=n_users,
        items=n_items,
        folds=len(baseline),
        seeds=tuple(dict.fromkeys(one.seed for one in baseline)),
        rows=tuple(rows),
    )


def _row(
    strategy: str, space: str, own: Sequence[Measures], baseline: Sequence[Measures]
) -> EncoderRow:
    facts = [one.facts for one in own]
    rivals = [] if (strategy, space) == (FROZEN, BASELINE_SPACE) else baseline
    scores = {case: _score(own, rivals, space, case) for case in CASES}
    by_seed = {
        str(seed): _score([one for one in own if one.seed == seed], rivals, space, BY_SEED)
        for seed in sorted({one.seed for one in own})
    }
    is_map = space == "taste"
    return EncoderRow(
        strategy=strategy,
        space=space,
        folds=len(own),
        scores={case: score for case, score in scores.items() if score},
        all_recall_by_seed={seed: score for seed, score in by_seed.items() if score},
        shipped=sum(one.map_shipped if is_map else one.shipped for one in facts),
        tuning_cpu_s=_mean(one.tuning_cpu_s for one in facts),
        map_cpu_s=_mean(one.map_cpu_s for one in facts) if is_map else 0.0,
        total_cpu_s=_mean(one.total_cpu_s for one in facts),
        wall_s=_mean(one.wall_s for one in facts),
        peak_mb=max(one.peak_mb for one in facts),
    )


def _values(measured: Sequence[Measures], space: str, case: str) -> Float64Array:
    """One number a shopper or text: the mean of all folds, or what the only fold says of it."""
    measure, metric = CASES[case]
    name = f"{space}.{measure}"
    parts = [one.values[name] for one in measured if name in one.values]
    if metric is not None:
        parts = [metric(judge_ranks(ranks.astype(np.int64), K), K) for ranks in parts]
    if not parts:
        return np.empty(0)
    pooled = np.concatenate(parts) if measure == "cold" else np.mean(parts, axis=0)
    return np.asarray(pooled, np.float64)


def _score(
    own: Sequence[Measures], baseline: Sequence[Measures], space: str, case: str
) -> Score | None:
    """Paired on the folds of `own`; None where the space has no such measure."""
    ours = _values(own, space, case)
    if len(ours) == 0:
        return None
    folds = {one.fold for one in own}
    theirs = _values([one for one in baseline if one.fold in folds], BASELINE_SPACE, case)
    difference = bootstrap(ours - theirs, seed=0) if len(theirs) else None
    return Score(float(ours.mean()), difference)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def show_encoder_benchmark(terminal: Terminal, report: EncoderBenchmark) -> None:
    seeds = ", ".join(map(str, report.seeds))
    title = f"{report.dataset}, text alone, {report.users:,} users, {report.items:,} items"
    terminal.table(
        f"{title}, {report.folds} cold folds, seeds {seeds}",
        ("vectors", *CASES, "shipped", "tuning CPU-s", "map CPU-s", "peak MB"),
        [
            [
                row.name,
                *(_shown(row.scores.get(case)) for case in CASES),
                f"{row.shipped} of {row.folds}",
                round(row.tuning_cpu_s),
                round(row.map_cpu_s),
                round(row.peak_mb),
            ]
            for row in report.rows
        ],
    )
    terminal.table(
        "Minus frozen, whitened: percentage points, 95 % in pairs over users or texts",
        ("vectors", *CASES),
        [
            [row.name, *(_difference(row.scores.get(case)) for case in CASES)]
            for row in report.rows
            if any(score.difference for score in row.scores.values())
        ],
    )
    terminal.table(
        f"{BY_SEED} minus frozen, whitened, on the folds of each seed: percentage points, 95 %",
        ("vectors", *(f"seed {seed}" for seed in report.seeds)),
        [
            [row.name, *(_difference(row.all_recall_by_seed.get(str(s))) for s in report.seeds)]
            for row in report.rows
            if any(score.difference for score in row.all_recall_by_seed.values())
        ],
    )


def _shown(score: Score | None) -> float | None:
    return None if score is None else score.mean


def _difference(score: Score | None) -> str:
    if score is None or score.difference is None:
        return ""
    found = score.difference
    return f"{100 * found.mean:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
