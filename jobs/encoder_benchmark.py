"""What tuning an encoder adds, text alone, side by side with the frozen one in one run.

A tenth of the items is cold: absent from training and from the statistics of every map. Everybody
trains on what lies before the validation item; the question is the last item, unless the shopper
had met it before, with everything before it as history, ranked by the decayed mean of the history's
vectors among all items (*all*) and, where the answer is a cold item, among the cold ones (*cold*).
The folds rotate until every item has been cold once, and the seeds rotate with them.

Each training's measures are kept as soon as they are taken, in a folder beside the JSON file; a
killed run goes on where it stopped. Delete that folder after changing the code.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from features.arrays import BoolArray, Float32Array, Int64Array
from features.errors import ConfigError, DataError
from features.events import US_PER_DAY
from features.interactions import Interactions
from features.items import with_unlisted_items
from jobs.benchmark import FOLDS, cold_fold_of, on_a_clock
from jobs.encoder_table import FROZEN, EncoderBenchmark, Measures, Numbers, summarise
from jobs.encoder_training import (
    RAW,
    TrainingFacts,
    TrainingTask,
    encoder_folder,
    prepare_frozen,
    train_apart,
)
from jobs.reports import write_json
from jobs.steps import digest_of
from recsys.evaluation.next_item import NextItems, target_ranks
from recsys.evaluation.text_quality import SEARCH, QualityConfig, WordSpace, score_text
from recsys.progress import Progress
from recsys.retrieval.encoder import OnnxEncoder
from recsys.retrieval.text_space import TextMaps
from recsys.training.encoder.config import EncoderConfig, Strategy
from recsys.training.encoder.item_map import ItemMapConfig
from recsys.training.encoder.sequences import DistinctSequences

STRATEGIES: tuple[Strategy, ...] = ("top_layers", "lora", "full")
ALWAYS = ("frozen", "item_map")  # measured whatever is asked for
TYPOS = "typos"

Train: TypeAlias = Callable[[TrainingTask, Progress], TrainingFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPlan:
    """Which trainings to hold; fold i takes seed i modulo their number."""

    strategies: Sequence[Strategy] = STRATEGIES
    folds: int = FOLDS  # fewer give a first impression
    seeds: Sequence[int] = (0, 1, 2)
    quality: QualityConfig = field(default_factory=QualityConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.folds <= FOLDS or min(self.seeds, default=-1) < 0:
            raise ConfigError(
                f"found {self.folds} folds and seeds {list(self.seeds)}; expected 1 to {FOLDS}"
                " folds and at least one seed, from 0 up"
            )

    @classmethod
    def parse(cls, strategies: str, folds: int, seeds: str) -> "EncoderPlan":
        """Lists with commas, as a command line gives them."""
        names = [name.strip() for name in strategies.split(",") if name.strip()]
        kept = tuple(strategy for strategy in STRATEGIES if strategy in names)
        unknown = set(names) - {*STRATEGIES, *ALWAYS}
        try:
            numbers = tuple(int(seed) for seed in seeds.split(","))
        except ValueError as error:
            raise ConfigError(
                f"found seeds {seeds!r}; expected whole numbers, as in 0,1,2"
            ) from error
        if unknown:
            raise ConfigError(
                f"found strategies {', '.join(sorted(unknown))}; expected some of"
                f" {', '.join((*ALWAYS, *STRATEGIES))}"
            )
        return cls(strategies=kept, folds=folds, seeds=numbers)

    def seed(self, fold: int) -> int:
        return self.seeds[fold % len(self.seeds)]


@dataclass(frozen=True, slots=True)
class _Question:
    """The same for every fold: the catalogue, the log, and what shoppers took last."""

    items: pl.DataFrame
    past: Interactions  # before everybody's validation item
    asked: NextItems
    fold_of: Int64Array  # (n_items,) in which the item is cold

    @classmethod
    def of(cls, items: pl.DataFrame, sequences: pl.DataFrame) -> "_Question":
        items = with_unlisted_items(items, sequences["item_id"])
        log = on_a_clock(items, sequences)
        if len(log) == 0 or len(items) < FOLDS:
            raise DataError(
                f"found {len(log)} events on {len(items)} items, expected some on at least {FOLDS}:"
                " check that both files are of one shop"
            )
        test_us = int(log.time_us.max())
        asked = NextItems.last(DistinctSequences.of(log), since_us=test_us)
        if len(asked) == 0:
            raise DataError(
                "found nobody whose last item is new to them, expected most shoppers' to be:"
                " this protocol asks for items not met before"
            )
        return cls(items, log.before(test_us - US_PER_DAY), asked, cold_fold_of(len(items)))

    def cold(self, fold: int) -> BoolArray:
        return np.equal(self.fold_of, fold)

    def visible(self, fold: int) -> Interactions:
        return self.past.where(~self.cold(fold)[self.past.item_rows])


def run_encoder_benchmark(
    items: pl.DataFrame,
    sequences: pl.DataFrame,
    *,
    dataset: str,
    configs: tuple[EncoderConfig, ItemMapConfig],
    plan: EncoderPlan,
    out: Path,
    progress: Progress,
    train: Train = train_apart,
) -> EncoderBenchmark:
    """`out` is the JSON file, written anew after every fold."""
    question = _Question.of(items, sequences)
    run = _identity(question, configs, plan)
    kept = out.with_suffix(".folds")
    kept.mkdir(parents=True, exist_ok=True)
    frozen = prepare_frozen(
        question.items, question.past, configs[0], kept / f"frozen-{run[:16]}", progress
    )
    measured: list[Measures] = []
    for fold in range(plan.folds):
        for strategy in (FROZEN, *plan.strategies):
            seed = plan.seed(fold)
            progress.say(f"fold {fold + 1} of {plan.folds}, {strategy}, seed {seed}")
            path = kept / f"fold_{fold}_{strategy}_{seed}_{run[:16]}.safetensors"
            if not path.exists():
                task = TrainingTask(
                    items=question.items,
                    past=question.visible(fold),
                    encoder=replace(configs[0], strategy=strategy, seed=seed),
                    item_map=replace(configs[1], seed=seed),
                    folder=kept / f".fold_{fold}_{strategy}",
                    frozen=frozen,
                )
                shutil.rmtree(task.folder, ignore_errors=True)  # of a killed run
                facts = train(task, progress)
                _keep(facts, _measure(task, question, fold, plan.quality), path)
                shutil.rmtree(task.folder)
            measured.append(_kept(path, fold, strategy, seed))
        report = summarise(dataset, len(question.asked), len(question.items), measured)
        write_json(report, out)
    return report


def _identity(
    question: _Question, configs: tuple[EncoderConfig, ItemMapConfig], plan: EncoderPlan
) -> str:
    """Measures of other data or settings are not taken for this run's."""
    return digest_of(
        [
            question.items.hash_rows(seed=7).to_list(),
            question.past.indptr.tolist(),
            question.past.item_rows.tolist(),
            question.asked.targets.tolist(),
            *(asdict(config) for config in (*configs, plan.quality)),
        ]
    )


def _measure(
    task: TrainingTask, question: _Question, fold: int, quality: QualityConfig
) -> dict[str, Numbers]:
    """By space and measure: ranks from 0 of the answers, and the words' qualities."""
    folder = task.folder
    raw, maps = np.load(folder / RAW), TextMaps.load(folder)
    encoder = OnnxEncoder.load(encoder_folder(task))
    vectors = maps(raw)
    words = WordSpace(
        lambda texts: maps.words(encoder.encode(texts)),
        lambda texts: maps.words(encoder.encode_queries(texts)),
        vectors.words,
    )
    spaces = {"words": (vectors.words, words), "taste": (vectors.taste, None)}
    if task.encoder.strategy == FROZEN:
        spaces["raw"] = (raw, WordSpace(encoder.encode, encoder.encode_queries, raw))
    found: dict[str, Numbers] = {}
    for name, (rows, space) in spaces.items():
        found |= {f"{name}.{key}": ranks for key, ranks in _ranks(rows, question, fold).items()}
        if space is not None:
            scores = score_text(space, question.items, quality, measures=(SEARCH, TYPOS))
            found |= {f"{name}.{measure}": values for measure, values in scores.items()}
    return found


def _ranks(vectors: Float32Array, question: _Question, fold: int) -> dict[str, Numbers]:
    cold = question.cold(fold)
    users = np.flatnonzero(cold[question.asked.targets])
    return {
        "all": target_ranks(vectors, question.asked),
        "cold": target_ranks(vectors, question.asked.take(users), cold),
    }


def _keep(facts: TrainingFacts, values: Mapping[str, Numbers], path: Path) -> None:
    unfinished = path.with_suffix(".part")
    save_file(dict(values), unfinished, metadata={"facts": orjson.dumps(facts).decode()})
    unfinished.replace(path)


def _kept(path: Path, fold: int, strategy: str, seed: int) -> Measures:
    try:
        with safe_open(path, framework="numpy") as file:
            facts = TrainingFacts(**orjson.loads(file.metadata()["facts"]))
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: found {error!r}, expected a training's measures: delete the file"
        ) from error
    return Measures(fold, strategy, seed, facts, values)
