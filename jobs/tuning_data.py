"""Data sets to tune on, each cut so that what it will be tested by is not even in memory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import ConfigError, DataError
from features.events import US_PER_DAY, EventType
from features.items import with_unlisted_items
from jobs.benchmark import EVENT_TYPES, on_a_clock, read_items, read_sequences
from jobs.plan import Plan, label_start, last_day_end
from jobs.sample import Size, Storefront
from jobs.steps import digest_of
from jobs.storefront_benchmark import sample_data
from recsys.evaluation.trial import Window, queries_at
from recsys.progress import Progress
from recsys.training.queries import PastQueries
from recsys.training.recipe import TrainingData, window_with_users

ITEMS, SEQUENCES = "items.jsonl.gz", "sequences.csv.gz"
STORE, SAMPLE = "store", "sample-"
SAMPLE_EVENTS = 50_000
VALIDATION_SHARE = 0.3  # of the shoppers: a tenth, as a trial has, are 61 of MovieLens's 610


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSet:
    """The ranker learns from [label, validation), judged is [validation, end); nothing is later."""

    name: str
    data: TrainingData
    label_us: int
    validation_us: int
    end_us: int

    @property
    def digest(self) -> str:
        log = self.data.log
        columns = (log.user_rows, log.item_rows, log.types, log.time_us)
        return digest_of(
            {
                "items": digest_of(self.data.items.hash_rows(seed=7).to_list()),
                "log": [digest_of(column.tolist()) for column in columns],
                "cuts": [self.label_us, self.validation_us, self.end_us],
            }
        )

    def questions(self, most: int) -> PastQueries:
        """One a shopper at the validation window's start; `most` of them, drawn once."""
        past = queries_at(self.data.log, Window(self.validation_us, self.end_us))
        if len(past) == 0:
            raise DataError(
                f"{self.name}: found no shopper in the validation window, expected some: bring "
                "more events"
            )
        if len(past) <= most:
            return past
        return past.take(np.sort(np.random.default_rng(0).choice(len(past), most, replace=False)))


def from_sequences(
    name: str, items: pl.DataFrame, sequences: pl.DataFrame, shoppers: int | None = None
) -> TuningSet:
    """Protocol "sequences": everybody's last item is gone, the one before it is the target.

    Of more than `shoppers` some are drawn, and with them the items they took.
    """
    users = sequences["user_id"].unique().sort()
    if shoppers is not None and len(users) > shoppers:
        users = users.sample(shoppers, seed=0)
        sequences = sequences.filter(pl.col("user_id").is_in(users.implode()))
        items = items.filter(pl.col("item_id").is_in(sequences["item_id"].implode()))
    items = with_unlisted_items(items, sequences["item_id"])
    log = on_a_clock(items, sequences)
    test_us = int(log.time_us.max())
    return TuningSet(
        name=name,
        data=TrainingData(items, log.before(test_us), EVENT_TYPES),
        label_us=test_us - 2 * US_PER_DAY,
        validation_us=test_us - US_PER_DAY,
        end_us=test_us,
    )


def from_log(name: str, data: TrainingData) -> TuningSet:
    """Protocol "time": the days that `evaluate` judges by are gone, those before it are judged."""
    if len(data.log) == 0:
        raise DataError(f"{name}: found no events, expected some to learn from: import them")
    end_us = last_day_end(data.log)
    test_us = Plan.of(data.log, end_us, None).evaluation_us
    known = data.log.before(test_us)
    judges = max(int(VALIDATION_SHARE * len(known.user_ids)), 20)
    validation_us = window_with_users(known, test_us, judges)
    return TuningSet(
        name=name,
        data=TrainingData(data.items, known, data.event_types),
        label_us=label_start(known, validation_us),
        validation_us=validation_us,
        end_us=test_us,
    )


def read_set(
    name: str,
    *,
    stored: Callable[[], TrainingData],
    event_types: Sequence[EventType],
    shoppers: int | None,
    progress: Progress,
) -> TuningSet:
    """`store`, `sample-SEED` or `sample-SEED-EVENTS`, or a folder of items and sequences."""
    if name == STORE:
        return from_log(name, stored())
    if name.startswith(SAMPLE):
        return from_log(name, sample_data(_storefront(name), event_types, progress))
    folder = Path(name)
    missing = [file for file in (ITEMS, SEQUENCES) if not (folder / file).is_file()]
    if missing:
        raise ConfigError(
            f"found no {' and no '.join(missing)} in {folder}; expected a folder with {ITEMS} and "
            f"{SEQUENCES}, or {STORE}, or {SAMPLE}SEED"
        )
    items, sequences = read_items(folder / ITEMS), read_sequences(folder / SEQUENCES)
    return from_sequences(folder.resolve().name, items, sequences, shoppers)


def by_size(sets: Iterable[TuningSet]) -> list[TuningSet]:
    """The smallest first: a trial that is behind there is not asked about the others."""
    ordered = sorted(sets, key=lambda tuned: len(tuned.data.log))
    names = [tuned.name for tuned in ordered]
    if len(set(names)) < len(names):
        raise ConfigError(f"found data sets {', '.join(names)}, expected each once")
    return ordered


def _storefront(name: str) -> Storefront:
    seed, _, events = name.removeprefix(SAMPLE).partition("-")
    try:
        return Storefront(int(seed), Size.for_events(int(events or SAMPLE_EVENTS)))
    except ValueError as error:
        raise ConfigError(
            f"found {name!r}, expected {SAMPLE}SEED or {SAMPLE}SEED-EVENTS, whole numbers"
        ) from error
