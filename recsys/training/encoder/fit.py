"""The night's text encoder: tuned where the shop's own behaviour makes it better, then exported."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np

from features.arrays import Float32Array, Int32Array
from features.errors import ConfigError, DataError
from recsys.progress import Progress
from recsys.retrieval.encoder import EncoderCard
from recsys.training.curves import Curves, NoCurves
from recsys.training.encoder.base import EMBEDDED_NAME, BaseEncoder, compute_device
from recsys.training.encoder.config import EncoderConfig, EncoderReport
from recsys.training.encoder.cut import check_depth
from recsys.training.encoder.export import export_encoder
from recsys.training.encoder.outcome import Outcome
from recsys.training.encoder.sequences import DistinctSequences, Sequenced
from recsys.training.encoder.strategies import AllLayers, start_strategy
from recsys.training.encoder.tokens import CachedTokens
from recsys.training.encoder.tuning import tune
from recsys.training.encoder.tuning_plan import TuningPlan


@dataclass(frozen=True, slots=True)
class Continued:
    """The live encoder, to be taught only what it has not seen."""

    folder: Path  # its torch folder, which lies beside its card
    since_us: int  # events from here on are new to it


def fit_encoder(
    texts: Sequence[str],
    sequences: Sequenced,
    config: EncoderConfig,
    out: Path,
    progress: Progress,
    *,
    categories: Int32Array | None = None,
    continued: Continued | None = None,
    curves: Curves | None = None,
) -> EncoderReport:
    """Writes the folder that `OnnxEncoder.load` and `encode_catalogue` read; see `tune_encoder`."""
    base, report = tune_encoder(
        texts,
        sequences,
        config,
        progress,
        categories=categories,
        continued=continued,
        curves=curves,
    )
    progress.say(f"encoder: {report.reason}; exporting to ONNX")
    out.mkdir(parents=True, exist_ok=True)
    probes = [texts[row] for row in np.linspace(0, len(texts) - 1, 32, dtype=int)] if texts else []
    card, difference = export_encoder(base, out, probes)
    return replace(report, onnx_difference=difference, digest=card.digest)


def tune_encoder(
    texts: Sequence[str],
    sequences: Sequenced,
    config: EncoderConfig,
    progress: Progress,
    *,
    categories: Int32Array | None = None,
    continued: Continued | None = None,
    curves: Curves | None = None,
) -> tuple[BaseEncoder, EncoderReport]:
    """The encoder to ship, and why.

    `texts[row]` is the text of `item_row` row, `categories[row]` its category or -1; `sequences`
    hold positive events of the training window only. With too few of them, or where tuning does
    not help shoppers that it has not seen, this is the encoder that tuning began with, unchanged.
    Equal seeds give equal encoders on the same machine with the same number of threads.
    """
    started = process_time()
    _check_rows(texts, sequences, categories)
    base = _load(config, continued)
    if config.strategy == "top_layers" and not config.tunes_nothing:
        check_depth(base.network, config.tuned_layers)
    base.network.to(compute_device())
    outcome = Outcome(base.name, config, is_continued=continued is not None)
    distinct = DistinctSequences.of(sequences)
    found = len(distinct.users_with(2))
    if config.tunes_nothing:
        report = outcome.unchanged("the configuration tunes nothing")
    elif found < config.min_sequences:
        needed = f"{found} shoppers with two items, {config.min_sequences} are needed to tune"
        report = outcome.unchanged(needed)
    else:
        since_us = continued.since_us if continued else None
        plan = TuningPlan.of(texts, distinct, config, categories, since_us)
        report = _tuned(base, plan, texts, outcome, progress, curves or NoCurves())
    return base, replace(report, cpu_seconds=process_time() - started)


def _check_rows(texts: Sequence[str], sequences: Sequenced, categories: Int32Array | None) -> None:
    highest = int(sequences.item_rows.max(initial=-1))
    if highest >= len(texts):
        raise DataError(
            f"fit_encoder: found item_row {highest}, expected rows below"
            f" {len(texts)}, the number of texts. Build both from the same item table."
        )
    if categories is not None and len(categories) != len(texts):
        raise DataError(
            f"fit_encoder: found {len(categories)} categories, expected {len(texts)},"
            " one for each text. Build both from the same item table."
        )


def _load(config: EncoderConfig, continued: Continued | None) -> BaseEncoder:
    if continued is None:
        return _loaded(config.base, config)
    card, expected = EncoderCard.load(continued.folder.parent), config.base or EMBEDDED_NAME
    if card.base != expected:
        raise ConfigError(
            f"{continued.folder}: found an encoder tuned from {card.base}, expected one from"
            f" {expected}. Begin with the base again instead of continuing."
        )
    live = _loaded(continued.folder, config)
    live.name = card.base
    return live


def _loaded(source: str | Path | None, config: EncoderConfig) -> BaseEncoder:
    return BaseEncoder.load(
        source,
        max_tokens=config.max_tokens,
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
    )


def _tuned(
    base: BaseEncoder,
    plan: TuningPlan,
    texts: Sequence[str],
    outcome: Outcome,
    progress: Progress,
    curves: Curves,
) -> EncoderReport:
    if not plan.batches:
        return outcome.unchanged("no shopper has met anything new")
    if not plan.validation.visits:
        return outcome.unchanged("no shopper with two items is among those held out to judge it")
    config, needed = outcome.config, [texts[row] for row in plan.items]
    anchors = _base_vectors(needed, config, progress) if outcome.is_continued else None
    try:
        strategy = start_strategy(base, needed, config, progress)
    except NotImplementedError as error:
        return outcome.unchanged(f"{error}; the strategies lora and full need none")
    try:
        tuned = tune(strategy, plan, config, progress, curves, outcome.acceptable, anchors)
    finally:
        strategy.finish()
    return outcome.report(tuned, plan)


def _base_vectors(texts: Sequence[str], config: EncoderConfig, progress: Progress) -> Float32Array:
    """Anchors for a live encoder: those of last night's would let it drift a little every night."""
    base = _loaded(config.base, config)
    base.network.to(compute_device())
    tokens = CachedTokens.of(base, texts, compute_device())
    return AllLayers(base.network, tokens, progress).vectors()
