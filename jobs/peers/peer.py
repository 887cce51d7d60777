"""What a peer is: something that fits to a world and then scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeAlias

from features.arrays import Int64Array
from jobs.peers.answers import Scorer, answers, validation_ndcg
from jobs.peers.world import Round, World, last_round

Settings: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a peer may use."""

    threads: int
    seed: int


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting and its nDCG@10 on validation; None where another measure chose."""

    settings: Settings
    ndcg: float | None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A peer ready for the questions; `fit_s` is one fit with the settings that were chosen."""

    scorer: Scorer
    settings: Settings
    fit_s: float
    tried: Sequence[Tried] = field(default_factory=tuple)


# (world, validation round, popularity ranks, machine) → fitted
Fit: TypeAlias = Callable[[World, Round, Int64Array, Machine], Fitted]


def tuned(
    grid: Sequence[Settings], fit: Callable[[World, Round, Machine, Settings], Scorer]
) -> Fit:
    """Tries every setting on validation and keeps the best; fits it anew where it may refit."""

    def fit_best(world: World, validation: Round, popular: Int64Array, machine: Machine) -> Fitted:
        tried: list[Tried] = []
        best, best_ndcg = None, 0.0
        for settings in grid:
            start = perf_counter()
            scorer = fit(world, validation, machine, settings)
            seconds = perf_counter() - start
            lists = answers(world, validation, scorer, popular)
            ndcg = validation_ndcg(world, validation, lists)
            tried.append(Tried(settings, ndcg))
            if best is None or ndcg > best_ndcg:
                best, best_ndcg = Fitted(scorer, settings, seconds), ndcg
        if best is None:
            raise ValueError("found an empty grid, expected at least one setting")
        if not world.refit:
            return Fitted(best.scorer, best.settings, best.fit_s, tried)
        start = perf_counter()
        scorer = fit(world, last_round(world), machine, best.settings)
        return Fitted(scorer, best.settings, perf_counter() - start, tried)

    return fit_best
