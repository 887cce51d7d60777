"""A recommender small enough to reason about: newest items first, what was seen before left out.

It is to the server what the real one is, without a night's work in front of each test.
"""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from features.arrays import Float32Array
from features.events import DEFAULT_EVENT_TYPES
from features.items import ITEM_SCHEMA
from recsys.catalog import Catalog
from recsys.ranking.rules import Ruling
from recsys.recommender import Recommender
from recsys.rules import Pin
from recsys.types import Answer, Ask, Slate

FEATURES = 3


class FakeRecommender:
    event_types = DEFAULT_EVENT_TYPES

    def __init__(self, folder: Path, release_id: str) -> None:
        facts = json.loads((folder / "facts.json").read_text())
        self.release_id = release_id
        self.answers: bool = facts["answers"]
        self.catalog = Catalog(pl.read_parquet(folder / "items.parquet"))
        self.known: list[str] = facts.get("shoppers", [])
        self.n_embedded = 0
        self.may_embed = threading.Event()  # cleared by a test, embedding waits
        self.may_embed.set()

    def recommend(self, ask: Ask) -> Answer:
        allowed = self.catalog.allowed(ask.filters, ask.now_us)
        ruling = Ruling.of(ask, self.catalog)
        hidden = ruling.hide(allowed)
        not_shown = {*ask.exclude_item_ids, *ask.context_item_ids}
        if ask.policy.filter_viewed:
            not_shown |= {*ask.recent.item_ids}
        ids = self.catalog.item_ids
        newest_first = reversed(np.flatnonzero(allowed).tolist())
        rows = [r for r in newest_first if ids[r] not in not_shown] if self.answers else []
        if ask.words is not None:
            rows.sort(key=lambda row: -self._matches(row, ask.words or ""))
        return self._answer(self._pinned(rows, ask, ruling)[: ask.k], ask, ruling, hidden)

    def _matches(self, row: int, words: str) -> int:
        return len({*words.lower().split()} & {*self.catalog.titles[row].lower().split()})

    def _pinned(self, rows: list[int], ask: Ask, ruling: Ruling) -> list[int]:
        for rule in ruling.rules:
            if isinstance(rule.then, Pin) and (row := self.catalog.row(rule.then.item_id)) in rows:
                rows.remove(row)
                if rule.then.position >= ask.first_position:
                    rows.insert(rule.then.position - ask.first_position, row)
                    ruling.fire(rule.rule_id, 1)
        return rows

    def embed_items(self, items: pl.DataFrame) -> Float32Array:
        assert self.may_embed.wait(timeout=30)
        self.n_embedded += len(items)
        return np.ones((len(items), 2), np.float32)

    def put_items(self, items: pl.DataFrame, vectors: Float32Array) -> None:
        assert len(items) == len(vectors)
        assert dict(items.schema) == ITEM_SCHEMA
        self.catalog.put(items)

    def remove_items(self, item_ids: list[str]) -> None:
        self.catalog.remove(item_ids)

    def shoppers(self) -> list[str]:
        return self.known

    def forget_shoppers(self, shoppers: Iterable[str]) -> None:
        self.known = [name for name in self.known if name not in {*shoppers}]

    def _answer(self, rows: list[int], ask: Ask, ruling: Ruling, hidden: int) -> Answer:
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
            about_item_ids=(),
            degraded=(),
            fallbacks=(),
            fired=ruling.fired,
            removed={"viewed": len(ask.recent.item_ids), "hidden": hidden},
            stage_ms={"sources": 0.1},
        )


def load_fake(folder: Path, release_id: str) -> Recommender:
    return cast(Recommender, FakeRecommender(folder, release_id))
