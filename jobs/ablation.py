"""What each source, and each family of views, gives: the funnel without it, judged in pairs.

The first stages are fitted once, and asked once about the past and about the test questions. To
remove a *source* leaves what there would be had it never been asked: candidates that only it
proposed go, agreement and the places within the list are taken anew among the others, and the
views of its group are unknown to the ranker, in training and test alike. To remove *views* leaves
all candidates and makes the views of the group unknown. Only the ranker is trained anew.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from features.errors import DataError
from features.views import FEATURE_NAMES, FEATURE_VIEWS, SOURCES, WITHIN_LIST
from features.within import quantiles, z_scores
from jobs.ablation_table import Ablation, Kind, Outcome, Row, summarise
from jobs.benchmark import Watch, seeded
from jobs.judged_past import JudgedPast
from jobs.lambdamart import LambdaMart, fit_lambdamart
from recsys.bundle import Bundle
from recsys.evaluation.metrics import RowSets, judge, ndcg, recall
from recsys.evaluation.offline import relevant_rows, top_rows
from recsys.progress import Progress
from recsys.ranking.ranker import Ranker
from recsys.ranking.slate import best_rank_utility, utility
from recsys.retrieval.merge import select
from recsys.training.queries import RankingRows
from recsys.training.ranker import fit_ranker
from recsys.training.recipe import RecipeConfig, fit_bundle, ranking_questions
from recsys.training.rows import Labelled, labelled_batches, ranking_rows

GROUPS = tuple(dict.fromkeys(view.group for view in FEATURE_VIEWS))
K = 10

Model: TypeAlias = Ranker | LambdaMart | None  # None: too little to learn from


@dataclass(frozen=True, slots=True)
class Removal:
    """One row of the table: who is missing."""

    name: str
    kind: Kind
    sources: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()  # groups


ALL = Removal("all sources", "all")
YARDSTICK = Removal("LightGBM LambdaMART", "yardstick")


def removals(kinds: Sequence[Kind]) -> list[Removal]:
    """The rows of the tables asked for; what everything is compared with comes first."""
    everybody = frozenset(SOURCES)
    found = [
        ALL,
        YARDSTICK,
        *(Removal(f"without {name}", "source", frozenset({name})) for name in SOURCES),
        *(Removal(f"only {name}", "alone", everybody - {name}) for name in SOURCES),
        *(Removal(f"without views: {name}", "views", views=frozenset({name})) for name in GROUPS),
    ]
    return [one for one in found if one.kind in kinds or one.kind == "all"]


def without(batch: Labelled, removal: Removal) -> Labelled:
    """What the funnel would have said without these sources, and the ranker without these views."""
    candidates, features, labels = batch.candidates, batch.features, batch.labels
    if removal.sources:
        gone = [SOURCES.index(name) for name in removal.sources]
        ranks, scores = candidates.source_ranks.copy(), candidates.source_scores.copy()
        ranks[:, gone], scores[:, gone] = np.nan, np.nan
        keep = np.asarray(~np.isnan(ranks).all(axis=1), np.bool_)
        candidates = select(replace(candidates, source_ranks=ranks, source_scores=scores), keep)
        features, labels = features[keep], labels[keep]
        features = _seen_anew(features, candidates.source_ranks, candidates.offsets)
    hidden = _columns(removal.sources | removal.views)
    if hidden.any():
        features = np.where(hidden, np.float32(np.nan), features)
    return Labelled(batch.past, candidates, features, labels)


def _columns(groups: frozenset[str]) -> BoolArray:
    return np.array([view.group in groups for view in FEATURE_VIEWS])


_COMPARED = [FEATURE_NAMES.index(name) for name in WITHIN_LIST]
_PLACES = {
    function: [FEATURE_NAMES.index(f"{name}_{end}") for name in WITHIN_LIST]
    for end, function in (("z", z_scores), ("quantile", quantiles))
}
_AGREEING = FEATURE_NAMES.index("sources_agreeing")


def _seen_anew(features: Float32Array, ranks: Float32Array, offsets: Int64Array) -> Float32Array:
    """A copy in which agreement and the places within the list are those among these rows."""
    features = features.copy()
    features[:, _AGREEING] = (~np.isnan(ranks)).sum(axis=1)
    for places, columns in _PLACES.items():
        if len(features):
            features[:, columns] = places(features[:, _COMPARED], offsets)
    return features


def run_ablation(
    task: JudgedPast,
    config: RecipeConfig,
    folder: Path,
    progress: Progress,
    *,
    kinds: Sequence[Kind],
    seed: int,
    n_seeds: int,
) -> Ablation:
    """`folder` is empty and gets both bundles; seed, seed + 1, … are of the rankers alone."""
    config, watch = seeded(config, seed), Watch()
    past, serving = folder / "past", folder / "serving"
    fit_bundle(
        task.data, task.window, config, serving, progress, timed=watch.step, past_folder=past
    )
    chosen = removals(kinds)
    with watch.step("rankers"):
        models = _fit_models(task, past, config, chosen, n_seeds, progress)
    with watch.step("answers"):
        outcomes, users = _judged(task, Bundle.load(serving, threads=2), models, config, progress)
    return summarise(
        dataset=task.dataset,
        protocol=task.protocol,
        seed=seed,
        n_seeds=n_seeds,
        users=users,
        items=len(task.data.items),
        rows=[
            Row(removal.name, removal.kind, outcome)
            for removal, outcome in zip(models, outcomes, strict=True)
        ],
        seconds=watch.seconds,
    )


def _fit_models(
    task: JudgedPast,
    past_folder: Path,
    config: RecipeConfig,
    chosen: Sequence[Removal],
    n_seeds: int,
    progress: Progress,
) -> dict[Removal, list[Model]]:
    """A ranker a seed for each removal, all from the same answers to the same past questions.

    The generator is at each removal where `fit_ranking` has it, so that with all sources and the
    first seed the ranker is the one that a release would get.
    """
    bundle = Bundle.load(past_folder, threads=2)
    rng = np.random.default_rng(config.seed)
    questions = ranking_questions(task.data, bundle, task.window, config, rng)
    actions = task.data.actions
    batches = list(
        labelled_batches(bundle, questions, actions, config.policy, progress, label="ranking rows")
    )
    models = {}
    for removal in progress.track(chosen, total=len(chosen), label="rankers"):
        rows = ranking_rows(
            (without(batch, removal) for batch in batches),
            max_negatives=config.ranker.max_negatives,
            rng=copy.deepcopy(rng),
            held_out_share=config.ranker.validation_share,
        )
        seeds = range(config.seed, config.seed + n_seeds)
        models[removal] = [_fitted(task, removal, rows, config, s, progress) for s in seeds]
    return models


def _fitted(
    task: JudgedPast,
    removal: Removal,
    rows: RankingRows,
    config: RecipeConfig,
    seed: int,
    progress: Progress,
) -> Model:
    own = replace(config.ranker, seed=seed)
    try:
        if removal.kind == "yardstick":
            return fit_lambdamart(rows, _gains(task, config), own)
        return fit_ranker(rows, task.data.actions, own, progress)[0]
    except DataError as error:
        progress.say(f"{removal.name}: candidates stay in the order of their ranks, {error}")
        return None


def _gains(task: JudgedPast, config: RecipeConfig) -> Float32Array:
    """(n_actions,) what a taken action is worth, as the slate's utility counts it."""
    weights = {kind.name: kind.weight for kind in task.data.event_types}
    weights |= config.policy.action_weights
    return np.array([weights[action] for action in task.data.actions], np.float32)


def _judged(
    task: JudgedPast,
    bundle: Bundle,
    models: dict[Removal, list[Model]],
    config: RecipeConfig,
    progress: Progress,
) -> tuple[list[Outcome], int]:
    past, gains = task.questions(bundle), _gains(task, config)
    relevant = relevant_rows(past)
    if len(past) == 0 or len(relevant.rows) == 0:
        raise DataError("found no shopper to judge by, expected some: import more events")
    taken = tuple(kind.name for kind in task.data.event_types if kind.is_positive)
    answers = [_Answers(len(found)) for found in models.values()]
    for batch in labelled_batches(
        bundle, past, taken, config.policy, progress, label="test questions"
    ):
        for removal, answer in zip(models, answers, strict=True):
            answer.add(without(batch, removal), models[removal], gains)
    outcomes = [answer.outcome(relevant) for answer in answers]
    return outcomes, len(outcomes[0].candidate_recall)


class _Answers:
    """One removal's lists, a ranker each, and what its candidates hold, batch by batch."""

    def __init__(self, n_models: int) -> None:
        self._lists: list[list[Int32Array]] = [[] for _ in range(n_models)]
        self._proposed: list[Int64Array] = []
        self._sizes: list[Int64Array] = []

    def add(self, batch: Labelled, models: Sequence[Model], gains: Float32Array) -> None:
        for lists, model in zip(self._lists, models, strict=True):
            lists.append(top_rows(batch, _scores(batch, model, gains)))
        taken = batch.labels.max(axis=1, initial=0) > 0
        query = batch.candidates.query_index[taken]
        self._proposed.append(np.bincount(query, minlength=len(batch.past)))
        self._sizes.append(np.diff(batch.candidates.offsets))

    def outcome(self, relevant: RowSets) -> Outcome:
        judged = [judge(np.concatenate(lists), relevant) for lists in self._lists]
        users, wanted = judged[0].users, judged[0].n_relevant
        proposed, sizes = np.concatenate(self._proposed), np.concatenate(self._sizes)
        return Outcome(
            candidates=float(sizes[users].mean()),
            candidate_recall=proposed[users] / wanted,
            recall=np.stack([recall(found, K) for found in judged]),
            ndcg=np.stack([ndcg(found, K) for found in judged]),
        )


def _scores(batch: Labelled, model: Model, gains: Float32Array) -> Float32Array:
    if model is None:
        return best_rank_utility(batch.candidates.source_ranks)
    if isinstance(model, LambdaMart):
        return model.scores(batch.features)
    return utility(model.probabilities(batch.features), gains)
