"""From the catalogue's texts to the vectors of a release: the encoder, its maps and its indexes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.arrays import Int32Array
from features.interactions import Interactions
from recsys.progress import Progress
from recsys.retrieval.text import item_texts
from recsys.retrieval.text_space import TextMaps, save_text_vectors
from recsys.retrieval.whitening import Whitening
from recsys.training.curves import Curves, NoCurves
from recsys.training.encoder.config import EncoderConfig, EncoderReport
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.fit import Continued, fit_encoder
from recsys.training.encoder.item_map import ItemMapConfig, ItemMapReport, fit_item_map

MIN_VISIBLE = 1_000  # items with events that whitening needs before it ignores the others


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReport:
    """How a catalogue's vectors were made."""

    items: int
    whitened_on: int  # items that the whitening was fitted on
    item_map: ItemMapReport


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
        curves=curves or NoCurves(),
    )


def fit_text_space(
    items: pl.DataFrame,
    past: Interactions,
    config: ItemMapConfig,
    encoder: Path,
    folder: Path,
    progress: Progress,
    *,
    cache: Path | None = None,
) -> TextReport:
    """Writes text/: maps learned from `past` and every item's vectors; `cache` spares encoding."""
    raw = encode_catalogue(encoder, item_texts(items), progress, cache=cache)
    taken = past.positive()
    visible = np.unique(taken.item_rows)
    fitted_on = raw[visible] if len(visible) >= MIN_VISIBLE else raw
    whitening = Whitening.fit(fitted_on)
    item_map, report = fit_item_map(raw, whitening, taken, config, progress)
    progress.say(f"item map: {report.reason}")
    maps = TextMaps(whitening, item_map)
    out = folder / "text"
    out.mkdir(parents=True, exist_ok=True)
    maps.save(out)
    save_text_vectors(maps(raw), out)
    return TextReport(items=len(raw), whitened_on=len(fitted_on), item_map=report)


def categories(items: pl.DataFrame) -> Int32Array:
    """(n_items,) the first tag as a number, -1 for items without tags."""
    first = items["tags"].list.first()
    numbers = first.rank("dense").cast(pl.Int32) - 1
    return numbers.fill_null(-1).to_numpy().astype(np.int32)
