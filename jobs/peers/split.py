"""Both protocols of the benchmarks as one split: what is learned, who asks, what was relevant."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from features.arrays import Int32Array, Int64Array
from features.events import US_PER_DAY, EventType
from features.interactions import Interactions
from features.items import with_unlisted_items
from jobs.benchmark import EVENT_TYPES, on_a_clock
from jobs.peers.world import World
from jobs.plan import Plan, last_day_end
from recsys.evaluation.trial import Window, queries_at
from recsys.training.queries import PastQueries, window_queries
from recsys.training.recipe import TrainingData, published_at_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One fold. Nobody learns from `until_us` on; the ranker's labels begin at `label_us`.

    Questions are asked at `ask_us`, and know everything before it.
    """

    data: TrainingData
    label_us: int
    until_us: int
    ask_us: int
    end_us: int

    @property
    def is_strict(self) -> bool:
        """Whether events lie between what may be learned and the questions."""
        return self.ask_us > self.until_us

    def questions(self) -> PastQueries:
        """As the benchmark of the same protocol asks them."""
        if not self.is_strict:
            return queries_at(self.data.log, Window(self.ask_us, self.end_us))
        return window_queries(
            self.data.log,
            self.ask_us,
            self.end_us,
            per_user=1,
            max_labels=1,
            rng=np.random.default_rng(0),
        )

    def world(self) -> World:
        """What peers are told."""
        known = self.data.log.before(self.ask_us)
        tag_indptr, tags = _tag_ids(self.data.items)
        return World(
            n_users=len(known.user_ids),
            n_items=len(self.data.items),
            cut_us=self.until_us if self.is_strict else self.label_us,
            refit=not self.is_strict,
            users=known.user_rows,
            items=known.item_rows,
            weights=known.weights,
            time_us=known.time_us,
            asked=self.questions().users,
            tag_indptr=tag_indptr,
            tags=tags,
        )

    def save(self, folder: Path) -> None:
        """For the process that fits this system."""
        folder.mkdir(parents=True, exist_ok=True)
        self.data.items.write_parquet(folder / "items.parquet")
        log = self.data.log
        np.savez(
            folder / "log.npz",
            allow_pickle=False,
            indptr=log.indptr,
            user_rows=log.user_rows,
            item_rows=log.item_rows,
            types=log.types,
            weights=log.weights,
            time_us=log.time_us,
        )
        facts = {
            "user_ids": list(log.user_ids),
            "event_types": [(kind.name, kind.weight) for kind in self.data.event_types],
            "moments": (self.label_us, self.until_us, self.ask_us, self.end_us),
        }
        (folder / "split.json").write_bytes(orjson.dumps(facts))

    @classmethod
    def load(cls, folder: Path) -> "Split":
        facts = orjson.loads((folder / "split.json").read_bytes())
        with np.load(folder / "log.npz", allow_pickle=False) as arrays:
            log = Interactions(user_ids=facts["user_ids"], **dict(arrays))
        types = tuple(EventType(name, weight) for name, weight in facts["event_types"])
        data = TrainingData(pl.read_parquet(folder / "items.parquet"), log, types)
        label_us, until_us, ask_us, end_us = facts["moments"]
        return cls(data=data, label_us=label_us, until_us=until_us, ask_us=ask_us, end_us=end_us)


def sequences_split(items: pl.DataFrame, sequences: pl.DataFrame) -> Split:
    """Protocol "sequences", strict: as `jobs.benchmark` lays it on a clock."""
    items = with_unlisted_items(items, sequences["item_id"])
    data = TrainingData(items, on_a_clock(items, sequences), EVENT_TYPES)
    ask_us = int(data.log.time_us.max())
    until_us = ask_us - US_PER_DAY
    return Split(
        data=data,
        label_us=until_us - US_PER_DAY,
        until_us=until_us,
        ask_us=ask_us,
        end_us=ask_us + 1,
    )


def time_splits(data: TrainingData, folds: int) -> list[Split]:
    """Protocol "time": the newest window first, cut as `jobs.evaluate` cuts it."""
    end_us = last_day_end(data.log)
    splits = []
    for _ in range(folds):
        plan = Plan.of(data.log.before(end_us), end_us, None)
        splits.append(
            Split(
                data=_as_of(data, plan.evaluation_us),
                label_us=plan.label_us,
                until_us=plan.evaluation_us,
                ask_us=plan.evaluation_us,
                end_us=end_us,
            )
        )
        end_us = plan.evaluation_us
    return splits


def _as_of(data: TrainingData, cut_us: int) -> TrainingData:
    """Without items that were published later, and what happened to them."""
    kept = ~(published_at_us(data.items) >= cut_us)
    new_row = np.cumsum(kept, dtype=np.int32) - 1
    log = data.log.where(kept[data.log.item_rows])
    log = replace(log, item_rows=new_row[log.item_rows].astype(np.int32))
    return replace(data, items=data.items.filter(pl.Series(kept)), log=log)


def _tag_ids(items: pl.DataFrame) -> tuple[Int64Array, Int32Array]:
    tags = [sorted(set(names or ())) for names in items["tags"].to_list()]
    names = sorted({name for own in tags for name in own})
    id_of = {name: number for number, name in enumerate(names)}
    indptr = np.cumsum([0, *map(len, tags)], dtype=np.int64)
    return indptr, np.array([id_of[name] for own in tags for name in own], np.int32)
