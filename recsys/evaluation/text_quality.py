"""Whether an encoder finds items by their words, however those are written.

    search         three words of the title → the item is among the first ten: 0 or 1
    typos, …       share of an item's ten neighbours that it keeps when its title is perturbed
    out_of_domain  for a text from elsewhere: share of items that lie nearer to the catalogue
    attraction     how often such a text would enter an item's ten neighbours, against the average
                   item's rate; 0 is none, 1 as much as any item

Overlaps and ranks, never cosines: those rise when a whole space collapses. Frozen MiniLM, whitened,
400 items of the whole catalogue: Amazon Beauty search .74, typos .67, out_of_domain 1.0; MovieLens,
whose titles are two words, .97, .29, .94.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import polars as pl

from features.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from recsys.evaluation.bootstrap import Interval, bootstrap, paired_bootstrap
from recsys.evaluation.metrics import RowSets, full_ranking, hit_rate, judge_ranks
from recsys.evaluation.perturbations import ELSEWHERE, PERTURBATIONS, gibberish
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.text import item_texts

K = 10  # neighbours compared; results a shopper looks at
QUERY_WORDS = 3
SEARCH, OUT_OF_DOMAIN, ATTRACTION = "search", "out_of_domain", "attraction"
MEASURES = (SEARCH, *PERTURBATIONS, OUT_OF_DOMAIN, ATTRACTION)
LOWER_IS_BETTER = frozenset({ATTRACTION})

Embed: TypeAlias = Callable[[Sequence[str]], Float32Array]
Scores: TypeAlias = Mapping[str, Float64Array]  # measure → one number an item or text


@dataclass(frozen=True, slots=True)
class WordSpace:
    """Where words find items: unit rows, of item texts and of what people type."""

    embed: Embed
    embed_queries: Embed
    vectors: Float32Array | None = None  # (n_items, d) `embed` of every item, where at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityConfig:
    """How many texts to spend."""

    sample: int = 400  # items perturbed: ±.02 on a share of .8
    pool: int = 2_000  # items embedded to be neighbours where their vectors are not at hand
    gibberish: int = 70  # with the 30 phrases from elsewhere the hundred that the gate asks for
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with its 95 % interval over the texts it was measured on."""

    mean: float
    low: float
    high: float
    texts: int


@dataclass(frozen=True, slots=True)
class _Trial:
    """Items under test among those that may be found."""

    space: WordSpace
    items: pl.DataFrame  # the sampled rows of the catalogue
    places: Int64Array  # (n,) where they are in the pool
    pool: VectorIndex
    clean: Int32Array  # (n, K) their neighbours


def score_text(
    space: WordSpace,
    items: pl.DataFrame,
    config: QualityConfig,
    *,
    measures: Collection[str] = MEASURES,
) -> Scores:
    """The measures of two encoders can be paired where `items`, `config` and pool are the same.

    `items` are ITEM_SCHEMA rows; a measure without a text to be taken on is left out.
    """
    titled = np.flatnonzero(items["title"].str.contains(r"\S").to_numpy())
    rng = np.random.default_rng(config.seed)
    sample = np.sort(rng.choice(titled, min(config.sample, len(titled)), replace=False))
    if len(sample) == 0:
        return {}
    trial = _trial(space, items, sample, config, rng)
    scores = {name: _overlap(trial, name, config) for name in PERTURBATIONS if name in measures}
    if SEARCH in measures:
        scores[SEARCH] = _search(trial, config)
    if not {OUT_OF_DOMAIN, ATTRACTION}.isdisjoint(measures):
        scores |= _out_of_domain(trial, config)
    return {name: scores[name] for name in measures if len(scores[name])}


def summary(scores: Scores, *, seed: int = 0) -> dict[str, Figure]:
    figures = {}
    for name, values in scores.items():
        found = bootstrap(values, seed=seed)
        figures[name] = Figure(found.mean, found.low, found.high, len(values))
    return figures


def differences(scores: Scores, baseline: Scores, *, seed: int = 0) -> dict[str, Interval]:
    """Of means, paired by text."""
    return {
        name: paired_bootstrap(values, baseline[name], seed=seed).interval
        for name, values in scores.items()
        if name in baseline
    }


def _trial(
    space: WordSpace,
    items: pl.DataFrame,
    sample: Int64Array,
    config: QualityConfig,
    rng: np.random.Generator,
) -> _Trial:
    vectors, places = space.vectors, sample
    if vectors is None:
        others = np.setdiff1d(np.arange(len(items)), sample)
        n_others = min(len(others), max(0, config.pool - len(sample)))
        rows = np.sort(np.concatenate([sample, rng.choice(others, n_others, replace=False)]))
        vectors, places = space.embed(item_texts(items[rows])), np.searchsorted(rows, sample)
    pool = VectorIndex(vectors)
    clean = _neighbours(pool, pool.vectors[places], places)
    return _Trial(space, items[sample], places, pool, clean)


def _neighbours(pool: VectorIndex, vectors: Float32Array, own: Int64Array) -> Int32Array:
    """(n, ≤ K) rows of the pool, without the item itself."""
    found, _ = pool.search(vectors, min(K + 1, len(pool)))
    others_first = np.argsort(found == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(found, others_first, 1)[:, : min(K, len(pool) - 1)]


def _search(trial: _Trial, config: QualityConfig) -> Float64Array:
    rng = np.random.default_rng([config.seed, _stream(SEARCH)])
    queries = [short_query(title, rng) for title in trial.items["title"]]
    scores = trial.space.embed_queries(queries) @ trial.pool.vectors.T
    nothing = RowSets(np.zeros(len(queries) + 1, np.int64), np.empty(0, np.int32))
    ranks = full_ranking(scores, nothing, trial.places.astype(np.int32))
    return hit_rate(judge_ranks(ranks, K), K)


def short_query(title: str, rng: np.random.Generator) -> str:
    """QUERY_WORDS words of the title in their order; all of a shorter title's."""
    words = title.split()
    kept = rng.choice(len(words), min(QUERY_WORDS, len(words)), replace=False)
    return " ".join(words[place] for place in np.sort(kept))


def _overlap(trial: _Trial, name: str, config: QualityConfig) -> Float64Array:
    """(items whose title the perturbation changes,) share of clean neighbours kept."""
    rng = np.random.default_rng([config.seed, _stream(name)])
    titles = trial.items["title"].to_list()
    perturbed = [PERTURBATIONS[name](title, rng) for title in titles]
    changed = np.array([new != old for new, old in zip(perturbed, titles, strict=True)])
    if not changed.any() or trial.clean.shape[1] == 0:
        return np.empty(0)
    retitled = trial.items.with_columns(title=pl.Series(perturbed, dtype=pl.String))
    vectors = trial.space.embed(item_texts(retitled.filter(changed)))
    found = _neighbours(trial.pool, vectors, trial.places[changed])
    kept = (found[:, :, None] == trial.clean[changed][:, None, :]).any(axis=2)
    return np.asarray(kept.mean(axis=1), np.float64)


def _out_of_domain(trial: _Trial, config: QualityConfig) -> dict[str, Float64Array]:
    """Both measures, a number for each text from elsewhere."""
    rng = np.random.default_rng([config.seed, _stream(OUT_OF_DOMAIN)])
    strangers = trial.space.embed([*ELSEWHERE, *gibberish(config.gibberish, rng)])
    own = trial.pool.vectors[trial.places]
    if trial.clean.shape[1] == 0:
        return {OUT_OF_DOMAIN: np.empty(0), ATTRACTION: np.empty(0)}
    similarity = np.einsum("nd,nkd->nk", own, trial.pool.vectors[trial.clean])
    nearest, last = similarity.max(axis=1), similarity.min(axis=1)
    _, reached = trial.pool.search(strangers, 1)
    ahead = (nearest > reached).mean(axis=1) + 0.5 * (nearest == reached).mean(axis=1)
    entries = (strangers @ own.T > last).sum(axis=1)
    usual = len(own) * trial.clean.shape[1] / (len(trial.pool) - 1)
    return {
        OUT_OF_DOMAIN: np.asarray(ahead, np.float64),
        ATTRACTION: np.asarray(entries / usual, np.float64),
    }


def _stream(name: str) -> int:
    """A measure draws the same numbers whichever others are taken."""
    return MEASURES.index(name)
