"""Whether the statistics of experiments hold what they promise, measured and as tables."""

from dataclasses import dataclass

from jobs.console import Terminal
from jobs.experiments.assignment_cost import AssignmentCost, assignment_cost
from jobs.experiments.bandits import BanditRuns, bandit_runs
from jobs.experiments.drafts import Interleavings, interleavings
from jobs.experiments.sample_ratio import RatioAlarms, ratio_alarms
from jobs.experiments.simulation import (
    Coverage,
    FalseAlarms,
    PowerPoint,
    Share,
    VarianceCut,
    coverages,
    draw_futures,
    false_alarms,
    power_curve,
    variance_cut,
)
from recsys.evaluation.experiment.preferences import words_of
from recsys.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentsReport:
    """Everything that was measured, with the seed that repeats it."""

    seed: int
    false_alarms: tuple[FalseAlarms, ...]
    coverage: tuple[Coverage, ...]
    power: tuple[PowerPoint, ...]
    cuped: VarianceCut
    sample_ratio: tuple[RatioAlarms, ...]
    interleaving: Interleavings
    bandits: BanditRuns
    assignment: AssignmentCost


def run_benchmark(*, experiments: int, seed: int, progress: Progress) -> ExperimentsReport:
    """`experiments` A/A ones of each kind, half as many of the others, a quarter of bandits."""
    futures = draw_futures(seed, progress)
    half = max(2, experiments // 2)
    kinds = {"shoppers come back": futures, "every day as many new ones": futures.evenly(seed)}
    return ExperimentsReport(
        seed=seed,
        false_alarms=tuple(
            false_alarms(of, arriving, experiments=experiments, seed=seed, progress=progress)
            for arriving, of in kinds.items()
        ),
        coverage=tuple(coverages(futures, experiments=half, seed=seed, progress=progress)),
        power=tuple(power_curve(futures, experiments=half, seed=seed, progress=progress)),
        cuped=variance_cut(futures, experiments=half, seed=seed),
        sample_ratio=tuple(
            ratio_alarms(futures.first_day, experiments=half, seed=seed, progress=progress)
        ),
        interleaving=interleavings(experiments=half, seed=seed, progress=progress),
        bandits=bandit_runs(
            futures, experiments=max(2, experiments // 4), seed=seed, progress=progress
        ),
        assignment=assignment_cost(seed),
    )


def show_benchmark(terminal: Terminal, found: ExperimentsReport) -> None:
    """A table for each promise."""
    terminal.table(
        "False alarms of A/A experiments, 30 daily looks, alpha 5 %",
        ("units", "always valid, any look", "fixed, any look", "fixed, once", "guardrail stopped"),
        [
            (one.arriving, *map(_share, (one.always_valid, one.naive, one.once, one.stopped)))
            for one in found.false_alarms
        ],
    )
    terminal.table(
        "Intervals that hold the true difference, 95 % promised",
        ("metric", "truth", "bias, se", "fixed, last look", "always valid, every look"),
        [
            (one.metric, one.truth, one.bias, _share(one.fixed), _share(one.always_valid))
            for one in found.coverage
        ],
    )
    terminal.table(
        "Effects found by the last look",
        ("units", "true lift", "computed", "fixed", "always valid"),
        [
            (
                one.units,
                f"{one.lift:+.1%}",
                f"{one.computed:.1%}",
                _share(one.found),
                _share(one.always_valid),
            )
            for one in found.power
        ],
    )
    cut = found.cuped
    terminal.say(f"CUPED: variance cut by {cut.told:.1%} as told, {cut.seen:.1%} as seen")
    terminal.table(
        "Sample-ratio alarms, p < 0.001, where treated units go uncounted",
        ("dropped", "chi-square, once", "chi-square, any day", "sequential, any day"),
        [
            (f"{one.dropped:.0%}", *map(_share, (one.once, one.daily, one.sequential)))
            for one in found.sample_ratio
        ],
    )
    mixed = found.interleaving
    terminal.table(
        f"Interleaving, {mixed.competitive:.0%} of the positions of one ranking alone",
        ("", ""),
        [
            ("equally good: population", words_of(mixed.alike)),
            ("missed, always valid, any look", _share(mixed.always_valid)),
            ("missed, fixed, any look", _share(mixed.naive)),
            ("missed, fixed, once", _share(mixed.once)),
            ("one better: population", words_of(mixed.better)),
            ("found, always valid", _share(mixed.found)),
            ("the worse one preferred", _share(mixed.mistaken)),
        ],
    )
    bandits = found.bandits
    terminal.table(
        "Bandits of shoppers who come back, shares moved every day",
        ("", ""),
        [
            ("equally good: called, always valid, any look", _share(bandits.always_valid)),
            ("one better: called by the last look", _share(bandits.found)),
            ("the better one's share, all days", f"{bandits.mean_share:.1%}"),
            ("the better one's share, last day", f"{bandits.last_share:.1%}"),
        ],
    )
    cost = found.assignment
    terminal.say(
        f"An assignment: {cost.one_us:.0f} us of one experiment, {cost.ten_us:.0f} of ten on one "
        f"placement; hashing an id of 36 letters once: {cost.hash_us:.1f} us"
    )


def _share(found: Share) -> str:
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
