"""From tables to a release folder: what the night, the benchmark and a notebook all train with.

The ranker never learns from scores of models that have seen its labels: the first stages are
fitted on what lies before the label window, the rows are built and the ranker is trained; then
the first stages are fitted again, warm, on everything.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from features.arrays import Float32Array, Float64Array, Int64Array
from features.baskets import fit_bought_together
from features.covisitation import CovisitationConfig, fit_covisitation
from features.events import US_PER_DAY, EventType
from features.interactions import Interactions
from features.popularity import fitting_half_life
from features.snapshot import Snapshots, item_snapshots, niches
from recsys.bundle import Bundle, save_facts
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.retrieval.collaborative import FactorModel
from recsys.retrieval.text_space import load_taste_vectors
from recsys.training.collaborative import CollaborativeConfig, fit_collaborative
from recsys.training.encoder.config import EncoderConfig
from recsys.training.exposures import PastSlates, exposure_rows
from recsys.training.queries import (
    PastQueries,
    RankingRows,
    joined,
    window_queries,
    with_users,
)
from recsys.training.ranker import RankerConfig, RankerReport, fit_ranker
from recsys.training.rows import labelled_batches, ranking_rows
from recsys.training.sequence import SequenceConfig, fit_sequence
from recsys.training.source_index import index_sources
from recsys.training.text import TextConfig, fit_text_encoder, fit_text_space

FITTED_AGAIN = ("covisitation", "bought_together", "collaborative", "sequence", "snapshots")
MAX_TICKS = 30  # snapshots kept for a label window; wider windows get a coarser grid


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeConfig:
    """Every trainer's configuration; the manifest keeps it."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    covisitation: CovisitationConfig = field(default_factory=CovisitationConfig)
    collaborative: CollaborativeConfig = field(default_factory=CollaborativeConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    policy: Policy = field(default_factory=Policy)
    queries_per_user: int = 3  # moments of the label window each shopper is asked about
    outcomes_per_query: int = 10
    max_queries: int = 30_000  # more did not lower the validation loss on Beauty
    seed: int = 0

    def as_json(self, *trainers: str) -> dict[str, object]:
        """The named trainers' configurations, or all of it, as JSON values."""
        whole = asdict(self) | {"policy": self.policy.model_dump()}
        return {name: whole[name] for name in trainers} if trainers else whole


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The catalogue in row order and what happened to it."""

    items: pl.DataFrame  # ITEM_SCHEMA
    log: Interactions
    event_types: tuple[EventType, ...]

    @property
    def actions(self) -> tuple[str, ...]:
        """Event types that occur and tell of taste, or of aversion: a head of the ranker each."""
        seen = np.bincount(self.log.types, minlength=len(self.event_types)) > 0
        return tuple(
            kind.name
            for kind, occurs in zip(self.event_types, seen, strict=True)
            if occurs and kind.weight != 0
        )


def fit_bundle(
    data: TrainingData,
    window: tuple[int, int],
    config: RecipeConfig,
    folder: Path,
    progress: Progress,
    *,
    timed: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
    past_folder: Path | None = None,
    reported: Callable[[str, object], None] = lambda *_: None,
) -> None:
    """A complete bundle in one go: the ranker's labels lie in the window [start, end).

    Nothing from `end` on is learned. `timed` is entered with the name of each step. The bundle
    whose first stages end before the window, which the ranker learned from, is kept if named.
    `reported` gets each training's name and report; the sequence model is trained twice.
    """
    label_us, until_us = window
    past = past_folder or folder / ".past"
    write_catalogue(data, past)
    visible = data.log.before(label_us)
    with timed("encoder"):
        fit_text_encoder(data.items, visible, config.encoder, past, progress)
    with timed("text"):
        fit_text_space(data.items, visible, config.text, past / "encoder", past, progress)
    vectors = load_taste_vectors(past / "text")

    def stages(out: Path, end_us: int, ticks_us: list[int], warm: Path | None) -> None:
        fit_first_stages(
            data,
            end_us,
            config,
            out,
            text_vectors=vectors,
            warm=warm,
            ticks_us=ticks_us,
            progress=progress,
            reported=reported,
        )

    with timed("first stages"):
        stages(past, label_us, daily_ticks(label_us, until_us), None)
    with timed("ranker"):
        reported("ranker", fit_ranking(data, past, window, config, progress))
    with timed("first stages again"):
        stages(folder, until_us, daily_ticks(until_us, until_us + 1), past)
    shutil.copytree(past, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*FITTED_AGAIN))
    if past_folder is None:
        shutil.rmtree(past)


def write_catalogue(data: TrainingData, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data.items.write_parquet(folder / "items.parquet")
    save_facts(folder, data.event_types)


def fit_first_stages(
    data: TrainingData,
    until_us: int,
    config: RecipeConfig,
    folder: Path,
    *,
    text_vectors: Float32Array,
    warm: Path | None,
    ticks_us: Sequence[int],
    progress: Progress,
    reported: Callable[[str, object], None] = lambda *_: None,
) -> None:
    """Writes covisitation/, bought_together/, collaborative/, sequence/ and snapshots/.

    Models see events before `until_us`; snapshots those before each tick. The half-life of
    popularity is that of `warm`, so that the ranker finds the view it learned from.
    """
    past = data.log.before(until_us)
    progress.say("counting what is taken after what")
    fit_covisitation(past, len(data.items), config.covisitation).save(folder / "covisitation")
    bought = fit_bought_together(past, data.event_types, len(data.items))
    bought.save(folder / "bought_together")
    niche = niches(data.items["tags"])
    half_life_days = (
        Snapshots.load(warm / "snapshots").half_life_days if warm else fitting_half_life(past)
    )
    item_snapshots(
        data.log, ticks_us, published_at_us(data.items), niche, half_life_days=half_life_days
    ).save(folder / "snapshots")
    fit_collaborative(
        past,
        data.items["tags"].to_list(),
        config.collaborative,
        folder / "collaborative",
        progress,
    )
    report = fit_sequence(
        past,
        text_vectors,
        config.sequence,
        folder / "sequence",
        warm=warm / "sequence" if warm else None,
        progress=progress,
    )
    reported("sequence", report)
    weights = np.array([kind.weight for kind in data.event_types], np.float32)
    index_sources(past, weights, until_us, config.text.index, folder, progress)


def fit_ranking(
    data: TrainingData,
    bundle_folder: Path,
    window: tuple[int, int],
    config: RecipeConfig,
    progress: Progress,
    *,
    past: PastSlates | None = None,
) -> RankerReport:
    """Adds ranker/ to a folder whose first stages were fitted before the window [start, end).

    Of `past` slates only what was shown, and what followed, before the window's end is learned.
    """
    bundle = Bundle.load(bundle_folder, threads=2)
    rows = rows_to_rank(data, bundle, window, config, progress, past=past)
    ranker, report = fit_ranker(rows, data.actions, config.ranker, progress)
    ranker.save(bundle_folder / "ranker")
    return report


def rows_to_rank(
    data: TrainingData,
    bundle: Bundle,
    window: tuple[int, int],
    config: RecipeConfig,
    progress: Progress,
    *,
    past: PastSlates | None = None,
) -> RankingRows:
    """What `fit_ranking` learns from."""
    rng = np.random.default_rng(config.seed)
    questions = ranking_questions(data, bundle, window, config, rng)
    batches = labelled_batches(
        bundle, questions, data.actions, config.policy, progress, label="ranking rows"
    )
    held_out_share = config.ranker.validation_share
    rows = ranking_rows(
        batches,
        max_negatives=config.ranker.max_negatives,
        rng=rng,
        held_out_share=held_out_share,
    )
    if past is not None:
        shown = exposure_rows(
            past,
            data.actions,
            end_us=window[1],
            max_slates=config.ranker.max_slates,
            held_out_share=held_out_share,
            rng=rng,
        )
        progress.say(f"ranker: {len(rows):,} past questions, {len(shown):,} slates to learn from")
        rows = joined(rows, shown)
    return rows


def ranking_questions(
    data: TrainingData,
    bundle: Bundle,
    window: tuple[int, int],
    config: RecipeConfig,
    rng: np.random.Generator,
) -> PastQueries:
    """The moments of the window that the ranker learns from, at most `max_queries`."""
    past = window_queries(
        data.log,
        *window,
        per_user=config.queries_per_user,
        max_labels=config.outcomes_per_query,
        rng=rng,
        aversions=True,
    )
    past = known_to(bundle.factors, past, data.log.user_ids)
    if len(past) > config.max_queries:
        past = past.take(np.sort(rng.choice(len(past), config.max_queries, replace=False)))
    return past


def known_to(factors: FactorModel, past: PastQueries, user_ids: Sequence[str]) -> PastQueries:
    rows = np.fromiter((factors.user_row(user) for user in user_ids), np.int32, len(user_ids))
    return with_users(past, rows)


def daily_ticks(start_us: int, end_us: int) -> list[int]:
    """Whole days from the one `start` lies in up to the last before `end`, at most MAX_TICKS."""
    first, last = start_us // US_PER_DAY, max((end_us - 1) // US_PER_DAY, start_us // US_PER_DAY)
    step = max(-(-(last - first) // (MAX_TICKS - 1)), 1)
    return [day * US_PER_DAY for day in (first, *range(last, first, -step)[::-1])]


def window_with_users(log: Interactions, end_us: int, target: int) -> int:
    """Start of the shortest whole-day window before `end` in which `target` users were active.

    Never reaches into the older half of the events: models need a past to learn from.
    """
    before = log.before(end_us).positive()
    if len(before) == 0:
        return end_us - US_PER_DAY
    last_of_user = before.time_us[before.indptr[1:][np.diff(before.indptr) > 0] - 1]
    newest_first: Int64Array = np.sort(last_of_user)[::-1]
    reached = newest_first[min(target, len(newest_first)) - 1]
    start = max(int(reached), int(np.median(before.time_us)))
    days = max(-(-(end_us - start) // US_PER_DAY), 1)
    return int(end_us - days * US_PER_DAY)


def published_at_us(items: pl.DataFrame) -> Float64Array:
    column = items["published_at_us"].cast(pl.Float64).fill_null(float("nan"))
    return column.to_numpy().astype(np.float64)
