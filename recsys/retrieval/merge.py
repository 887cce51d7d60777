"""Many sources' answers become one table of candidates."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from features.views import SOURCES
from recsys.types import Candidates, CandidateSource, Queries, Retrieved

log = logging.getLogger(__name__)
_NONE = np.empty(0, np.int64)
_NO_ROWS = np.empty(0, np.int32)


def retrieve(
    sources: Sequence[CandidateSource],
    queries: Queries,
    sizes: Mapping[str, int],
    *,
    beyond_history: bool = False,
) -> tuple[dict[str, Retrieved], list[str]]:
    """Ask every source the policy gives a size, as `ask` does; name those that failed."""
    answers: dict[str, Retrieved] = {}
    failed: list[str] = []
    for source in sources:
        n = sizes.get(source.name, 0)
        if n <= 0:
            continue
        try:
            answers[source.name] = ask(source, queries, n, beyond_history=beyond_history)
        except Exception:  # one broken source must not cost the answer
            log.exception("candidate source failed source=%s", source.name)
            failed.append(source.name)
    return answers, failed


def ask(source: CandidateSource, queries: Queries, n: int, *, beyond_history: bool) -> Retrieved:
    """The n best a query; `beyond_history`, the n best that are not in its history.

    Those of the history that the source put between them stay, for a filter to remove and count.
    Without this, a sixth of what co-visitation answered on MovieLens was seen before.
    """
    if not beyond_history:
        return source.candidates(queries, n)
    found = source.candidates(queries, n + queries.history_rows.shape[1])
    if len(queries) == 1:
        return _first_unseen(found, queries.history_rows[0], n)
    known = (found.item_rows[:, :, None] == queries.history_rows[:, None, :]).any(axis=2)
    enough = np.cumsum(~known, axis=1) > n
    return Retrieved(
        np.where(enough, np.int32(-1), found.item_rows),
        np.where(enough, np.float32(np.nan), found.scores),
        found.query_vectors,
    )


def _first_unseen(found: Retrieved, history: Int32Array, n: int) -> Retrieved:
    """As `ask` of one query, without what would be padding."""
    past, rows = np.sort(history), found.item_rows[0]
    known = past[np.minimum(np.searchsorted(past, rows), len(past) - 1)] == rows
    stop = np.searchsorted(np.cumsum(~known), n, side="right")
    return Retrieved(found.item_rows[:, :stop], found.scores[:, :stop], found.query_vectors)


def merge(answers: Mapping[str, Retrieved], n_queries: int) -> Candidates:
    """One row for each (query, item), ordered by query and item row; score columns as SOURCES."""
    if n_queries == 1:
        return _merged(answers)
    found: list[tuple[int, Retrieved, Int64Array, Int64Array]] = []
    for column, name in enumerate(SOURCES):
        if name in answers:
            query, rank = np.nonzero(answers[name].item_rows >= 0)
            found.append((column, answers[name], query, rank))
    queries = np.concatenate([_NONE, *(query for _, _, query, _ in found)])
    items = np.concatenate([_NONE, *(a.item_rows[q, rank] for _, a, q, rank in found)])
    keys, row = np.unique(queries << 32 | items, return_inverse=True)
    columns = np.concatenate([_NONE, *(np.full(len(q), column) for column, _, q, _ in found)])
    source_scores = np.full((len(keys), len(SOURCES)), np.nan, np.float32)
    source_ranks = source_scores.copy()
    source_scores[row, columns] = np.concatenate(
        [_NONE, *(answer.scores[q, rank] for _, answer, q, rank in found)]
    )
    source_ranks[row, columns] = np.concatenate([_NONE, *(rank for _, _, _, rank in found)])
    return Candidates(
        offsets=np.searchsorted(keys >> 32, np.arange(n_queries + 1)).astype(np.int64),
        item_rows=(keys & 0xFFFFFFFF).astype(np.int32),
        source_scores=source_scores,
        source_ranks=source_ranks,
        query_vectors=_query_vectors(answers),
    )


def _merged(answers: Mapping[str, Retrieved]) -> Candidates:
    """As `merge` of one query, with a third of the steps."""
    found = [(column, answers[name]) for column, name in enumerate(SOURCES) if name in answers]
    kept = [(column, a, np.flatnonzero(a.item_rows[0] >= 0)) for column, a in found]
    sizes = [len(rank) for _, _, rank in kept]
    items = np.concatenate([_NO_ROWS, *(a.item_rows[0][rank] for _, a, rank in kept)])
    order = np.argsort(items, kind="stable")
    ordered = items[order]
    is_first = np.ones(len(ordered), np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    row = np.empty(len(items), np.int64)
    row[order] = np.cumsum(is_first) - 1
    rows = ordered[is_first]
    columns = np.repeat([column for column, _, _ in kept] or _NONE, sizes or _NONE)
    source_scores = np.full((len(rows), len(SOURCES)), np.nan, np.float32)
    source_ranks = source_scores.copy()
    source_scores[row, columns] = np.concatenate([_NONE, *(a.scores[0][r] for _, a, r in kept)])
    source_ranks[row, columns] = np.concatenate([_NONE, *(rank for _, _, rank in kept)])
    return Candidates(
        offsets=np.array([0, len(rows)], np.int64),
        item_rows=rows,
        source_scores=source_scores,
        source_ranks=source_ranks,
        query_vectors=_query_vectors(answers),
    )


def _query_vectors(answers: Mapping[str, Retrieved]) -> dict[str, Float32Array]:
    vectors = {name: answer.query_vectors for name, answer in answers.items()}
    return {name: rows for name, rows in vectors.items() if rows is not None}


def select(candidates: Candidates, keep: BoolArray) -> Candidates:
    """The kept rows, still grouped by query."""
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    return Candidates(
        offsets=kept_before[candidates.offsets].astype(np.int64),
        item_rows=candidates.item_rows[keep],
        source_scores=candidates.source_scores[keep],
        source_ranks=candidates.source_ranks[keep],
        query_vectors=candidates.query_vectors,
    )
