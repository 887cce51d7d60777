"""Writes a synthetic shop's release with the functions a night saves with, and its store."""

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from features.arrays import Float32Array
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.interactions import Interactions
from features.store import Store
from features.views import FEATURE_NAMES, views_hash
from jobs.serving_shop import TEXT_DIM, Shop, tastes
from recsys.bundle import save_facts
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.ranking.ranker import Ranker
from recsys.releases import Manifest, Releases
from recsys.retrieval.collaborative import FactorModel
from recsys.retrieval.encoder import EncoderCard
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.shortlist import IndexReport
from recsys.retrieval.text_space import TASTE, WORDS, TextMaps, TextVectors, save_text_vectors
from recsys.retrieval.whitening import Whitening
from recsys.training.collaborative import CollaborativeConfig
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.export import TORCH_FOLDER, export_encoder
from recsys.training.index import IndexConfig, choose_index
from recsys.training.ranker import RankerConfig
from recsys.training.sequence import SequenceConfig
from recsys.training.sequence_export import export_sequence
from recsys.training.sequence_network import SequenceNetwork
from recsys.training.source_index import index_sources

STORED_AT_ONCE = 100_000
INDEX_QUERIES = 120  # a third of a night's: a million rows are scanned for each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeShop:
    """Where a made shop lies, and which indexes its release has."""

    release_id: str
    indexes: dict[str, IndexReport]


def make_encoder(config: EncoderConfig, folder: Path) -> Path:
    """The untuned encoder as the night exports it; a minute of nothing else would change there."""
    base = BaseEncoder.load(config.base, max_tokens=config.max_tokens)
    export_encoder(base, folder, [])
    shutil.rmtree(folder / TORCH_FOLDER)
    return folder


def make_shop(
    shop: Shop, encoder: Path, store: Store, releases: Releases, progress: Progress
) -> MadeShop:
    """A published release of the shop and a store with its items and its shoppers' past."""
    items = shop.items()
    for part in items.iter_slices(STORED_AT_ONCE):
        store.upsert_items(part, updated_at_us=shop.now_us)
    events = shop.histories()
    for part in events.iter_slices(STORED_AT_ONCE):
        store.append_events(part, received_at_us=shop.now_us)
    release_id = f"synthetic-{shop.size.items}"
    draft = releases.draft(release_id)
    items.write_parquet(draft / "items.parquet")
    save_facts(draft, DEFAULT_EVENT_TYPES)
    shutil.copytree(encoder, draft / "encoder", dirs_exist_ok=True)
    indexes, taste = _write_text(shop, draft, progress)
    _write_sequence(taste, draft / "sequence")
    _write_factors(shop, draft / "collaborative")
    past = Interactions.build(events, items["item_id"].to_list(), DEFAULT_EVENT_TYPES)
    weights = np.array([kind.weight for kind in DEFAULT_EVENT_TYPES], np.float32)
    indexes |= index_sources(past, weights, shop.now_us, IndexConfig(), draft, progress)
    shop.neighbours().save(draft / "covisitation")
    shop.snapshots().save(draft / "snapshots")
    _ranker(shop.rng).save(draft / "ranker")
    change, _ = store.items_changed_after(0)
    releases.publish(
        draft,
        Manifest(
            release_id=release_id,
            created_at_us=shop.now_us,
            data_start_us=shop.now_us - 30 * US_PER_DAY,
            data_end_us=shop.now_us,
            catalogue_change=change,
            feature_views_hash=views_hash(),
            event_types=DEFAULT_EVENT_TYPES,
            policy=Policy().model_dump(),
        ),
    )
    return MadeShop(release_id=release_id, indexes=indexes)


def _write_text(
    shop: Shop, draft: Path, progress: Progress
) -> tuple[dict[str, IndexReport], Float32Array]:
    folder = draft / "text"
    folder.mkdir(exist_ok=True)
    width = EncoderCard.load(draft / "encoder").dim
    maps = TextMaps(_map(width, shop.rng), _map(width, shop.rng))
    maps.save(folder)
    dim = maps.words.projection.shape[1]
    vectors = TextVectors(shop.vectors(dim), shop.vectors(dim))
    save_text_vectors(vectors, folder)
    taste = _indexed(vectors.taste, folder / TASTE, IndexConfig(), shop, progress)
    alike = IndexConfig(kind=taste.kind)  # of the same size and shape: tried once is enough
    words = _indexed(vectors.words, folder / WORDS, alike, shop, progress)
    return {"taste": taste, "words": words}, vectors.taste


def _indexed(
    vectors: Float32Array, path: Path, config: IndexConfig, shop: Shop, progress: Progress
) -> IndexReport:
    asked = tastes(vectors, shop.rng, INDEX_QUERIES)
    choice = choose_index(vectors, sample_queries=asked, config=config, progress=progress)
    choice.save(path)
    return choice.report


def _map(dim: int, rng: np.random.Generator) -> Whitening:
    turned, _ = np.linalg.qr(rng.standard_normal((dim, min(dim, TEXT_DIM))))
    return Whitening(np.zeros(dim, np.float32), turned.astype(np.float32))


def _write_sequence(text: Float32Array, folder: Path) -> None:
    """The architecture as shipped; its attention has learned nothing, which costs the same."""
    config = SequenceConfig()
    torch.manual_seed(0)
    network = SequenceNetwork(
        torch.from_numpy(text),
        dim=config.dim,
        blocks=config.blocks,
        heads=config.heads,
        max_length=config.max_length,
        dropout=config.dropout,
    )
    export_sequence(network, folder)


def _write_factors(shop: Shop, folder: Path) -> None:
    dim = CollaborativeConfig().dim
    items = np.column_stack([shop.vectors(dim), shop.rng.normal(0, 0.1, shop.size.items)]).astype(
        np.float32
    )
    users = tastes(items, shop.rng, shop.size.shoppers)
    tags = sorted({tag for part in shop.items()["tags"].head(2000) for tag in part})
    FactorModel(
        [shop.user_id(shopper) for shopper in range(len(users))],
        users,
        VectorIndex(items),
        tags,
        tastes(items, shop.rng, len(tags)),
        np.diag([3.0] * dim + [1.0]).astype(np.float32),  # a mean of many is short
    ).save(folder)


def _ranker(rng: np.random.Generator) -> Ranker:
    """Networks of the shipped shape, with the weights one starts to learn from."""
    config = RankerConfig()
    actions = tuple(kind.name for kind in DEFAULT_EVENT_TYPES)
    widths = (len(FEATURE_NAMES), *config.hidden, len(actions))
    shapes = list(pairwise(widths))
    return Ranker(
        actions=actions,
        mean=np.zeros(widths[0], np.float32),
        scale=np.ones(widths[0], np.float32),
        weights=tuple(
            (rng.standard_normal((config.ensemble, *shape)) / np.sqrt(shape[0])).astype(np.float32)
            for shape in shapes
        ),
        biases=tuple(np.zeros((config.ensemble, shape[1]), np.float32) for shape in shapes),
        calibration=np.array([[1.0] * len(actions), [-3.0] * len(actions)], np.float32),
    )
