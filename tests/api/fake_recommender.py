"""A recommender small enough to reason about: newest items first, what was seen before left out.

It is to the server what the real one is, without a night's work in front of each test.
"""

import json
import time
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from features.arrays import Float32Array
from features.events import DEFAULT_EVENT_TYPES
from features.items import ITEM_SCHEMA
from recsys.catalog import Catalog
from recsys.recommender import Recommender
from recsys.types import Answer, Ask, ItemFilter, Slate

FEATURES = 3


class FakeRecommender:
    event_types = DEFAULT_EVENT_TYPES

    def __init__(self, folder: Path, release_id: str) -> None:
        facts = json.loads((folder / "facts.json").read_text())
        self.release_id = release_id
        self.answers: bool = facts["answers"]
        self.catalog = Catalog(pl.read_parquet(folder / "items.parquet"))
        self.n_embedded = 0
        self.embed_s = 0.0

    def recommend(self, ask: Ask) -> Answer:
        hidden = {*ask.exclude_item_ids, *ask.context_item_ids, *ask.recent.item_ids}
        newest_first = reversed(self._allowed(ask.filter))
        rows = [r for r in newest_first if self.catalog.item_ids[r] not in hidden][: ask.k]
        return self._answer(rows, ask)

    def search(self, words: str, ask: Ask) -> Answer:
        allowed = self._allowed(ask.filter)
        asked = set(words.lower().split())
        matches = {r: len(asked & set(self.catalog.titles[r].lower().split())) for r in allowed}
        return self._answer(sorted(matches, key=lambda r: -matches[r])[: ask.k], ask)

    def similar(
        self, item_id: str, *, k: int, item_filter: ItemFilter | None = None
    ) -> list[tuple[str, float]]:
        ids = [self.catalog.item_ids[row] for row in self._allowed(item_filter)]
        return [(i, 0.5) for i in ids if i != item_id][:k]

    def embed_items(self, items: pl.DataFrame) -> Float32Array:
        time.sleep(self.embed_s)
        self.n_embedded += len(items)
        return np.ones((len(items), 2), np.float32)

    def put_items(self, items: pl.DataFrame, vectors: Float32Array) -> None:
        assert len(items) == len(vectors)
        assert dict(items.schema) == ITEM_SCHEMA
        self.catalog.put(items)

    def remove_items(self, item_ids: list[str]) -> None:
        self.catalog.remove(item_ids)

    def _allowed(self, item_filter: ItemFilter | None) -> list[int]:
        rows: list[int] = np.flatnonzero(self.catalog.allowed(item_filter)).tolist()
        return rows if self.answers else []

    def _answer(self, rows: list[int], ask: Ask) -> Answer:
        k = len(rows)
        explanation: dict[str, object] = {"source_scores": {}}
        return Answer(
            item_ids=tuple(self.catalog.item_ids[row] for row in rows),
            slate=Slate(
                item_rows=np.array(rows, np.int32),
                scores=np.linspace(1, 0.5, k, dtype=np.float32),
                propensities=np.ones(k, np.float32),
                features=np.zeros((k, FEATURES), np.float32),
                probabilities=np.zeros((k, 1), np.float32),
                source_scores=np.full((k, 2), np.nan, np.float32),
            ),
            reasons=(("new",),) * k,
            explanations=(explanation,) * k if ask.explain else None,
            degraded=(),
            removed={"viewed": len(ask.recent.item_ids)},
            stage_ms={"sources": 0.1},
        )


def load_fake(folder: Path, release_id: str) -> Recommender:
    return cast(Recommender, FakeRecommender(folder, release_id))
