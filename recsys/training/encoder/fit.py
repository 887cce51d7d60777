"""The night's text encoder: tuned where the shop's own behaviour makes it better, then exported."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.arrays import Int64Array
from features.errors import DataError
from recsys.progress import Progress
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.base import BaseEncoder, compute_device
from recsys.training.encoder.batches import ContrastiveData, PlannedBatch, plan_batches
from recsys.training.encoder.config import EncoderConfig, EncoderReport
from recsys.training.encoder.export import export_encoder
from recsys.training.encoder.negatives import BatchRules
from recsys.training.encoder.sequences import DistinctSequences, Sequenced
from recsys.training.encoder.tuning import CutEncoder, cache_states, cached_vectors, tune
from recsys.training.encoder.validation import Validation

MAX_VALIDATION_USERS = 1_000  # all their next items: ±0.4 percentage points of recall@10
VALIDATION_SHARE = 0.1


def fit_encoder(
    texts: Sequence[str],
    sequences: Sequenced,
    config: EncoderConfig,
    out: Path,
    progress: Progress,
) -> EncoderReport:
    """Writes the folder that `OnnxEncoder.load` and `encode_catalogue` read.

    Equal seeds give equal encoders on the same machine with the same number of threads.
    """
    base, report = tune_encoder(texts, sequences, config, progress)
    progress.say(f"encoder: {report.reason}; exporting to ONNX")
    out.mkdir(parents=True, exist_ok=True)
    probes = [texts[row] for row in np.linspace(0, len(texts) - 1, 32, dtype=int)] if texts else []
    card, difference = export_encoder(base, out, probes)
    return replace(report, onnx_difference=difference, digest=card.digest)


def tune_encoder(
    texts: Sequence[str], sequences: Sequenced, config: EncoderConfig, progress: Progress
) -> tuple[BaseEncoder, EncoderReport]:
    """The encoder to ship, and why.

    `texts[row]` is the text of `item_row` row; `sequences` hold positive events of the training
    window only. With too few of them, or where tuning does not help shoppers that it has not
    seen, this is the base encoder as it came.
    """
    if len(sequences.item_rows) and int(sequences.item_rows.max()) >= len(texts):
        raise DataError(
            f"fit_encoder: found item_row {int(sequences.item_rows.max())}, expected rows below"
            f" {len(texts)}, the number of texts. Build both from the same item table."
        )
    base = BaseEncoder.load(config.base, max_tokens=config.max_tokens)
    base.network.to(compute_device())
    report = _tuned_or_frozen(base, texts, DistinctSequences.of(sequences), config, progress)
    if not report.tuned and report.steps:  # the top layers were changed in place
        base = BaseEncoder.load(config.base, max_tokens=config.max_tokens)
    return base, report


@dataclass(frozen=True, slots=True)
class _Plan:
    data: ContrastiveData
    batches: list[PlannedBatch]
    validation: Validation
    items: Int64Array  # item rows that tuning or validation needs, ascending

    @property
    def texts_encoded(self) -> int:
        return sum(len(batch.items) for batch in self.batches)

    def cached_row(self, n_items: int) -> Int64Array:
        """(n_items,) where an item is in the cache, -1 where it is not needed."""
        rows = np.full(n_items, -1, np.int64)
        rows[self.items] = np.arange(len(self.items))
        return rows


def _plan(texts: Sequence[str], sequences: DistinctSequences, config: EncoderConfig) -> _Plan:
    rng = np.random.default_rng(config.seed)
    users = rng.permutation(sequences.users_with(2))
    n_validation = min(MAX_VALIDATION_USERS, int(len(users) * VALIDATION_SHARE))
    validation = Validation.of(sequences, users[:n_validation])
    training = users[n_validation:]
    data = ContrastiveData.of(texts, sequences.only(training), BatchRules())
    n_items = len(np.unique(data.sequences.item_rows))
    budget = min(config.max_texts, int(config.epochs * n_items))
    batches = plan_batches(data, training, max_texts=budget, rng=rng)
    needed = [validation.items, *(batch.items for batch in batches)]
    return _Plan(data, batches, validation, np.unique(np.concatenate(needed)))


def _tuned_or_frozen(
    base: BaseEncoder,
    texts: Sequence[str],
    sequences: DistinctSequences,
    config: EncoderConfig,
    progress: Progress,
) -> EncoderReport:
    frozen = EncoderReport(base=base.name, digest="", tuned=False, reason="")
    found = len(sequences.users_with(2))
    if found < config.min_sequences:
        needed = f"{found} shoppers with two items, {config.min_sequences} are needed to tune"
        return replace(frozen, reason=f"base encoder shipped: {needed}")
    if min(config.tuned_layers, config.max_texts, config.epochs) == 0:
        return replace(frozen, reason="base encoder shipped: the configuration tunes nothing")
    try:
        cut = CutEncoder(base.network, config.tuned_layers)
    except NotImplementedError as error:
        return replace(frozen, reason=f"base encoder shipped: {error}")
    return _tune_and_compare(base, cut, texts, sequences, config, progress)


def _tune_and_compare(
    base: BaseEncoder,
    cut: CutEncoder,
    texts: Sequence[str],
    sequences: DistinctSequences,
    config: EncoderConfig,
    progress: Progress,
) -> EncoderReport:
    plan = _plan(texts, sequences, config)
    rows = plan.cached_row(len(texts))
    cache = cache_states(base, cut, [texts[row] for row in plan.items], progress)

    def recall(label: str) -> tuple[float, int]:
        vectors = cached_vectors(cut, cache, progress, f"encoder: {label} vectors")
        if not np.isfinite(vectors).all():  # a learning rate far too high
            return 0.0, 0
        recalls = plan.validation.recall(Whitening.fit(vectors)(vectors), rows)
        return recalls.all, recalls.n

    before, questions = recall("frozen")
    tuned = tune(
        cut,
        cache,
        plan.batches,
        plan.data,
        cached_row=rows,
        learning_rate=config.learning_rate,
        temperature=config.temperature,
        progress=progress,
    )
    if not tuned.losses:
        reason = "base encoder shipped: the items' texts do not differ"
        return EncoderReport(base=base.name, digest="", tuned=False, reason=reason)
    after, _ = recall("tuned")
    verdict = "tuned encoder shipped" if after >= before else "base encoder shipped"
    return EncoderReport(
        base=base.name,
        digest="",
        tuned=after >= before,
        reason=f"{verdict}: recall@10 {after:.4f} tuned, {before:.4f} frozen",
        texts_encoded=plan.texts_encoded,
        steps=len(plan.batches),
        frozen_recall=before,
        tuned_recall=after,
        validation_questions=questions,
        first_loss=float(np.mean(tuned.losses[:10])),
        last_loss=float(np.mean(tuned.losses[-10:])),
        temperature=tuned.temperature,
    )
