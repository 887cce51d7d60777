"""Experiments as data: what is varied, for whom, and by which metrics it will be judged."""

from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from recsys.placements import ExpressionText, PlacementName, checked_changes

# Kinds of documents; predictions are named <experiment>/<variant>/<reward>/<per>.
EXPERIMENT, HOLDOUT, REPORT = "experiment", "holdout", "experiment_report"
PREDICTION = "prediction"
GLOBAL = "global"  # the name of the one holdout
HELD_OUT = "holdout"  # what the assignment of a held-out unit says in place of a variant
MIXED = "interleaved"  # the same, for a unit whose slates are drafted from both rankings
MAX_VARIANTS = 10
MIN_SHARE = 0.001  # of a variant: ten of the 10,000 buckets; fewer are soon none
MAX_OVERRIDES = 1_000  # for people who try a variant, not a second way to assign

# A dot in front is refused: reports stand in a folder of the experiment's name, and ".." is above.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,63}$")]
Words = Annotated[str, StringConstraints(max_length=2_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Unit = Literal["user", "session", "shopper"]
Kind = Literal["ab", "interleave", "bandit"]


def microseconds(moment: datetime) -> int:
    """Since 1970, as slates and events count; the nearest one, or a float may fall one short."""
    return round(moment.timestamp() * 1e6)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Variant(_Part):
    """One way to answer: a policy that differs in some keys, or another release."""

    key: Key
    description: Words = ""
    weight: float = Field(default=1.0, gt=0, description="relative to the other variants")
    policy: Annotated[dict[str, JsonValue], AfterValidator(checked_changes)] = Field(
        default={}, description="keys of the policy that differ; they win over the placement's"
    )
    release_id: str | None = Field(default=None, description="answer from this release")

    @property
    def differs(self) -> str:
        """From the shop's own answers, in words."""
        parts = [f"release {self.release_id}"] if self.release_id else []
        parts += [f"{key} {value}" for key, value in self.policy.items()]
        return ", ".join(parts) or "nothing"


class Metric(_Part):
    """One number a unit: what it did after it first saw the experiment."""

    name: Key
    kind: Literal["proportion", "mean", "ratio", "quantile"] = "mean"
    event_type: Key
    of: Literal["count", "value"] = Field(
        default="count", description="of the events: how many, or the sum of their values"
    )
    per: Key | None = Field(
        default=None, description="ratio: slates, exposures (items shown) or an event type"
    )
    attributed: bool = Field(
        default=False, description="only events that name a request of this experiment"
    )
    window_days: float | None = Field(
        default=None, gt=0, description="after the first exposure; none: until the end"
    )
    cap: float | None = Field(
        default=None, ge=0.9, lt=1, description="unit totals above this quantile count as it"
    )
    quantile: float | None = Field(default=None, gt=0, lt=1, description="of event values")
    direction: Literal["up", "down"] = Field(default="up", description="which way is better")
    margin: float | None = Field(
        default=None, ge=0, le=1, description="guardrail: relative loss that is still no harm"
    )
    cuped_days: int = Field(
        default=14, ge=0, le=90, description="days before the first exposure that explain; 0: none"
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Metric":
        _needs(self, "per", self.per is not None, only_for="ratio")
        _needs(self, "quantile", self.quantile is not None, only_for="quantile")
        if self.cap is not None and self.kind not in ("mean", "ratio"):
            raise ValueError(f"cap: found one on a {self.kind}, expected one on a mean or ratio")
        return self


def _needs(metric: Metric, field: str, given: bool, *, only_for: str) -> None:  # noqa: FBT001
    if given != (metric.kind == only_for):
        found = "one" if given else "none"
        expected = f"one only on a {only_for}" if given else f"one on a {only_for}"
        raise ValueError(f"{field}: found {found} on a {metric.kind}, expected {expected}")


class Plan(_Part):
    """How the experiment will be judged; written before anybody sees a result."""

    goals: tuple[Metric, ...] = Field(min_length=1, max_length=10)
    guardrails: tuple[Metric, ...] = Field(default=(), max_length=10)
    secondary: tuple[Metric, ...] = Field(default=(), max_length=30)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0, lt=1)
    n_star: int = Field(
        default=5_000, ge=1, description="units at which the always-valid interval is tightest"
    )
    min_days: int = Field(default=7, ge=1, description="no verdict before; a week has every day")
    target_lift: float = Field(
        default=0.05, gt=0, description="relative change that is worth finding"
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*self.goals, *self.guardrails, *self.secondary)

    @model_validator(mode="after")
    def _names_differ(self) -> "Plan":
        _unique("metrics", [metric.name for metric in self.metrics])
        for metric in self.guardrails:
            if metric.margin is None:
                raise ValueError(f"guardrail {metric.name}: found no margin, expected one")
        return self


class RampStep(_Part):
    """From then on, at least this share of the units takes part."""

    at: AwareDatetime
    coverage: Share


class Design(_Part):
    """What people write down; what became of it is the Experiment's."""

    name: Key
    hypothesis: Words
    owner: Words = ""
    kind: Kind = "ab"
    unit: Unit = Field(default="shopper", description="shopper: the user, else the session")
    placements: tuple[PlacementName, ...] = Field(default=(), description="none named: all")
    salt: Key | None = Field(default=None, description="of the hash; none: the name")
    layer: Key | None = Field(default=None, description="experiments of one layer share no unit")
    layer_range: tuple[Share, Share] = Field(
        default=(0.0, 1.0), description="[low, high) of the layer's units"
    )
    coverage: Share = Field(default=1.0, description="share of the units that take part")
    ramp: tuple[RampStep, ...] = Field(default=(), max_length=50)
    targeting: ExpressionText | None = Field(
        default=None, description="only users whose stored attributes match"
    )
    overrides: dict[str, Key] = Field(
        default={}, max_length=MAX_OVERRIDES, description="unit → variant, left out of results"
    )
    variants: tuple[Variant, ...] = Field(
        min_length=2, max_length=MAX_VARIANTS, description="the first is the control"
    )
    plan: Plan

    @model_validator(mode="after")
    def _fits_together(self) -> "Design":
        keys = [variant.key for variant in self.variants]
        _unique("variants", keys)
        taken = sorted({HELD_OUT, MIXED} & {*keys})
        if taken:
            raise ValueError(f"variants: found the key {taken[0]!r}, which means something else")
        total = sum(variant.weight for variant in self.variants)
        for variant in self.variants:
            if variant.weight / total < MIN_SHARE:
                raise ValueError(
                    f"variants: found the share {variant.weight / total:g} of {variant.key!r}, "
                    f"expected at least {MIN_SHARE:g}: for few units choose a small coverage"
                )
        if self.kind == "interleave":
            _check_interleaved(self.variants, self.plan)
        unknown = sorted({*self.overrides.values()} - {*keys})
        if unknown:
            raise ValueError(f"overrides: found {unknown[0]!r}, expected one of {', '.join(keys)}")
        low, high = self.layer_range
        if not low < high:
            raise ValueError(f"layer_range: found [{low}, {high}), expected low below high")
        if self.layer is None and (low, high) != (0.0, 1.0):
            raise ValueError("layer_range: found a part of a layer, expected the layer's name too")
        _check_ramp(self.ramp, self.coverage)
        return self

    def coverage_at(self, now_us: int) -> float:
        """The share of units that takes part then."""
        if not self.ramp:
            return self.coverage
        begun = [step.coverage for step in self.ramp if microseconds(step.at) <= now_us]
        return max([self.coverage, *begun])

    def variant(self, key: str) -> Variant | None:
        return next((variant for variant in self.variants if variant.key == key), None)


def _check_interleaved(variants: tuple[Variant, ...], plan: Plan) -> None:
    """Everybody sees both rankings, so only single items can be credited to one of them."""
    if len(variants) != 2:
        raise ValueError(f"variants: found {len(variants)}, expected 2 rankings to interleave")
    if any(variant.release_id for variant in variants):
        raise ValueError("variants: found a release_id, expected two policies to interleave")
    if plan.guardrails:
        raise ValueError("guardrails: found some, expected none: no unit is without a ranking")
    for metric in plan.metrics:
        if metric.kind != "mean":
            raise ValueError(f"{metric.name}: found a {metric.kind}, expected a mean to interleave")


def _check_ramp(ramp: tuple[RampStep, ...], coverage: float) -> None:
    for before, step in pairwise(ramp):
        if step.at <= before.at:
            raise ValueError(f"ramp: found {step.at} after {before.at}, expected ascending times")
    shares = [coverage, *(step.coverage for step in ramp)]
    if shares != sorted(shares):
        raise ValueError(
            f"ramp: found coverage {shares}, expected it to grow: whoever is in must stay in"
        )


def _unique(field: str, names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{field}: found {name!r} twice, expected names that differ")


class Allocation(_Part):
    """The shares a bandit gave from then on."""

    at: AwareDatetime
    weights: tuple[float, ...]


class Phase(_Part):
    """A time in which nothing changed that decides who sees what: results never cross phases."""

    number: int = Field(ge=1)
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    seed: str
    unit: Unit
    weights: tuple[float, ...]  # sum 1
    allocations: tuple[Allocation, ...] = ()

    def weights_at(self, now_us: int) -> tuple[float, ...]:
        """Of the newest allocation; without any, the planned ones."""
        begun = [a.weights for a in self.allocations if microseconds(a.at) <= now_us]
        return begun[-1] if begun else self.weights


class LogEntry(_Part):
    """Who reads it later wants to know what was done, when and why."""

    at: AwareDatetime
    action: Key
    reason: str = ""  # Words of people, and what they are about


class Experiment(_Part):
    """A design and its life so far: draft → running → stopped → decided."""

    design: Design
    status: Literal["draft", "running", "stopped", "decided"] = "draft"
    phases: tuple[Phase, ...] = ()
    decision: Key | None = None
    log: tuple[LogEntry, ...] = ()

    @property
    def name(self) -> str:
        return self.design.name

    @property
    def phase(self) -> Phase | None:
        """The newest; None for what never ran."""
        return self.phases[-1] if self.phases else None


class Holdout(_Part):
    """Units that no experiment touches, so that the sum of all of them can be measured."""

    share: float = Field(ge=0, lt=1)
    salt: Key = HELD_OUT
