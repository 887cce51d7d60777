"""What is worth searching of each trainer's configuration, and within which bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from optuna.trial import Trial

from features.errors import ConfigError
from recsys.training.recipe import RecipeConfig

JudgedBy: TypeAlias = Literal["funnel", "co_visited"]


@dataclass(frozen=True, slots=True)
class Real:
    """A number in [low, high], judged and told to three digits."""

    name: str
    low: float
    high: float
    log: bool = False

    def drawn(self, trial: Trial) -> float:
        return float(f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.3g}")

    def known(self, value: Any) -> float:  # noqa: ANN401  a configuration's field
        return float(value)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in [low, high]."""

    name: str
    low: int
    high: int
    log: bool = False

    def drawn(self, trial: Trial) -> int:
        return trial.suggest_int(self.name, self.low, self.high, log=self.log)

    def known(self, value: Any) -> int:  # noqa: ANN401  a configuration's field
        return int(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values, by the texts that a study file can hold."""

    name: str
    values: tuple[Any, ...]

    def drawn(self, trial: Trial) -> Any:  # noqa: ANN401  one of `values`
        texts = [str(value) for value in self.values]
        return self.values[texts.index(trial.suggest_categorical(self.name, texts))]

    def known(self, value: Any) -> str:  # noqa: ANN401  one of `values`
        return str(value)


Parameter: TypeAlias = Real | Whole | Choice


@dataclass(frozen=True, slots=True)
class Part:
    """One trainer's search: a field of RecipeConfig, its space, and whose nDCG@10 counts."""

    name: str  # also the field's
    judged_by: JudgedBy
    space: tuple[Parameter, ...]

    def drawn(self, trial: Trial, recipe: RecipeConfig) -> RecipeConfig:
        return self.changed(recipe, {p.name: p.drawn(trial) for p in self.space})

    def changed(self, recipe: RecipeConfig, values: Mapping[str, object]) -> RecipeConfig:
        return replace(recipe, **{self.name: replace(getattr(recipe, self.name), **values)})

    def known(self, recipe: RecipeConfig) -> dict[str, object]:
        """The recipe's own values, as a study keeps them."""
        config = getattr(recipe, self.name)
        return {p.name: p.known(getattr(config, p.name)) for p in self.space}

    def values(self, recipe: RecipeConfig) -> dict[str, object]:
        config = getattr(recipe, self.name)
        return {p.name: getattr(config, p.name) for p in self.space}


RANKER = Part(
    "ranker",
    "funnel",
    (
        Choice("hidden", ((32,), (64,), (64, 32), (128, 64), (256, 64))),
        Real("dropout", 0.0, 0.5),
        Real("learning_rate", 3e-4, 1e-2, log=True),
        Real("weight_decay", 1e-5, 1e-1, log=True),
        Whole("epochs", 10, 60),
        Choice("max_negatives", (50, 100, 200)),  # the rows of each are kept
        Choice("batch_queries", (64, 128, 256, 512)),
    ),
)
SEQUENCE = Part(
    "sequence",
    "funnel",
    (
        Choice("dim", (32, 64, 96, 128)),
        Choice("blocks", (1, 2, 3)),
        Real("dropout", 0.1, 0.6),
        Real("learning_rate", 5e-4, 1e-2, log=True),
        Real("weight_decay", 1e-4, 1e-1, log=True),
        Whole("epochs", 4, 20),
    ),
)
COVISITATION = Part(
    "covisitation",
    "co_visited",
    (
        Whole("max_distance", 1, 20, log=True),
        Real("distance_decay", 0.4, 1.0),
        Real("backward", 0.0, 1.0),
        Real("neighbour_power", 0.0, 1.0),
        Real("item_power", 0.0, 1.0),
    ),
)
PARTS = (RANKER, SEQUENCE, COVISITATION)


def part_named(name: str) -> Part:
    for part in PARTS:
        if part.name == name:
            return part
    known = ", ".join(part.name for part in PARTS)
    raise ConfigError(f"found part {name!r}, expected one of {known}: correct --part")
