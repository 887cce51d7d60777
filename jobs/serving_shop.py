"""A shop of any size to serve from: nobody had to learn its release, yet it costs what one does."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import Float32Array, Int32Array, Int64Array
from features.covisitation import Neighbours
from features.events import EVENT_SCHEMA, US_PER_DAY
from features.history import STEP_DECAY
from features.items import ITEM_SCHEMA
from features.snapshot import SNAPSHOT_VIEWS, Snapshots

KIN = 200  # items a cluster
LATENT = 32
TEXT_DIM = 256  # of whitening and of the item map
NOISE = 0.8  # of a row's length: kin items are then alike by .6, as on Beauty
FULL_LIST, HALF_LIST, SHORT_LIST = 100, 40, 10  # of the liveliest fifth, the next 30 %, the rest
CATALOGUE_DAYS = 700  # of publication dates, evenly: a twentieth of the items count as new
HISTORY_DAYS = 30
COLOURS = ("red", "blue", "green", "black", "white", "pink", "gold", "grey", "lime", "navy")
STUFFS = ("cotton", "linen", "leather", "wool", "denim", "silk", "steel", "oak", "glass", "clay")
THINGS = ("shirt", "shoe", "hat", "ring", "sock", "belt", "coat", "vest", "scarf", "glove")
KINDS = ("view", "click", "cart", "purchase")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSize:
    """How large, and which one of that size."""

    items: int
    shoppers: int = 5_000
    mean_history: int = 30  # events of a shopper; one in five has more than 48
    seed: int = 0


class Shop:
    """Items in clusters, some much livelier than others, and shoppers of a few clusters each."""

    def __init__(self, size: ShopSize, now_us: int) -> None:
        self.size = size
        self.now_us = now_us
        self.rng = np.random.default_rng(size.seed)
        self.n_clusters = max(size.items // KIN, 1)
        self.liveliest = self.rng.permutation(size.items).astype(np.int32)  # first

    @property
    def clusters(self) -> Int64Array:
        """(n_items,) so that an item's kin are `n_clusters` rows apart."""
        return np.arange(self.size.items) % self.n_clusters

    def item_id(self, row: int) -> str:
        return f"item-{row:07d}"

    def user_id(self, shopper: int) -> str:
        return f"shopper-{shopper:06d}"

    def items(self) -> pl.DataFrame:
        """ITEM_SCHEMA, row i the release's row i."""
        n = self.size.items
        rows, cluster = np.arange(n), self.clusters
        price = np.round(np.exp(self.rng.normal(3.0, 1.0, n)), 2)
        age = self.rng.integers(0, CATALOGUE_DAYS * US_PER_DAY, n)
        words = pl.DataFrame(
            {
                "row": rows,
                "colour": np.array(COLOURS)[self.rng.integers(len(COLOURS), size=n)],
                "stuff": np.array(STUFFS)[cluster // len(THINGS) % len(STUFFS)],
                "thing": np.array(THINGS)[cluster % len(THINGS)],
                "brand": self.rng.integers(500, size=n),
                "family": cluster % 400,
                "price": price,
                "published_at_us": self.now_us - age,
            }
        )
        title = pl.format("{} {} {} {}", "colour", "stuff", "thing", "row")
        attributes = pl.concat_str(
            pl.lit('{"brand":"brand '),
            "brand",
            pl.lit('","colour":"'),
            "colour",
            pl.lit('","price":'),
            "price",
            pl.lit("}"),
        )
        return words.select(
            item_id="item-" + pl.col("row").cast(pl.String).str.zfill(7),
            title=title,
            description=pl.lit("made to last, easy to care for"),
            tags=pl.concat_list(
                "thing",
                "stuff",
                "colour",
                pl.format("family {}", "family"),
                pl.format("brand {}", "brand"),
            ),
            attributes=attributes,
            available=pl.lit(True),
            published_at_us="published_at_us",
        ).cast(dict(ITEM_SCHEMA))  # type: ignore[arg-type]  # polars' stubs

    def vectors(self, dim: int) -> Float32Array:
        """(n_items, dim) unit rows; every call is another view of the same likeness."""
        n = self.size.items
        centres = self.rng.standard_normal((self.n_clusters, dim), np.float32)
        low = np.random.default_rng(self.size.seed).standard_normal((self.n_clusters, LATENT))
        centres += low.astype(np.float32) @ self.rng.standard_normal((LATENT, dim), np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        out = self.rng.standard_normal((n, dim), np.float32)
        out *= np.float32(NOISE / np.sqrt(dim))
        out += centres[self.clusters]
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out

    def lively(self, *shape: int) -> Int32Array:
        """Item rows drawn as shoppers take them: the liveliest tenth gets half."""
        u = self.rng.random(shape)
        return self.liveliest[(self.size.items * u ** (10 / 3)).astype(np.int64)]

    def neighbours(self) -> Neighbours:
        """Lists of kin and lively items in turn, as long as their item is lively."""
        n = self.size.items
        place = np.empty(n, np.int64)
        place[self.liveliest] = np.arange(n)
        sizes = np.select([place < n // 5, place < n // 2], [FULL_LIST, HALF_LIST], SHORT_LIST)
        sizes = np.minimum(sizes, n - 1)
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        rank = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes)
        owner = np.repeat(np.arange(n), sizes)
        kin = (owner + (rank // 2 + 1) * self.n_clusters) % n
        rows = np.where(rank % 2, self.lively(len(rank)), kin)
        rows = np.where(rows == owner, (owner + 1) % n, rows)
        scores = 1.0 / (1.0 + rank)
        follows = np.where(rank < 5, 0.1 / (1 + rank), 0.0)
        return Neighbours(
            indptr.astype(np.int64),
            rows.astype(np.int32),
            scores.astype(np.float32),
            follows.astype(np.float32),
        )

    def snapshots(self) -> Snapshots:
        tick = self.now_us // US_PER_DAY * US_PER_DAY
        values = self.rng.gamma(2.0, 1.0, (1, self.size.items, len(SNAPSHOT_VIEWS)))
        return Snapshots(np.array([tick], np.int64), values.astype(np.float32))

    def histories(self) -> pl.DataFrame:
        """EVENT_SCHEMA: each shopper among five clusters, and now and then among the lively."""
        n_shoppers = self.size.shoppers
        mean = self.size.mean_history
        sizes = np.minimum(1 + self.rng.geometric(1 / mean, n_shoppers), 10 * mean)
        owner = np.repeat(np.arange(n_shoppers), sizes)
        taste = self.rng.integers(self.n_clusters, size=(n_shoppers, 5))
        cluster = taste[owner, self.rng.integers(5, size=len(owner))]
        kin = (
            cluster + self.n_clusters * self.rng.integers(KIN, size=len(owner))
        ) % self.size.items
        rows = np.where(self.rng.random(len(owner)) < 0.6, kin, self.lively(len(owner)))
        start = self.now_us - HISTORY_DAYS * US_PER_DAY
        frame = pl.DataFrame(
            {
                "event_id": np.arange(len(owner)),
                "user_id": owner,
                "item_id": rows,
                "event_type": np.array(KINDS)[
                    self.rng.choice(4, len(owner), p=[0.7, 0.2, 0.07, 0.03])
                ],
                "event_time_us": start
                + self.rng.integers(HISTORY_DAYS * US_PER_DAY - 10**9, size=len(owner)),
            }
        )
        return frame.select(
            event_id="past-" + pl.col("event_id").cast(pl.String),
            user_id="shopper-" + pl.col("user_id").cast(pl.String).str.zfill(6),
            session_id=pl.lit(None, pl.String),
            item_id="item-" + pl.col("item_id").cast(pl.String).str.zfill(7),
            event_type="event_type",
            event_time_us=pl.col("event_time_us"),
            request_id=pl.lit(None, pl.String),
            value=pl.lit(None, pl.Float64),
        ).cast(dict(EVENT_SCHEMA))  # type: ignore[arg-type]  # polars' stubs


def tastes(vectors: Float32Array, rng: np.random.Generator, n: int = 400) -> Float32Array:
    """(n, d) decayed means of three rows, what indexes are tried with."""
    decay = STEP_DECAY ** np.arange(3)
    slots = vectors[rng.integers(len(vectors), size=(n, 3))]
    return np.asarray(np.einsum("l,nld->nd", decay / decay.sum(), slots), np.float32)
