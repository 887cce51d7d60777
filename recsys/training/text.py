"""From the catalogue's texts to the vectors of a release: the encoder, its maps and its indexes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from features.arrays import Float32Array, Int32Array, Int64Array
from features.history import HISTORY_LENGTH, STEP_DECAY
from features.interactions import Interactions
from recsys.progress import Progress
from recsys.retrieval.encoder import TOKENIZER_FILE, EncoderCard, OnnxEncoder, load_tokenizer
from recsys.retrieval.shortlist import IndexReport
from recsys.retrieval.text import item_texts
from recsys.retrieval.text_space import TASTE, WORDS, TextMaps, save_text_vectors
from recsys.retrieval.whitening import Whitening
from recsys.training.curves import Curves
from recsys.training.encoder.config import EncoderConfig, EncoderReport
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.fit import Continued, fit_encoder
from recsys.training.encoder.item_map import ItemMapConfig, ItemMapReport, fit_item_map
from recsys.training.encoder.tokenizer_fit import TokenizerFit, tokenizer_fit
from recsys.training.index import MOST_QUERIES, SMALLEST, IndexConfig, choose_index

MIN_VISIBLE = 1_000  # items with events that whitening needs before it ignores the others
QUERY_WORDS = 3  # of a title make a search to try indexes with


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """How the encoder's vectors become those of a release."""

    item_map: ItemMapConfig = field(default_factory=ItemMapConfig)
    index: IndexConfig = field(default_factory=IndexConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReport:
    """How a catalogue's vectors were made."""

    items: int
    whitened_on: int  # items that the whitening was fitted on
    tokenizer: TokenizerFit
    item_map: ItemMapReport
    indexes: dict[str, IndexReport]  # of words, and of taste where that is apart


def fit_text_encoder(
    items: pl.DataFrame,
    past: Interactions,
    config: EncoderConfig,
    folder: Path,
    progress: Progress,
    *,
    continued: Continued | None = None,
    curves: Curves | None = None,
) -> EncoderReport:
    """Writes encoder/, learned from the positive events of `past`."""
    return fit_encoder(
        item_texts(items),
        past.positive(),
        config,
        folder / "encoder",
        progress,
        categories=categories(items),
        continued=continued,
        curves=curves,
    )


def fit_text_space(
    items: pl.DataFrame,
    past: Interactions,
    config: TextConfig,
    encoder: Path,
    folder: Path,
    progress: Progress,
    *,
    cache: Path | None = None,
) -> TextReport:
    """Writes text/: maps learned from `past` and every item's vectors; `cache` spares encoding."""
    texts = item_texts(items)
    fit = _tokenizer_fit(encoder, texts, progress)
    raw = encode_catalogue(encoder, texts, progress, cache=cache)
    taken = past.positive()
    fitted_on = rows_to_whiten(raw, taken)
    whitening = Whitening.fit(fitted_on)
    item_map, report = fit_item_map(raw, whitening, taken, config.item_map, progress)
    progress.say(f"text: {report.reason}")
    maps = TextMaps(whitening, item_map)
    vectors = maps(raw)
    out = folder / "text"
    out.mkdir(parents=True, exist_ok=True)
    maps.save(out)
    save_text_vectors(vectors, out)
    spaces = {"words": (WORDS, vectors.words, maps.words(_searches(encoder, items)))}
    if item_map is not None:
        spaces["taste"] = (TASTE, vectors.taste, _tastes(vectors.taste, taken))
    return TextReport(
        items=len(raw),
        whitened_on=len(fitted_on),
        tokenizer=fit,
        item_map=report,
        indexes={
            name: _indexed(matrix, queries, config.index, out / file, progress)
            for name, (file, matrix, queries) in spaces.items()
        },
    )


def rows_to_whiten(
    raw: Float32Array, taken: Interactions, *, min_visible: int = MIN_VISIBLE
) -> Float32Array:
    """Of `raw` (n_items, d), what the whitening is fitted on: items somebody took, else all."""
    visible = np.unique(taken.item_rows)
    return raw[visible] if len(visible) >= min_visible else raw


def _tokenizer_fit(encoder: Path, texts: Sequence[str], progress: Progress) -> TokenizerFit:
    card = EncoderCard.load(encoder)
    tokenizer = load_tokenizer(encoder / TOKENIZER_FILE, max_tokens=card.max_tokens)
    fit = tokenizer_fit(tokenizer, texts, max_tokens=card.max_tokens, prefix=card.passage_prefix)
    if fit.warning:
        progress.say(f"text: {fit.warning}")
    return fit


def _searches(encoder: Path, items: pl.DataFrame) -> Float32Array:
    """(q, d) vectors of what people might type; none for a catalogue too small for an index."""
    if len(items) < SMALLEST:
        return np.empty((0, EncoderCard.load(encoder).dim), np.float32)
    titles = items["title"].fill_null("").gather(spread(len(items)))
    model = OnnxEncoder.load(encoder, threads=2)
    return model.encode_queries([" ".join(title.split()[:QUERY_WORDS]) for title in titles])


def _tastes(vectors: Float32Array, taken: Interactions) -> Float32Array:
    """(q, d) decayed means of what some shoppers took last, as the day makes them."""
    shoppers = np.flatnonzero(np.diff(taken.indptr) > 0)
    tastes = []
    for shopper in shoppers[spread(len(shoppers))]:
        last = taken.item_rows[taken.indptr[shopper] : taken.indptr[shopper + 1]]
        last = last[-HISTORY_LENGTH:]
        weights = STEP_DECAY ** np.arange(len(last))[::-1].astype(np.float32)
        tastes.append(weights @ vectors[last] / weights.sum())
    return np.array(tastes, np.float32).reshape(-1, vectors.shape[1])


def spread(n: int) -> Int64Array:
    """At most MOST_QUERIES of n rows, from the first to the last at equal distances."""
    return np.linspace(0, n - 1, min(n, MOST_QUERIES), dtype=np.int64)


def _indexed(
    vectors: Float32Array,
    queries: Float32Array,
    config: IndexConfig,
    path: Path,
    progress: Progress,
) -> IndexReport:
    choice = choose_index(vectors, sample_queries=queries, config=config, progress=progress)
    choice.save(path)
    progress.say(f"index {path.name}: {choice.report.kind}, {choice.report.reason}")
    return choice.report


def categories(items: pl.DataFrame) -> Int32Array:
    """(n_items,) the last tag, often the narrowest, as a number; -1 for items without tags."""
    last = items["tags"].list.last()
    numbers = last.rank("dense").cast(pl.Int32) - 1
    return numbers.fill_null(-1).to_numpy().astype(np.int32)
