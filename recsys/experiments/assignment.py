"""Who gets which variant: a pure function of the unit's name, the same in every process.

The hash and the ranges are GrowthBook's (hash version 2, sdk-js `util.ts`), so that a shop that
uses its SDK elsewhere finds the same units in the same variants.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import JsonValue

from features.errors import DataError
from features.slates import Assignment
from recsys.experiments.experiment import (
    HELD_OUT,
    MIXED,
    Experiment,
    Holdout,
    Unit,
    Variant,
    microseconds,
)
from recsys.experiments.targeting import is_meant
from recsys.expression import Expression, parse

log = logging.getLogger(__name__)

BUCKETS = 10_000
# Before a layer's name and the holdout's salt; no name has a slash: no experiment hashes so.
LAYER_SALT, HOLDOUT_SALT = "layer/", "holdout/"
_PRIME, _BASIS, _MASK = 0x01000193, 0x811C9DC5, 0xFFFFFFFF


def fnv1a32(text: str, value: int = _BASIS) -> int:
    """FNV-1a, 32 bit, over UTF-16 code units as in JavaScript; over bytes where it is ASCII.

    `value` is the hash of what stands before the text.
    """
    if text.isascii():
        units: Sequence[int] = text.encode()
    else:
        units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H").tolist()
    for unit in units:
        value = ((value ^ unit) * _PRIME) & _MASK
    return value


def bucket(seed: str, value: str) -> float:
    """One of BUCKETS equal steps from 0 to below 1."""
    return _bucket(fnv1a32(seed), value)


def _bucket(hashed_seed: int, value: str) -> float:
    return fnv1a32(str(fnv1a32(value, hashed_seed))) % BUCKETS / BUCKETS


def ranges(weights: Sequence[float], coverage: float) -> tuple[tuple[float, float], ...]:
    """[low, high) of each variant; more coverage only adds to each, so nobody who is in moves."""
    found, low = [], 0.0
    for weight in weights:
        found.append((low, low + coverage * weight))
        low += weight
    return tuple(found)


def chosen(n: float, of: Sequence[tuple[float, float]]) -> int | None:
    """Which range holds n; None: no variant, the unit takes no part."""
    for number, (low, high) in enumerate(of):
        if low <= n < high:
            return number
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """What all running experiments together make of one request."""

    assignments: tuple[Assignment, ...] = ()
    policy: Mapping[str, JsonValue] | None = None  # changes, the experiments' in order of names
    release_id: str | None = None
    interleave: tuple[Variant, Variant] | None = None  # rank with both, and mix
    failed: tuple[str, ...] = ()  # experiments that could not be asked: their control answers


NOTHING = Assigned()


@dataclass(frozen=True, slots=True)
class _Layer:
    """[low, high) of the units of a layer."""

    name: str
    seed: int  # hashed
    low: float
    high: float

    def holds(self, unit_id: str) -> bool:
        return self.low <= _bucket(self.seed, unit_id) < self.high


@dataclass(frozen=True, slots=True)
class _Live:
    """A running experiment, made ready: what a request asks of it is looked up, not worked out."""

    name: str
    phase: int
    unit: Unit
    placements: frozenset[str]
    overrides: Mapping[str, str]
    targeting: Expression | None
    layer: _Layer | None
    seed: int  # hashed
    variants: Mapping[str, Variant]
    keys: tuple[str, ...]  # of the variants, the control's first
    release_ids: frozenset[str]  # that variants are answered from
    is_mixed: bool
    since_us: tuple[int, ...]  # from when on each of `dealt` holds, from 0
    dealt: tuple[tuple[tuple[float, float], ...], ...]  # the variants' ranges

    @classmethod
    def of(cls, experiment: Experiment) -> "_Live | None":
        design, phase = experiment.design, experiment.phase
        if experiment.status != "running" or phase is None:
            return None
        moments = (*(step.at for step in design.ramp), *(a.at for a in phase.allocations))
        since_us = (0, *sorted({microseconds(at) for at in moments}))
        return cls(
            name=design.name,
            phase=phase.number,
            unit=phase.unit,
            placements=frozenset(design.placements),
            overrides=design.overrides,
            targeting=None if design.targeting is None else parse(design.targeting),
            layer=None
            if design.layer is None
            else _Layer(design.layer, fnv1a32(f"{LAYER_SALT}{design.layer}"), *design.layer_range),
            seed=fnv1a32(phase.seed),
            variants={variant.key: variant for variant in design.variants},
            keys=tuple(variant.key for variant in design.variants),
            release_ids=frozenset(v.release_id for v in design.variants if v.release_id),
            is_mixed=design.kind == "interleave",
            since_us=since_us,
            dealt=tuple(ranges(phase.weights_at(us), design.coverage_at(us)) for us in since_us),
        )

    def unit_id(self, user_id: str | None, session_id: str | None) -> str | None:
        if self.unit == "user":
            return user_id
        if self.unit == "session":
            return session_id
        return user_id or session_id

    def key(self, unit_id: str, now_us: int) -> str | None:
        """The variant's, by layer and hash alone."""
        if self.layer is not None and not self.layer.holds(unit_id):
            return None
        of = self.dealt[bisect_right(self.since_us, now_us) - 1]
        number = chosen(_bucket(self.seed, unit_id), of)
        return None if number is None else self.keys[number]


def dealer(experiment: Experiment) -> Callable[[str, int], str | None]:
    """Of a running experiment the key of a unit's variant at a time in µs, by layer and hash."""
    live = _Live.of(experiment)
    if live is None:
        raise DataError(f"found {experiment.name!r} {experiment.status}, expected it to run")
    return live.key


@dataclass(frozen=True, slots=True)
class Running:
    """Every experiment that runs, ready to be asked; replaced as a whole when one changes."""

    lives: tuple[_Live, ...] = ()
    holdout: Holdout | None = None

    @classmethod
    def of(cls, experiments: Iterable[Experiment], holdout: Holdout | None) -> "Running":
        lives = (_Live.of(e) for e in sorted(experiments, key=lambda e: e.name))
        return cls(tuple(live for live in lives if live is not None), holdout)

    def __len__(self) -> int:
        return len(self.lives)

    def assign(
        self,
        *,
        placement: str,
        user_id: str | None,
        session_id: str | None,
        now_us: int,
        attributes: Callable[[], Mapping[str, object]],
        is_loaded: Callable[[str], bool] = lambda _: True,
    ) -> Assigned:
        """Override → holdout → targeting → layer → hash; `attributes` is called once at most.

        A held-out shopper gets nothing of any experiment, and is named by those that would have
        dealt the unit a variant: what the holdout is compared with are the same shoppers.
        Never raises: an experiment that fails, or with a release that is not loaded (whichever
        variant it is for: else its units alone would be missing), lets its control answer and is
        named in `failed`.
        """
        if not self.lives:
            return NOTHING
        stored, held_out = once(attributes), cache(self.holds_out)
        given: list[tuple[_Live, Assignment, Variant | None]] = []
        failed: list[str] = []
        for live, unit_id in self._asked(placement, user_id, session_id):
            try:
                found = self._of(live, unit_id, user_id, now_us, stored, held_out)
            except Exception as error:  # noqa: BLE001  an answer must not depend on an experiment
                log.warning("experiment skipped name=%s reason=%r", live.name, error)
                failed.append(live.name)
                continue
            if found and not all(map(is_loaded, live.release_ids)):
                failed.append(live.name)
            elif found:
                given.append((live, *found))
        return _together(given, tuple(failed))

    def _asked(
        self, placement: str, user_id: str | None, session_id: str | None
    ) -> list[tuple[_Live, str]]:
        """Those of the placement, with the unit of each.

        Of a layer in which a tester overrides one, only that: another would hide what they try.
        """
        here = [
            (live, unit_id)
            for live in self.lives
            if (not live.placements or placement in live.placements)
            and (unit_id := live.unit_id(user_id, session_id)) is not None
        ]
        tried = {
            live.layer.name for live, unit_id in here if live.layer and unit_id in live.overrides
        }
        if not tried:
            return here
        return [
            (live, unit_id)
            for live, unit_id in here
            if live.layer is None or live.layer.name not in tried or unit_id in live.overrides
        ]

    def holds_out(self, shopper: str) -> bool:
        """Whether no experiment may touch a user, or the session of somebody unknown."""
        holdout = self.holdout
        return holdout is not None and (
            bucket(f"{HOLDOUT_SALT}{holdout.salt}", shopper) < holdout.share
        )

    def _of(
        self,
        live: _Live,
        unit_id: str,
        user_id: str | None,
        now_us: int,
        attributes: Callable[[], Mapping[str, object]],
        held_out: Callable[[str], bool],
    ) -> tuple[Assignment, Variant | None] | None:
        key = live.overrides.get(unit_id)
        if key is not None:
            given = Assignment(live.name, live.phase, key, "override", unit_id)
            return given, live.variants[key]
        if live.targeting is not None and not is_meant(live.targeting, attributes()):
            return None
        key = live.key(unit_id, now_us)
        if key is None:
            return None
        if held_out(user_id or unit_id):
            return Assignment(live.name, live.phase, HELD_OUT, "holdout", unit_id), None
        shown = MIXED if live.is_mixed else key
        return Assignment(live.name, live.phase, shown, "hash", unit_id), live.variants[key]


def once(ask: Callable[[], Mapping[str, object]]) -> Callable[[], Mapping[str, object]]:
    """The first answer, or its failure, for good: a store that is down is not asked again."""

    @cache
    def outcome() -> Mapping[str, object] | Exception:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  raised where it is asked for
            return error

    def answer() -> Mapping[str, object]:
        found = outcome()
        if isinstance(found, Exception):
            raise found
        return found

    return answer


def _together(
    given: Sequence[tuple[_Live, Assignment, Variant | None]], failed: tuple[str, ...]
) -> Assigned:
    """Where two change the same key, the later name wins; starting such a pair is refused."""
    policy: dict[str, JsonValue] = {}
    release_id: str | None = None
    interleave: tuple[Variant, Variant] | None = None
    for live, assignment, variant in given:
        if variant is None:
            continue
        if assignment.variant == MIXED:
            first, second = live.variants.values()
            interleave = (first, second)
            continue
        policy |= variant.policy
        release_id = variant.release_id or release_id
    return Assigned(
        assignments=tuple(assignment for _, assignment, _ in given),
        policy=policy or None,
        release_id=release_id,
        interleave=interleave,
        failed=failed,
    )
