"""One search for better defaults: which configuration is best on several data sets at once?

A trial's value is its mean, over the data sets, of nDCG@10 on the validation window relative to
the defaults', so that no data set counts for more because it is easier. A trial that is behind
the median of the others after one data set is not asked about the next (optuna's median pruner).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from features.errors import ConfigError, DataError
from jobs.steps import digest_of
from jobs.tuning_spaces import Part
from recsys.progress import Progress
from recsys.training.recipe import RecipeConfig

UNPRUNED = 5  # trials that see every data set, before medians mean something

# (data set, recipe) → nDCG@10 on its validation window.
Judge: TypeAlias = Callable[[str, RecipeConfig], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One configuration that every data set has judged."""

    number: int
    value: float  # mean over data sets of score / the defaults' score
    scores: dict[str, float]  # nDCG@10 by data set
    values: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has found so far; `tried` is best first and holds the defaults."""

    part: str
    tried: tuple[Tried, ...]
    pruned: int
    importance: dict[str, float]  # share of the variance, by parameter; empty while unknown
    defaults: int  # their number among the tried

    @property
    def best(self) -> Tried:
        return self.tried[0]

    @property
    def place_of_defaults(self) -> int:
        """From 1."""
        return 1 + [tried.number for tried in self.tried].index(self.defaults)


def search(
    part: Part,
    names: Sequence[str],
    recipe: RecipeConfig,
    judge: Judge,
    *,
    trials: int,
    seed: int,
    file: Path,
    world: Mapping[str, object],
    progress: Progress,
) -> Found:
    """Until `trials` are finished, counting those that `file` already holds.

    `world` is what the scores depend on beside the configuration: a file of another is refused.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(part, file)
    _check_world(study, digest_of({**world, "recipe": recipe.as_json()}), file)
    if "base" not in study.user_attrs:  # or a run was killed at its first trial
        study.enqueue_trial(part.known(recipe))
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    left = max(trials - len(_finished(study)), 0)
    for _ in progress.track(range(left), total=left, label=f"trials of {part.name}"):
        study.optimize(lambda trial: _value(study, trial, part, names, recipe, judge), n_trials=1)
        progress.say(_last(study))
    return _found(study, part, recipe)


def _study(part: Part, file: Path) -> optuna.Study:
    file.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=part.name,
        storage=f"sqlite:///{file}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
        load_if_exists=True,
    )


def _check_world(study: optuna.Study, digest: str, file: Path) -> None:
    known = study.user_attrs.get("world")
    if known is None:
        study.set_user_attr("world", digest)
    elif known != digest:
        raise ConfigError(
            f"found in {file} a search on other data, seeds or defaults; expected the same: "
            "name another --study"
        )


def _value(
    study: optuna.Study,
    trial: optuna.Trial,
    part: Part,
    names: Sequence[str],
    recipe: RecipeConfig,
    judge: Judge,
) -> float:
    candidate = part.drawn(trial, recipe)
    base: dict[str, float] = study.user_attrs.get("base", {})
    scores: dict[str, float] = {}
    value = 0.0
    for step, name in enumerate(names):
        scores[name] = judge(name, candidate)
        trial.set_user_attr("scores", scores)
        if base.get(name, scores[name]) <= 0:
            raise DataError(
                f"{name}: the defaults found nothing, so nothing can be compared with them: name "
                "a data set with more shoppers"
            )
        value = sum(scores[n] / base.get(n, scores[n]) for n in scores) / len(scores)
        trial.report(value, step)
        if step + 1 < len(names) and trial.should_prune():
            raise optuna.TrialPruned
    if not base:
        study.set_user_attr("base", scores)
        study.set_user_attr("defaults", trial.number)
    return value


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _last(study: optuna.Study) -> str:
    trial = study.trials[-1]
    scores = ", ".join(f"{name} {score:.4f}" for name, score in trial.user_attrs["scores"].items())
    value = "left early" if trial.value is None else f"{trial.value:.4f}"
    return f"trial {trial.number}: {value} ({scores}); best {study.best_value:.4f}"


def _found(study: optuna.Study, part: Part, recipe: RecipeConfig) -> Found:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if "base" not in study.user_attrs:
        raise ConfigError("no trial is finished, expected at least the defaults: allow more trials")
    order = sorted(complete, key=lambda trial: (-_value_of(trial), trial.number))
    return Found(
        part=part.name,
        tried=tuple(
            Tried(
                number=trial.number,
                value=_value_of(trial),
                scores=trial.user_attrs["scores"],
                values=part.values(
                    part.drawn(optuna.trial.FixedTrial(trial.params), recipe)  # type: ignore[arg-type]
                ),
            )
            for trial in order
        ),
        pruned=len(_finished(study)) - len(complete),
        importance=_importance(study, complete),
        defaults=study.user_attrs["defaults"],
    )


def _value_of(trial: FrozenTrial) -> float:
    assert trial.value is not None  # complete trials have one
    return trial.value


def _importance(study: optuna.Study, complete: Sequence[FrozenTrial]) -> dict[str, float]:
    if len({trial.value for trial in complete}) < 2:
        return {}
    return dict(optuna.importance.get_param_importances(study))
