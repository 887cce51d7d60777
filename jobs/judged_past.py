"""Where a benchmark of parts may be held: on sequences, or on the store's own past."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from jobs.benchmark import label_window, last_items, sequence_data
from jobs.plan import Plan, last_day_end
from recsys.bundle import Bundle
from recsys.evaluation.trial import Window, of_that_moment, queries_at
from recsys.training.queries import PastQueries
from recsys.training.recipe import TrainingData, known_to


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPast:
    """A past to learn from, the window of the ranker's labels, and the questions that judge.

    Nothing from the window's end on is learned.
    """

    dataset: str
    protocol: Literal["sequences strict", "time"]
    data: TrainingData
    window: tuple[int, int]  # [start, end)
    test: Window

    @classmethod
    def of_sequences(
        cls, items: pl.DataFrame, sequences: pl.DataFrame, dataset: str
    ) -> "JudgedPast":
        data = sequence_data(items, sequences)
        test_us = int(data.log.time_us.max())
        return cls(
            dataset=dataset,
            protocol="sequences strict",
            data=data,
            window=label_window(data),
            test=Window(test_us, test_us + 1),
        )

    @classmethod
    def of_store(cls, data: TrainingData) -> "JudgedPast":
        """The cuts that `evaluate` makes for its newest fold."""
        end_us = last_day_end(data.log)
        plan = Plan.of(data.log, end_us, None)
        return cls(
            dataset="store",
            protocol="time",
            data=data,
            window=(plan.label_us, plan.evaluation_us),
            test=Window(plan.evaluation_us, plan.as_of_us),
        )

    def questions(self, bundle: Bundle) -> PastQueries:
        if self.protocol == "sequences strict":
            return last_items(self.data, bundle)
        log = self.data.log
        past = known_to(bundle.factors, queries_at(log, self.test), log.user_ids)
        return of_that_moment(past, bundle, log, self.test.start_us)
