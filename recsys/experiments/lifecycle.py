"""The life of an experiment: draft → running → stopped → decided, and what may change when.

Every function takes an experiment and returns another; nothing is written here.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from features.errors import DataError
from recsys.experiments.experiment import (
    Allocation,
    Design,
    Experiment,
    LogEntry,
    Phase,
    microseconds,
)

# Whoever changes one of these changes who sees what: results from before and after do not mix.
_NEW_PHASE = ("kind", "unit", "salt", "layer", "layer_range", "placements", "targeting")
FLOOR = 0.01  # share below which no variant of a bandit falls, or nothing is learned of it


def drafted(design: Design, now: datetime) -> Experiment:
    return Experiment(design=design, log=(LogEntry(at=now, action="drafted"),))


def changed(
    experiment: Experiment, design: Design, now: datetime, others: Iterable[Experiment]
) -> Experiment:
    """With another design; what decides who sees what begins a new phase if it runs.

    `others` are all experiments of the shop. DataError for what may not change, and if a running
    one would answer the same requests differently.
    """
    if design == experiment.design:
        return experiment
    _check_change(experiment, design)
    if experiment.status != "running":
        return _with(experiment, now, "changed", design=design)
    check_beside(design, others)
    begun_by = _begins_phase(experiment.design, design)
    if not begun_by:
        _check_coverage(experiment, design, microseconds(now))
        return _with(experiment, now, "changed", design=design)
    phases = (*_ended(experiment.phases, now), _begun(design, experiment.phases, now))
    reason = f"new phase: {', '.join(begun_by)}"
    return _with(experiment, now, "changed", reason, design=design, phases=phases)


def _check_change(experiment: Experiment, design: Design) -> None:
    """The judged metrics are fixed once units were seen, all once it is decided."""
    before, status = experiment.design, experiment.status
    if status == "decided":
        raise _refused(experiment, "it is decided", "draft a new experiment under another name")
    if design.name != before.name:
        raise DataError(
            f"found the name {design.name!r} for the experiment {before.name!r}, expected the "
            "same: draft a new experiment"
        )
    if status == "draft":
        return
    if design.plan != before.plan:
        raise _refused(
            experiment,
            f"it is {status} and its plan is fixed, or goals could be chosen by result",
            "stop it and draft another one with the new plan",
        )
    if status == "stopped" and (design.kind, _answers(design)) != (before.kind, _answers(before)):
        raise _refused(
            experiment,
            "it is stopped and its results are those of its variants",
            "draft another one, or start it and change it then, which begins a new phase",
        )


def _check_coverage(experiment: Experiment, design: Design, now_us: int) -> None:
    covered = experiment.design.coverage_at(now_us)
    if design.coverage_at(now_us) < covered:
        raise _refused(
            experiment,
            f"it covers {covered:g} of the units and whoever is in stays in",
            f"leave the coverage at {covered:g} or more, or stop it",
        )


def _begins_phase(before: Design, after: Design) -> list[str]:
    """What of the change decides who sees what."""
    found = [name for name in _NEW_PHASE if getattr(after, name) != getattr(before, name)]
    weights = [[variant.weight for variant in design.variants] for design in (before, after)]
    if _answers(before) != _answers(after) or weights[0] != weights[1]:
        found.append("variants")
    return found


def started(
    experiment: Experiment, now: datetime, reason: str, others: Iterable[Experiment]
) -> Experiment:
    """Running, in a phase of its own; `others` are all experiments of the shop.

    DataError if a running one would answer the same requests differently.
    """
    if experiment.status not in ("draft", "stopped"):
        raise _refused(experiment, f"it is {experiment.status}", "start a draft or a stopped one")
    check_beside(experiment.design, others)
    phase = _begun(experiment.design, experiment.phases, now)
    phases = (*experiment.phases, phase)
    words = f"phase {phase.number}: {reason}" if reason else f"phase {phase.number}"
    return _with(experiment, now, "started", words, status="running", phases=phases)


def stopped(experiment: Experiment, now: datetime, reason: str) -> Experiment:
    """Everybody gets what they got without it."""
    if experiment.status != "running":
        raise _refused(experiment, f"it is {experiment.status}", "only a running one can stop")
    phases = _ended(experiment.phases, now)
    return _with(experiment, now, "stopped", reason, status="stopped", phases=phases)


def decided(experiment: Experiment, now: datetime, variant: str, reason: str) -> Experiment:
    """For good; what was decided is put into the placement or published by people."""
    if experiment.status != "stopped":
        raise _refused(experiment, f"it is {experiment.status}", "stop it first")
    if experiment.design.variant(variant) is None:
        keys = ", ".join(v.key for v in experiment.design.variants)
        raise DataError(f"found the variant {variant!r}, expected one of {keys}")
    words = f"{variant}: {reason}" if reason else variant
    return _with(experiment, now, "decided", words, status="decided", decision=variant)


def reallocated(experiment: Experiment, now: datetime, weights: Sequence[float]) -> Experiment:
    """A bandit's new shares, from now on; they are scaled to sum 1."""
    phase = experiment.phase
    if experiment.design.kind != "bandit" or experiment.status != "running" or phase is None:
        raise _refused(experiment, "it is no running bandit", "leave its weights as designed")
    if len(weights) != len(phase.weights) or not all(0 < w < math.inf for w in weights):
        raise DataError(
            f"found the shares {list(weights)}, expected {len(phase.weights)} positive numbers"
        )
    shares = tuple(weight / sum(weights) for weight in weights)
    if min(shares) < FLOOR * (1 - 1e-9):
        raise DataError(f"found the share {min(shares):g}, expected at least {FLOOR:g} each")
    allocations = (*phase.allocations, Allocation(at=now, weights=shares))
    phases = (*experiment.phases[:-1], phase.model_copy(update={"allocations": allocations}))
    words = ", ".join(
        f"{variant.key} {share:.1%}"
        for variant, share in zip(experiment.design.variants, shares, strict=True)
    )
    return _with(experiment, now, "reallocated", words, phases=phases)


def check_beside(design: Design, others: Iterable[Experiment]) -> None:
    """DataError if the design and a running experiment could answer one request differently."""
    for other in others:
        if other.status == "running" and other.name != design.name:
            _check_pair(design, other.design)


def check_releases(design: Design, known: Iterable[str]) -> None:
    """DataError if a variant would be answered from a release that is not among the `known`."""
    stored = [*known]
    for variant in design.variants:
        if variant.release_id is not None and variant.release_id not in stored:
            raise DataError(
                f"variants.{variant.key}: found the release {variant.release_id!r}, expected one "
                f"of {', '.join(stored) or 'none: run a night first'}"
            )


def check_placements(design: Design, known: Iterable[str]) -> None:
    """DataError for one that the shop has not: nobody would ever be dealt there."""
    named = [*known]
    for placement in design.placements:
        if placement not in named:
            raise DataError(
                f"placements: found {placement!r}, expected some of {', '.join(named)}; store the "
                "placement first, or correct its name"
            )


def _check_pair(design: Design, other: Design) -> None:
    if design.layer is not None and design.layer == other.layer:
        if (design.unit == "session") != (other.unit == "session"):
            raise DataError(
                f"found the unit {design.unit!r} in the layer {design.layer!r}, where the running "
                f"experiment {other.name!r} deals by {other.unit!r}; expected one kind, or a user "
                "and their session would be in both: choose that unit, or another layer"
            )
        (low, high), (other_low, other_high) = design.layer_range, other.layer_range
        if low < other_high and other_low < high:
            raise DataError(
                f"found [{low:g}, {high:g}) of the layer {design.layer!r}, where the running "
                f"experiment {other.name!r} has [{other_low:g}, {other_high:g}); expected ranges "
                "that do not overlap: choose another layer_range, or stop the other"
            )
        return
    if not _meet(design.placements, other.placements):
        return
    clash = sorted(_varied(design) & _varied(other))
    if clash:
        raise DataError(
            f"found that {design.name!r} and the running experiment {other.name!r} both vary "
            f"{', '.join(clash)} on the same placements; expected each to be varied by one: put "
            "both into one layer with ranges that do not overlap, or stop the other"
        )


def _varied(design: Design) -> set[str]:
    """What units of one experiment get differently; two interleavings cannot mix either."""
    found = {key for variant in design.variants for key in variant.policy}
    if any(variant.release_id for variant in design.variants):
        found.add("release_id")
    if design.kind == "interleave":
        found.add("interleaving")
    return found


def _meet(placements: Sequence[str], others: Sequence[str]) -> bool:
    return not placements or not others or bool({*placements} & {*others})


def _answers(design: Design) -> list[tuple[object, ...]]:
    return [(v.key, v.policy, v.release_id) for v in design.variants]


def _begun(design: Design, before: Sequence[Phase], now: datetime) -> Phase:
    """Its seed is new where units were dealt before, so that no habit is carried over.

    No name has a slash: the first phase of another experiment never has that seed.
    """
    number = len(before) + 1
    salt = design.salt or design.name
    total = sum(variant.weight for variant in design.variants)
    return Phase(
        number=number,
        started_at=now,
        seed=salt if number == 1 else f"{salt}/{number}",
        unit=design.unit,
        weights=tuple(variant.weight / total for variant in design.variants),
    )


def _ended(phases: tuple[Phase, ...], now: datetime) -> tuple[Phase, ...]:
    return (*phases[:-1], phases[-1].model_copy(update={"ended_at": now}))


def _with(
    experiment: Experiment, now: datetime, action: str, reason: str = "", **changes: object
) -> Experiment:
    log = (*experiment.log, LogEntry(at=now, action=action, reason=reason))
    return experiment.model_copy(update={**changes, "log": log})


def _refused(experiment: Experiment, found: str, instead: str) -> DataError:
    return DataError(f"the experiment {experiment.name!r} cannot change so: {found}; {instead}")
