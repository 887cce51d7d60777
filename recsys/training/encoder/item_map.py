"""A linear map of text vectors in which items lie by what shoppers take next, not by their words.

It starts as the whitening that search uses and learns from positive events which differences of
text matter. A linear function of the text alone, it knows an item that nobody has met yet as well
as any other.
"""

import itertools
import math
import time
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int64Array
from features.errors import ConfigError, DataError
from recsys.progress import Progress
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.config import CurvePoint
from recsys.training.encoder.item_map_batches import MapQuestions
from recsys.training.encoder.item_map_learner import MapLearner
from recsys.training.encoder.pace import MIN_TEMPERATURE
from recsys.training.encoder.sequences import DistinctSequences, Sequenced
from recsys.training.encoder.validation import Recalls, Validation, held_out_users

CANDIDATES = 20_000  # items that validation ranks; Beauty's 12,000 fit in
MIN_STEPS = 200  # smaller batches where fewer questions would make fewer steps
MIN_QUESTIONS = 32  # in a step all the same
BOUNDS = {  # both ends are allowed
    "epochs": (0.0, 1_000.0),
    "max_steps": (0, 10**9),
    "questions": (1, 10**6),
    "negatives": (1, 10**6),
    "learning_rate": (1e-9, 1.0),
    "decay_to_start": (0.0, 1_000.0),
    "temperature": (MIN_TEMPERATURE, 10.0),
    "evaluate_every": (1, 10**9),
    "patience": (1, 10**9),
    "min_sequences": (2, 10**9),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemMapConfig:
    """How the map is learned; part of the release's manifest.

    Chosen on Amazon Beauty's validation items with the frozen MiniLM, recall@10 of all items / of
    items kept from training among themselves: whitening .0733 / .2038, 2 epochs .0846 / .2112.
    On test items .0747 / .1975 and .0781 / .1962, on a tuned encoder .0786 / .2007 and .0813 /
    .1994: much of what is learned is which items are popular, and test items are less so.
    """

    epochs: float = 2.0  # 15 CPU-seconds on Beauty
    max_steps: int = 2_000  # five times as many as Beauty's 100,000 questions take
    questions: int = 512  # next items asked for in a step
    negatives: int = 1_024  # items drawn in a step, to be wrong
    learning_rate: float = 2e-3
    decay_to_start: float = 0.1  # AdamW's weight decay, but towards the whitening; 10 lost half
    temperature: float = 0.1  # learned from there
    evaluate_every: int = 100  # steps between looks at the held-out shoppers
    patience: int = 3  # looks without a better recall before learning stops
    min_sequences: int = 200  # shoppers with two items; fewer cannot even validate
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN fails too
                raise ConfigError(
                    f"ItemMapConfig: {name}={value}, expected {low} to {high}. Correct the value."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemMapReport:
    """Whether a map was shipped and why; recalls at 10 are of held-out shoppers' next items."""

    shipped: bool
    reason: str
    start_recall: float | None = None  # of the whitening
    map_recall: float | None = None  # of the best step
    validation_questions: int = 0
    steps: int = 0
    best_step: int = 0
    stopped_early: bool = False
    temperature: float | None = None
    cpu_seconds: float = 0.0
    curve: tuple[CurvePoint, ...] = ()


def fit_item_map(
    raw: Float32Array,
    whitening: Whitening,
    sequences: Sequenced,
    config: ItemMapConfig,
    progress: Progress,
) -> tuple[Whitening | None, ItemMapReport]:
    """The map, or None where shoppers held out of learning find no more with it.

    `raw` (n_items, d) are the encoder's vectors of every item_row; `sequences` hold positive
    events of the training window only. Equal seeds give equal maps on the same machine with the
    same number of threads.
    """
    _check(raw, whitening, sequences)
    distinct = DistinctSequences.of(sequences)
    found = len(distinct.users_with(2))
    if found < config.min_sequences:
        needed = f"{found} shoppers with two items, {config.min_sequences} are needed to learn one"
        return None, ItemMapReport(shipped=False, reason=f"no item map: {needed}")
    if min(config.epochs, config.max_steps) == 0:
        return None, ItemMapReport(
            shipped=False, reason="no item map: the configuration learns nothing"
        )
    return _learn_and_judge(raw, whitening, distinct, config, progress)


def _check(raw: Float32Array, whitening: Whitening, sequences: Sequenced) -> None:
    last = int(sequences.item_rows.max(initial=-1))
    if raw.ndim != 2 or raw.shape[1] != len(whitening.mean) or len(raw) <= last:
        raise DataError(
            f"fit_item_map: found vectors of shape {raw.shape}, expected more than {last} rows of"
            f" {len(whitening.mean)} numbers. Embed the catalogue that the events are about, and"
            " fit the whitening on it."
        )
    if not np.isfinite(raw).all():
        raise DataError("fit_item_map: found NaN or inf in the vectors. Embed the catalogue again.")


def _learn_and_judge(
    raw: Float32Array,
    whitening: Whitening,
    sequences: DistinctSequences,
    config: ItemMapConfig,
    progress: Progress,
) -> tuple[Whitening | None, ItemMapReport]:
    started = time.process_time()
    asked, training = held_out_users(sequences)
    if len(asked) == 0:
        return None, ItemMapReport(shipped=False, reason="no item map: nobody is held out")
    rng = np.random.default_rng(config.seed)
    judge = _Judge.of(raw, sequences, asked, rng)
    learned = _learn(raw, whitening, sequences.only(training), config, judge, rng, progress)
    start, best = learned.looks[0].recalls, learned.best.recalls
    gain, error = best.gain_over(start)
    shipped = best.is_gain_over(start)
    verdict = "item map shipped" if shipped else "no item map"
    found = f"recall@10 {best.all:.4f} with it, {start.all:.4f} whitened"
    report = ItemMapReport(
        shipped=shipped,
        reason=f"{verdict}: {found}, a gain of {gain:.4f} ± {error:.4f}",
        start_recall=start.all,
        map_recall=best.all,
        validation_questions=start.n,
        steps=learned.steps,
        best_step=learned.best.step,
        stopped_early=learned.stopped_early,
        temperature=learned.temperature,
        cpu_seconds=time.process_time() - started,
        curve=tuple(CurvePoint(look.step, look.loss, look.recalls.all) for look in learned.looks),
    )
    return (learned.best.map if shipped else None), report


@dataclass(frozen=True, slots=True)
class _Judge:
    """The shoppers that learning does not see, and what they choose from."""

    validation: Validation
    vectors: Float32Array  # (c, d) of the encoder
    row_of: Int64Array  # (n_items,) where an item is among them, -1 where it is not

    @classmethod
    def of(
        cls,
        raw: Float32Array,
        sequences: DistinctSequences,
        asked: Int64Array,
        rng: np.random.Generator,
    ) -> "_Judge":
        validation = Validation.of(sequences, asked)
        others = rng.permutation(np.unique(sequences.item_rows))[:CANDIDATES]
        rows = np.union1d(validation.items, others).astype(np.int64)
        row_of = np.full(len(raw), -1, np.int64)
        row_of[rows] = np.arange(len(rows))
        return cls(validation, raw[rows], row_of)

    def recalls(self, candidate: Whitening) -> Recalls:
        if not np.isfinite(candidate.projection).all():  # a learning rate far too high
            candidate = Whitening(candidate.mean, np.zeros_like(candidate.projection))
        return self.validation.recall(candidate(self.vectors), self.row_of)


@dataclass(frozen=True, slots=True)
class _Look:
    step: int
    loss: float  # mean since the look before
    map: Whitening
    recalls: Recalls


@dataclass(frozen=True, slots=True)
class _Learned:
    looks: tuple[_Look, ...]  # the first at the whitening
    steps: int
    stopped_early: bool
    temperature: float

    @property
    def best(self) -> _Look:
        """The earliest of equals."""
        return max(self.looks, key=lambda look: look.recalls.all)


def _learn(
    raw: Float32Array,
    whitening: Whitening,
    sequences: DistinctSequences,
    config: ItemMapConfig,
    judge: _Judge,
    rng: np.random.Generator,
    progress: Progress,
) -> _Learned:
    questions, n_steps = _plan(sequences, config)
    learner = MapLearner(
        raw,
        whitening,
        n_steps=n_steps,
        learning_rate=config.learning_rate,
        decay_to_start=config.decay_to_start,
        temperature=config.temperature,
    )
    looks = [_Look(0, math.nan, whitening, judge.recalls(whitening))]
    losses: list[float] = []
    batches = itertools.islice(questions.batches(rng), n_steps)
    for batch in progress.track(batches, total=n_steps, label="item map"):
        losses.append(learner.step(batch))
        if len(losses) % config.evaluate_every == 0 or len(losses) == n_steps:
            found = learner.map()
            recent = float(np.mean(losses[looks[-1].step :]))
            looks.append(_Look(len(losses), recent, found, judge.recalls(found)))
        best = max(range(len(looks)), key=lambda i: looks[i].recalls.all)
        if len(looks) - 1 - best >= config.patience:
            break
    return _Learned(tuple(looks), len(losses), len(losses) < n_steps, learner.temperature)


def _plan(sequences: DistinctSequences, config: ItemMapConfig) -> tuple[MapQuestions, int]:
    """Questions in batches, and how many batches; smaller ones where few would be a few steps."""
    users = sequences.users_with(2)
    once = MapQuestions(sequences, users, config.questions, config.negatives)
    asked = config.epochs * once.n_questions
    per_batch = int(min(config.questions, max(MIN_QUESTIONS, asked / MIN_STEPS)))
    n_steps = max(1, min(config.max_steps, round(asked / per_batch)))
    return MapQuestions(sequences, users, per_batch, config.negatives), n_steps
