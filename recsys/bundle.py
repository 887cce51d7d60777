"""A release's artifacts in memory: what each file of the folder becomes.

items.parquet      the catalogue, in row order        encoder/        ONNX text encoder
recommender.json   event types                        text/           item vectors and their maps
covisitation/      item-to-item lists                 sequence/       next-item model
bought_together/   the same of baskets; may be absent
collaborative/     LightFM factors                    snapshots/      item views by day
ranker/            the ranker; absent while it is being trained
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from features.arrays import BoolArray, Float32Array, Int32Array
from features.covisitation import Neighbours
from features.errors import ReleaseError
from features.events import EventType
from features.history import ItemRelations
from features.snapshot import Snapshots
from recsys.catalog import Catalog
from recsys.ranking.charts import TagCharts
from recsys.ranking.features import FeatureInputs
from recsys.ranking.ranker import Ranker
from recsys.retrieval.collaborative import FactorModel
from recsys.retrieval.sequence import SequenceModel
from recsys.retrieval.sources import (
    Collaborative,
    CoVisited,
    NewItems,
    NextItem,
    SimilarText,
    Trending,
)
from recsys.retrieval.text import item_texts
from recsys.retrieval.text_space import TextSpace, TextVectors, put_rows
from recsys.types import CandidateSource

BOUGHT = "bought_together"  # a source that placements may name; no feature of the ranker


@dataclass(frozen=True, slots=True)
class ItemVectors:
    """What embedding items takes time for; made off the event loop, then put in at once."""

    text: TextVectors
    sequence: Float32Array  # (n, d_sequence)
    factors: Float32Array  # (n, d_factors)


class Bundle:
    """Everything a recommender reads; rows of all matrices are the catalogue's item rows."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        facts = orjson.loads((folder / "recommender.json").read_bytes())
        self.event_types = tuple(EventType(**kind) for kind in facts["event_types"])
        self.catalog = Catalog(pl.read_parquet(folder / "items.parquet"))
        self.text = TextSpace.load(folder, threads=threads)
        self.neighbours = Neighbours.load(folder / "covisitation")
        self.sequence = SequenceModel.load(folder / "sequence", threads=threads)
        self.factors = FactorModel.load(folder / "collaborative")
        self.snapshots = Snapshots.load(folder / "snapshots")
        has_ranker = (folder / "ranker").exists()
        self.ranker = Ranker.load(folder / "ranker") if has_ranker else None
        baskets = folder / "bought_together"  # releases from before there was one have none
        self.bought = Neighbours.load(baskets) if baskets.exists() else None
        self._check_rows(folder)
        self._n_learned = len(self.catalog)  # items of the night; later ones have rows from here
        self.type_weights = np.array([kind.weight for kind in self.event_types], np.float32)
        self._trending = Trending(self.snapshots)
        self._new_items = NewItems(self.text.taste, self.catalog.published_at_us, self.type_weights)
        self.sources: tuple[CandidateSource, ...] = (
            NextItem(self.sequence, self.type_weights),
            CoVisited(self.neighbours, self.type_weights),
            SimilarText(self.text.taste, self.type_weights),
            Collaborative(self.factors, self.type_weights),
            self._trending,
            self._new_items,
        )
        self.bought_together = (
            None if self.bought is None else CoVisited(self.bought, self.type_weights, BOUGHT)
        )
        self.charts = TagCharts(self.catalog.tags, list(self.catalog.tag_row_of), self.snapshots)
        self.feature_inputs = self._feature_inputs()

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> "Bundle":
        """Raises ReleaseError naming what is missing or damaged."""
        try:
            return cls(folder, threads=threads)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise ReleaseError(
                f"{folder}: found {error!r} while reading the release; expected the files a night "
                "publishes. Run the night again or activate an older release."
            ) from error

    def embed_items(self, items: pl.DataFrame) -> ItemVectors:
        """Also makes room for the items that are new, which may copy whole matrices."""
        n_new = int(np.count_nonzero(self.catalog.rows(items["item_id"].to_list()) < 0))
        for index in (self.text.words, self.text.taste, self.sequence.index, self.factors.index):
            index.reserve(n_new)
        text = self.text.embed_items(item_texts(items))
        return ItemVectors(
            text,
            self.sequence.item_vectors_from_text(text.taste),
            self.factors.item_vectors_from_tags(items["tags"].to_list()),
        )

    def put_items(self, items: pl.DataFrame, vectors: ItemVectors) -> None:
        """Insert or replace items (ITEM_SCHEMA, each id once).

        Of an item the night knew, words, tags, price and availability change at once, and with
        the words its text vector. Its sequence and factor vectors stay: most of what they say was
        learned from what shoppers did with it, and its text or tags alone say less.
        """
        n_before = len(self.catalog)
        rows = self.catalog.put(items)
        new = rows >= n_before
        self.text.put(rows, new, vectors.text)
        since = rows >= self._n_learned
        for index, matrix in (
            (self.sequence.index, vectors.sequence),
            (self.factors.index, vectors.factors),
        ):
            put_rows(index, matrix[since], rows[since], new[since])
        self._grown()

    def most_popular(self, allowed: BoolArray, n: int) -> Int32Array:
        """Up to n allowed rows, most popular first, then those too new to have a popularity."""
        return self._trending.first(allowed, n)

    def _grown(self) -> None:
        """Matrices were appended to: views of them must be taken again."""
        self._new_items.arrived(self.catalog.published_at_us)
        self.feature_inputs = self._feature_inputs()

    def _feature_inputs(self) -> FeatureInputs:
        text = self.text.taste.vectors
        sequence = self.sequence.index.vectors
        factors = self.factors.index.vectors
        return FeatureInputs(
            relations=ItemRelations(
                vectors={"text": text, "sequence": sequence, "factors": factors},
                neighbours=self.neighbours,
                tags=self.catalog.tags,
                tag_rarity=self.catalog.tag_rarity,
                log_price=self.catalog.log_price,
            ),
            snapshots=self.snapshots,
            type_weights=self.type_weights,
        )

    def _check_rows(self, folder: Path) -> None:
        sizes = {
            "items.parquet": len(self.catalog),
            "text": len(self.text.words),
            "taste": len(self.text.taste),
            "sequence": len(self.sequence.index.vectors),
            "collaborative": len(self.factors.index.vectors),
            "snapshots": self.snapshots.values.shape[1],
            "covisitation": len(self.neighbours.indptr) - 1,
        }
        if self.bought is not None:
            sizes["bought_together"] = len(self.bought.indptr) - 1
        if len(set(sizes.values())) > 1:
            raise ReleaseError(
                f"{folder}: its parts know different numbers of items, {sizes}; expected one. "
                "Run the night again or activate an older release."
            )


def save_facts(folder: Path, event_types: Sequence[EventType]) -> None:
    facts = {"event_types": [asdict(kind) for kind in event_types]}
    (folder / "recommender.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
