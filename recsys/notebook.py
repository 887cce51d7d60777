"""The public Python API: tables in, tables out, for notebooks and scripts.

    from recsys import Dataset, TwoStageRecommender

    model = TwoStageRecommender().fit(Dataset.construct(interactions, items))
    model.recommend(["ann", "bob"], k=10, filter_viewed=True)

Tables are pandas or Polars; what comes back is of the kind that went in.
"""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import orjson
import pandas as pd
import polars as pl

from features.errors import DataError, NotReady
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY, EventType, RecentEvents
from features.interactions import Interactions
from features.items import check_items, with_unlisted_items
from recsys.policy import Policy
from recsys.progress import Progress, Silent
from recsys.recommender import Recommender
from recsys.training.recipe import RecipeConfig, TrainingData, fit_bundle, window_with_users
from recsys.types import Ask

Table: TypeAlias = pd.DataFrame | pl.DataFrame
LABEL_SHARE = 0.3  # of the shoppers: how many the ranker's label window should hold
HISTORY_FILE = "history.parquet"
_SIMILAR = Policy(
    about="context",
    sources={"similar_text": 100, "co_visited": 100},
    personalisation=0.0,
    filter_viewed=False,
    diversity=0.0,
    exploration=0.0,
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Interactions and items, checked once.

    Build it with `construct`.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    is_pandas: bool

    @classmethod
    def construct(
        cls, interactions: Table, items: Table | None = None, *, event_type: str = "view"
    ) -> Self:
        """`interactions`: user_id, item_id, and where known datetime and event_type.

        Without datetime the rows of a user are taken in their order, one a day. `items`: item_id,
        and where known title, description, tags (list), attributes, available. Items that only
        the interactions name get no text.
        """
        frame = _polars(interactions)
        missing = {"user_id", "item_id"} - set(frame.columns)
        if missing:
            raise DataError(
                f"interactions lack the columns {sorted(missing)}; found {frame.columns}: rename "
                "yours to user_id, item_id, datetime, event_type"
            )
        nameless = len(frame) - len(frame.drop_nulls(["user_id", "item_id"]))
        if nameless:
            raise DataError(
                f"{nameless} interactions have no user_id or no item_id: drop them, or put the "
                "session in place of the user"
            )
        events = frame.select(
            pl.col("user_id").cast(pl.String),
            pl.col("item_id").cast(pl.String),
            _event_type(frame, event_type),
            _time_us(frame),
            event_id=pl.int_range(pl.len()).cast(pl.String),
            session_id=pl.lit(None, pl.String),
        )
        if events["event_time_us"].has_nulls():
            raise DataError("interactions have rows without a datetime: fill or drop them")
        named = _polars(items) if items is not None else pl.DataFrame({"item_id": []})
        return cls(events, _all_items(events, named), isinstance(interactions, pd.DataFrame))


@dataclass(slots=True, weakref_slot=True)
class TwoStageRecommender:
    """The whole funnel, trained by `fit` exactly as a night trains it."""

    config: RecipeConfig = field(default_factory=RecipeConfig)
    event_types: tuple[EventType, ...] = DEFAULT_EVENT_TYPES
    progress: Progress = field(default_factory=Silent)
    _folder: Path | None = None
    _recommender: Recommender | None = None
    _history: pl.DataFrame = field(default_factory=pl.DataFrame)
    _is_pandas: bool = False

    def fit(self, dataset: Dataset) -> Self:
        """DataError for an event type that `event_types` does not list, or too few events."""
        known = {kind.name for kind in self.event_types}
        unknown = set(dataset.events["event_type"].unique()) - known
        if unknown:
            raise DataError(f"event types {sorted(unknown)} are not among {sorted(known)}")
        log = Interactions.build(
            dataset.events, dataset.items["item_id"].to_list(), self.event_types
        )
        if len(log) == 0:
            raise DataError("no interactions to learn from: the table has no usable rows")
        end_us = int(log.time_us.max()) // US_PER_DAY * US_PER_DAY + US_PER_DAY
        target = max(int(LABEL_SHARE * len(log.user_ids)), 2)
        folder = Path(tempfile.mkdtemp(prefix="recommender-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # goes with this object
        window = (window_with_users(log, end_us, target), end_us)
        data = TrainingData(dataset.items, log, self.event_types)
        fit_bundle(data, window, self.config, folder, self.progress)
        dataset.events.write_parquet(folder / HISTORY_FILE)
        self._open(folder, is_pandas=dataset.is_pandas)
        return self

    def recommend(self, users: Sequence[str], k: int = 10, *, filter_viewed: bool = True) -> Table:
        """Rows user_id, item_id, score, rank (from 1), best first; unknown users get an answer."""
        policy = Policy(filter_viewed=filter_viewed, diversity=0, exploration=0)
        recommender = self._ready()
        now_us = _end_us(self._history)
        parts = []
        for user_id in users:
            ask = Ask(
                request_id=user_id,
                now_us=now_us,
                k=k,
                user_id=user_id,
                recent=self._recent(user_id),
                policy=policy,
            )
            answer = recommender.recommend(ask)
            parts.append((user_id, answer.item_ids, answer.slate.scores))
        return self._ranked("user_id", parts)

    def recommend_to_items(self, items: Sequence[str], k: int = 10) -> Table:
        """Rows target_item_id, item_id, score, rank; DataError for an unknown item."""
        recommender = self._ready()
        parts = []
        for item_id in items:
            if recommender.catalog.row(item_id) < 0:
                raise DataError(f"no item {item_id!r} in what was fitted: check the id, or fit it")
            answer = recommender.recommend(
                Ask(
                    request_id=item_id,
                    now_us=_end_us(self._history),
                    k=k,
                    context_item_ids=(item_id,),
                    policy=_SIMILAR,
                )
            )
            parts.append((item_id, answer.item_ids, answer.slate.scores))
        return self._ranked("target_item_id", parts)

    def save(self, folder: Path | str) -> None:
        """A folder of safetensors, npy, ONNX, Parquet and JSON files; it must not exist yet."""
        self._ready()
        target = Path(folder)
        if target.exists():
            raise DataError(f"{target} exists: save under a new name")
        assert self._folder is not None  # set with the recommender
        shutil.copytree(self._folder, target)
        (target / "notebook.json").write_bytes(orjson.dumps({"is_pandas": self._is_pandas}))

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        source = Path(folder)
        if not (source / "notebook.json").exists():
            raise DataError(f"{source} holds no saved recommender: give a folder made by save()")
        model = cls()
        facts = orjson.loads((source / "notebook.json").read_bytes())
        model._open(source, is_pandas=facts["is_pandas"])
        model.event_types = model._ready().event_types
        return model

    def _open(self, folder: Path, *, is_pandas: bool) -> None:
        self._folder = folder
        self._is_pandas = is_pandas
        self._recommender = Recommender.load(folder, release_id=folder.name, threads=2)
        history = pl.read_parquet(folder / HISTORY_FILE)
        self._history = history.sort("user_id", "event_time_us", "event_id")

    def _ready(self) -> Recommender:
        if self._recommender is None:
            raise NotReady("this recommender has learned nothing yet: call fit() or load()")
        return self._recommender

    def _recent(self, user_id: str) -> RecentEvents:
        low = self._history["user_id"].search_sorted(user_id, side="left")
        high = self._history["user_id"].search_sorted(user_id, side="right")
        rows = self._history[low:high]
        return RecentEvents(
            rows["item_id"].to_list(),
            rows["event_type"].to_list(),
            rows["event_time_us"].to_numpy(),
        )

    def _ranked(self, key: str, parts: Sequence[tuple[str, Sequence[str], np.ndarray]]) -> Table:
        table = pl.concat(
            [
                pl.DataFrame(
                    {
                        key: [name] * len(item_ids),
                        "item_id": list(item_ids),
                        "score": np.asarray(scores, np.float64),
                        "rank": np.arange(1, len(item_ids) + 1),
                    },
                    schema={
                        key: pl.String,
                        "item_id": pl.String,
                        "score": pl.Float64,
                        "rank": pl.Int64,
                    },
                )
                for name, item_ids, scores in parts
            ]
        )
        return table.to_pandas() if self._is_pandas else table


def _polars(table: Table) -> pl.DataFrame:
    return nw.from_native(table).to_polars()


def _event_type(frame: pl.DataFrame, default: str) -> pl.Expr:
    given = pl.col("event_type") if "event_type" in frame.columns else pl.lit(default)
    return given.cast(pl.String).alias("event_type")


def _time_us(frame: pl.DataFrame) -> pl.Expr:
    """Naive times are taken as UTC."""
    if "datetime" not in frame.columns:
        from_end = pl.len().over("user_id") - 1 - pl.int_range(pl.len()).over("user_id")
        return ((20_000 - from_end.cast(pl.Int64)) * US_PER_DAY).alias("event_time_us")
    column = pl.col("datetime")
    if frame["datetime"].dtype == pl.String:
        column = column.str.to_datetime(time_zone="UTC")
    elif not frame["datetime"].dtype.is_temporal():  # seconds read as microseconds are all 1970
        raise DataError(
            f"datetime has type {frame['datetime'].dtype}: convert it, as with "
            'pandas.to_datetime(column, unit="s")'
        )
    return column.cast(pl.Datetime("us")).dt.epoch("us").alias("event_time_us")


def _all_items(events: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """ITEM_SCHEMA rows of every item, by item_id; raises for rows that are no items."""
    checked = check_items(named.with_columns(pl.col("item_id").cast(pl.String)))
    if len(checked.rejected):
        first = checked.rejected.row(0, named=True)
        raise DataError(
            f"{len(checked.rejected)} item rows cannot be used, row {first['row']} because "
            f"{first['reason']}: correct or drop them"
        )
    return with_unlisted_items(checked.accepted, events["item_id"])


def _end_us(history: pl.DataFrame) -> int:
    return int(history.select(pl.col("event_time_us").max()).item()) + 1
