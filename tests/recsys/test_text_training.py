from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.interactions import Interactions
from features.items import ITEM_SCHEMA
from recsys.progress import Silent
from recsys.retrieval.encoder import MODEL_FILE
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.export import export_encoder
from recsys.training.index import MOST_QUERIES
from recsys.training.text import TextConfig, fit_text_space, spread
from tests.recsys.encoder_fixtures import color_shoppers, shop_texts, tiny_encoder


@given(st.integers(0, 100_000))
def test_sample_queries_are_spread_over_all_rows(n: int) -> None:
    rows = spread(n)
    assert len(rows) == min(n, MOST_QUERIES)
    if len(rows) > 1:
        assert (rows[0], rows[-1]) == (0, n - 1)
        steps = np.diff(rows)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1


def test_a_catalogue_too_small_for_an_index_is_not_searched(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    export_encoder(BaseEncoder.load(tiny_encoder(tmp_path / "base"), max_tokens=16), encoder, [])
    (encoder / MODEL_FILE).unlink()  # what searches are encoded with
    report = fit_text_space(shop_items(), shoppers(), TextConfig(), encoder, tmp_path, Silent())
    assert report.indexes["words"].kind == "flat"
    assert np.load(tmp_path / "text" / "vectors.npy").shape == (100, 32)


def shop_items() -> pl.DataFrame:
    rows = [
        {"item_id": f"i{row}", "title": title, "tags": [], "attributes": "{}", "available": True}
        for row, title in enumerate(shop_texts())
    ]
    return pl.DataFrame(rows, schema=ITEM_SCHEMA)


def shoppers() -> Interactions:
    found = color_shoppers(20)
    n = len(found.item_rows)
    return Interactions(
        user_ids=[f"u{user}" for user in range(20)],
        indptr=found.indptr,
        user_rows=np.repeat(np.arange(20, dtype=np.int32), 6),
        item_rows=found.item_rows,
        types=np.zeros(n, np.int8),
        weights=found.weights,
        time_us=found.time_us,
    )
