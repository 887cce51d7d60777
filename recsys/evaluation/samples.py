"""A few shoppers to look at: what they knew, what they took, what they would have been shown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Int32Array, Int64Array
from features.views import SOURCES
from recsys.bundle import Bundle
from recsys.evaluation.metrics import RowSets
from recsys.evaluation.offline import positive_actions
from recsys.evaluation.slices import history_bucket
from recsys.policy import Policy
from recsys.progress import Silent
from recsys.ranking.features import history_of
from recsys.ranking.reasons import Evidence, reasons
from recsys.telling import newness
from recsys.training.queries import PastQueries
from recsys.training.rows import labelled_batches

N_SAMPLES = 6
N_HISTORY = 8  # events told of each
K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleShopper:
    """Item rows of the trial's catalogue; lists best first."""

    user_id: str
    events_known: int  # before the cut, of which `history` is the end
    history: tuple[int, ...]  # latest first
    history_events: tuple[str, ...]  # event type of each
    taken: tuple[int, ...]  # after the cut and new to them: what a list could hit
    lists: dict[str, tuple[int, ...]]  # ranker, trending, live → up to ten
    reasons: tuple[tuple[str, ...], ...]  # sentences for each item of the ranker's list


def varied_shoppers(events_known: Int64Array, *, seed: int, n: int = N_SAMPLES) -> Int64Array:
    """Up to n of the shoppers, drawn evenly from the buckets of history length, shortest first."""
    bucket = history_bucket(events_known)
    draw = np.random.default_rng(seed).permutation(len(bucket))
    order = draw[np.argsort(bucket[draw], kind="stable")]
    start = np.searchsorted(bucket[order], bucket[order])
    turn = np.arange(len(order)) - start  # first of each bucket, then second of each
    chosen = order[np.lexsort((bucket[order], turn))][:n]
    return chosen[np.argsort(events_known[chosen], kind="stable")]


def sample_shoppers(
    bundle: Bundle,
    past: PastQueries,
    user_ids: Sequence[str],
    relevant: RowSets,
    lists: Mapping[str, Int32Array],
    policy: Policy,
) -> tuple[SampleShopper, ...]:
    """One for each of `past`; `user_ids`, `relevant` and `lists` (n, width) are aligned with it."""
    if len(past) == 0:
        return ()
    kinds = [kind.name for kind in bundle.event_types]
    queries = past.queries
    shoppers = []
    for query, why in enumerate(_reasons(bundle, past, lists["ranker"][:, :K], policy)):
        known = np.flatnonzero(queries.history_rows[query] >= 0)[: -N_HISTORY - 1 : -1]
        shoppers.append(
            SampleShopper(
                user_id=user_ids[query],
                events_known=int(np.diff(past.seen_indptr)[query]),
                history=tuple(queries.history_rows[query][known].tolist()),
                history_events=tuple(kinds[kind] for kind in queries.history_types[query][known]),
                taken=tuple(relevant.of_user(query).tolist()),
                lists={name: _listed(rows[query, :K]) for name, rows in lists.items()},
                reasons=why,
            )
        )
    return tuple(shoppers)


def _reasons(
    bundle: Bundle, past: PastQueries, top: Int32Array, policy: Policy
) -> Iterator[tuple[tuple[str, ...], ...]]:
    """For each query what a request would say of the items `top` (n, k), which it had ranked."""
    batches = labelled_batches(bundle, past, positive_actions(bundle), policy, Silent(), label="")
    (batch,) = batches
    found, weights = batch.candidates, bundle.type_weights
    for query, rows in enumerate(map(_listed, top)):
        start, stop = found.offsets[query : query + 2]
        ranks = dict(zip(found.item_rows[start:stop], found.source_ranks[start:stop], strict=True))
        trending = found.source_scores[start:stop, SOURCES.index("trending")]
        popular = set(found.item_rows[start:stop][trending > 0].tolist())
        unknown = np.full(len(SOURCES), np.nan, np.float32)
        is_known = past.queries.history_rows[query] >= 0
        verbs = past.queries.history_types[query][is_known]
        item_rows, now_us = np.array(rows, np.int32), int(past.queries.now_us[query])
        known = Evidence(
            item_rows=item_rows,
            source_ranks=np.array([ranks.get(r, unknown) for r in rows]).reshape(-1, len(SOURCES)),
            is_popular=np.isin(item_rows, list(popular)),
            is_new=newness(bundle.catalog.published_at_us[item_rows], now_us),
            titles=bundle.catalog.titles,
            relations=bundle.feature_inputs.relations,
            history=history_of(past.queries, query, weights),
            verbs=[bundle.event_types[kind].name for kind in verbs],
        )
        yield reasons(known)


def _listed(rows: Int32Array) -> tuple[int, ...]:
    return tuple(rows[rows >= 0].tolist())
