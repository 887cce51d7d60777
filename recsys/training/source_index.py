"""Chooses how the day searches the vectors of the sequence model and of the factors."""

from pathlib import Path

import numpy as np

from features.arrays import Float32Array
from features.interactions import Interactions
from recsys.progress import Progress
from recsys.retrieval.collaborative import FactorModel
from recsys.retrieval.sequence import ITEMS_FILE, SequenceModel
from recsys.retrieval.shortlist import IndexReport
from recsys.retrieval.sources import Collaborative, NextItem
from recsys.training.index import IndexConfig, choose_index
from recsys.training.queries import without_outcome
from recsys.training.text import spread


def index_sources(
    past: Interactions,
    type_weights: Float32Array,
    until_us: int,
    config: IndexConfig,
    folder: Path,
    progress: Progress,
) -> dict[str, IndexReport]:
    """Beside the items of `folder`'s sequence/ and collaborative/, by folder.

    Tried with what the day would ask for shoppers of `past`, as they were at `until_us`. Small
    catalogues get none: they are searched exactly.
    """
    users = spread(len(past.indptr) - 1).astype(np.int32)
    queries = without_outcome(past, users, np.full(len(users), until_us, np.int64)).queries
    reports = {}
    for name, source in (
        ("sequence", NextItem(SequenceModel.load(folder / "sequence"), type_weights)),
        ("collaborative", Collaborative(FactorModel.load(folder / "collaborative"), type_weights)),
    ):
        index = source.model.index
        if len(index) < config.half_from:
            continue
        asked = source.candidates(queries, 1).query_vectors
        assert asked is not None  # both sources have vectors
        choice = choose_index(index.vectors, sample_queries=asked, config=config, progress=progress)
        choice.save(folder / name / ITEMS_FILE)
        progress.say(f"index of {name}: {choice.report.kind}, {choice.report.reason}")
        reports[name] = choice.report
    return reports
