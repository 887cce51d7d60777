"""What a trial costs: everything that a configuration does not change is fitted once and kept."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array
from features.covisitation import fit_covisitation
from features.views import views_hash
from jobs.steps import Done, Workshop, digest_of, link_tree
from jobs.tuning import Judge
from jobs.tuning_data import TuningSet
from jobs.tuning_spaces import Part
from recsys.bundle import Bundle
from recsys.evaluation.metrics import judge, ndcg
from recsys.evaluation.offline import relevant_rows
from recsys.progress import Progress
from recsys.ranking.ranker import Ranker
from recsys.ranking.slate import utility
from recsys.retrieval.sources import CoVisited
from recsys.retrieval.text_space import load_taste_vectors
from recsys.training.queries import PastQueries, RankingRows
from recsys.training.ranker import fit_ranker
from recsys.training.recipe import (
    RecipeConfig,
    daily_ticks,
    fit_first_stages,
    known_to,
    rows_to_rank,
    write_catalogue,
)
from recsys.training.rows import labelled_batches
from recsys.training.sequence import fit_sequence
from recsys.training.text import fit_text_encoder, fit_text_space

K = 10
DEEP = 200  # candidates asked of a source alone: some are what the shopper has already
Arrays = TypeVar("Arrays", bound="RankingRows | Questions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Candidates of the validation window with their features; grouped by query, any order in."""

    offsets: Int64Array  # (n_queries + 1,)
    item_rows: Int32Array  # (n,)
    features: Float32Array  # (n, n_features)


class Bench:
    """One data set, and what has been fitted on it."""

    def __init__(
        self,
        tuned: TuningSet,
        recipe: RecipeConfig,
        workshop: Workshop,
        *,
        queries: int,
        progress: Progress,
    ) -> None:
        self._set = tuned
        self._recipe = recipe
        self._workshop = workshop
        self._progress = progress
        self._past = tuned.questions(queries)
        self._relevant = relevant_rows(self._past)
        self._world = {"set": tuned.digest, "queries": queries, "views": views_hash()}
        self._done: dict[str, Done] = {}

    def score(self, part: Part, recipe: RecipeConfig) -> float:
        """Mean nDCG@10 of the validation window's shoppers."""
        alone = part.judged_by == "co_visited"
        lists = self._co_visited(recipe) if alone else self._ranked(recipe)
        return float(ndcg(judge(lists, self._relevant), K).mean())

    def _co_visited(self, recipe: RecipeConfig) -> Int32Array:
        data = self._set.data
        known = data.log.before(self._set.validation_us)
        neighbours = fit_covisitation(known, len(data.items), recipe.covisitation)
        weights = np.array([kind.weight for kind in data.event_types], np.float32)
        found = CoVisited(neighbours, weights).candidates(self._past.queries, DEEP)
        return first_unseen(found.item_rows, self._past, K)

    def _ranked(self, recipe: RecipeConfig) -> Int32Array:
        """The funnel as it would be with this recipe, by utility alone."""
        if recipe.sequence == self._recipe.sequence:
            rows = self._kept("rows", recipe, RankingRows)
            asked = self._kept("questions", recipe, Questions)
        else:  # asked for by this trial only
            with self._fitted(recipe) as (past, recent):
                rows, asked = self._rows(past, recipe), self._questions(recent, recipe)
        ranker, _ = fit_ranker(rows, self._set.data.actions, recipe.ranker, self._progress)
        return best_rows(asked, self._utilities(ranker, asked, recipe), K)

    def _utilities(self, ranker: Ranker, asked: Questions, recipe: RecipeConfig) -> Float32Array:
        own = {kind.name: kind.weight for kind in self._set.data.event_types}
        weights = own | recipe.policy.action_weights
        action_weights = np.array([weights[action] for action in ranker.actions], np.float32)
        return utility(ranker.probabilities(asked.features), action_weights)

    def _rows(self, folder: Path, recipe: RecipeConfig) -> RankingRows:
        bundle = Bundle.load(folder, threads=2)
        window = (self._set.label_us, self._set.validation_us)
        return rows_to_rank(self._set.data, bundle, window, recipe, self._progress)

    def _questions(self, folder: Path, recipe: RecipeConfig) -> Questions:
        bundle, data = Bundle.load(folder, threads=2), self._set.data
        past = known_to(bundle.factors, self._past, data.log.user_ids)
        batches = list(
            labelled_batches(
                bundle, past, data.actions, recipe.policy, self._progress, label="questions"
            )
        )
        sizes = np.concatenate([np.diff(batch.candidates.offsets) for batch in batches])
        return Questions(
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            item_rows=np.concatenate([batch.candidates.item_rows for batch in batches]),
            features=np.concatenate([batch.features for batch in batches]),
        )

    def _kept(self, name: str, recipe: RecipeConfig, kind: type[Arrays]) -> Arrays:
        def work(folder: Path) -> dict[str, object]:
            with self._fitted(recipe) as (past, recent):
                is_rows = kind is RankingRows
                made = self._rows(past, recipe) if is_rows else self._questions(recent, recipe)
                save_arrays(made, folder)
            return {}

        ranker = recipe.ranker
        of_rows = {"negatives": ranker.max_negatives, "validation": ranker.validation_share}
        config = recipe.as_json() | {"ranker": of_rows if kind is RankingRows else None}
        return load_arrays(kind, self._step(name, {"config": config}, work).folder)

    def _step(
        self,
        name: str,
        inputs: Mapping[str, object],
        work: Callable[[Path], dict[str, object]],
    ) -> Done:
        """The workshop's, looked up once a run."""
        inputs = {**self._world, **inputs}
        key = digest_of([name, inputs])
        if key not in self._done:
            self._done[key] = self._workshop.step(name, inputs, work)
        return self._done[key]

    @contextmanager
    def _fitted(self, recipe: RecipeConfig) -> Iterator[tuple[Path, Path]]:
        """Bundles without a ranker as of the label window and of the validation window."""
        text = self._text(recipe)
        label_us, validation_us = self._set.label_us, self._set.validation_us
        with self._temporary() as root:
            before: Path | None = None
            folders = []
            for name, until_us, ticks_until_us in (
                ("past", label_us, validation_us),
                ("recent", validation_us, validation_us + 1),
            ):
                base = self._base(name, text, until_us, ticks_until_us)
                folder = root / name
                write_catalogue(self._set.data, folder)
                link_tree(text.folder, folder)
                link_tree(base.folder, folder)
                if recipe.sequence != self._recipe.sequence:
                    self._other_sequence(recipe, text, until_us, folder, before)
                folders.append(folder)
                before = folder
            yield folders[0], folders[1]

    def _other_sequence(
        self, recipe: RecipeConfig, text: Done, until_us: int, folder: Path, warm: Path | None
    ) -> None:
        shutil.rmtree(folder / "sequence")
        fit_sequence(
            self._set.data.log.before(until_us),
            load_taste_vectors(text.folder / "text"),
            recipe.sequence,
            folder / "sequence",
            warm=warm / "sequence" if warm else None,
            progress=self._progress,
        )

    def _text(self, recipe: RecipeConfig) -> Done:
        data = self._set.data
        visible = data.log.before(self._set.label_us)

        def work(folder: Path) -> dict[str, object]:
            fit_text_encoder(data.items, visible, recipe.encoder, folder, self._progress)
            encoder = folder / "encoder"
            fit_text_space(data.items, visible, recipe.text, encoder, folder, self._progress)
            return {}

        config = recipe.as_json("encoder", "text")
        return self._step("text", {"config": config}, work)

    def _base(self, name: str, text: Done, until_us: int, ticks_until_us: int) -> Done:
        """First stages by the recipe that the search started from, warm from the earlier ones."""
        recipe = self._recipe
        warm = None
        if name == "recent":
            warm = self._base("past", text, self._set.label_us, self._set.validation_us)

        def work(folder: Path) -> dict[str, object]:
            fit_first_stages(
                self._set.data,
                until_us,
                recipe,
                folder,
                text_vectors=load_taste_vectors(text.folder / "text"),
                warm=warm.folder if warm else None,
                ticks_us=daily_ticks(until_us, ticks_until_us),
                progress=self._progress,
            )
            return {}

        inputs = {
            "text": text.digest,
            "ticks_until": ticks_until_us,
            "config": recipe.as_json("covisitation", "collaborative", "sequence"),
        }
        return self._step(name, inputs, work)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        self._workshop.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundles-", dir=self._workshop.root) as name:
            yield Path(name)


def judged_by(benches: Mapping[str, Bench], part: Part) -> Judge:
    return lambda name, recipe: benches[name].score(part, recipe)


def first_unseen(item_rows: Int32Array, past: PastQueries, k: int) -> Int32Array:
    """(n, k) of ranked lists (n, any), without what each shopper had touched; padded with -1."""
    out = np.full((len(item_rows), k), -1, np.int32)
    for query, ranked in enumerate(item_rows):
        seen = past.seen_rows[past.seen_indptr[query] : past.seen_indptr[query + 1]]
        kept = ranked[(ranked >= 0) & ~np.isin(ranked, seen)][:k]
        out[query, : len(kept)] = kept
    return out


def best_rows(asked: Questions, scores: Float32Array, k: int) -> Int32Array:
    """(n_queries, k) item rows, best first, ties by item row; padded with -1."""
    sizes = np.diff(asked.offsets)
    query = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((asked.item_rows, -scores, query))
    rank = np.arange(len(order)) - asked.offsets[query]  # `order` keeps the groups in place
    kept = rank < k
    out = np.full((len(sizes), k), -1, np.int32)
    out[query[kept], rank[kept]] = asked.item_rows[order[kept]]
    return out


def save_arrays(value: "RankingRows | Questions", folder: Path) -> None:
    for field in fields(value):
        np.save(folder / f"{field.name}.npy", getattr(value, field.name), allow_pickle=False)


def load_arrays(kind: type[Arrays], folder: Path) -> Arrays:
    return kind(**{field.name: np.load(folder / f"{field.name}.npy") for field in fields(kind)})
