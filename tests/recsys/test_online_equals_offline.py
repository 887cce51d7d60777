"""A day replayed through the server's path gives the rows that the night learns from."""

from pathlib import Path

import numpy as np
import pytest

from features.arrays import Float32Array, Int32Array
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.interactions import SESSION, Interactions
from features.store import Store
from features.views import FEATURE_NAMES
from jobs.steps import link_tree
from recsys.policy import Policy
from recsys.progress import Silent
from recsys.recommender import Recommender
from recsys.training.queries import PastQueries, window_queries
from recsys.training.recipe import known_to
from recsys.training.rows import Labelled, labelled_batches
from recsys.types import Ask
from tests.tiny import TinyWorld, tiny_events

RECENT_EVENTS = 200  # as api/recommend.py asks the store
AS_RANKED = Policy(diversity=0, exploration=0)


@pytest.fixture(scope="module")
def past_recommender(
    tiny_world: TinyWorld, tiny_release: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    """What the night's ranker was trained on: first stages of before the label window."""
    folder = tmp_path_factory.mktemp("past")
    for name in ("encoder", "text", "past", "ranker"):
        (part,) = tiny_world.places.work.glob(f"{name}-*")
        link_tree(part, folder)
    root, release_id = tiny_release
    for name in ("items.parquet", "recommender.json"):
        (folder / name).write_bytes((root / release_id / name).read_bytes())
    return Recommender.load(folder, release_id="past")


def offline(recommender: Recommender) -> tuple[list[Labelled], Interactions]:
    """Every moment of a day in the middle of the label window, as the night asks about it."""
    bundle = recommender.bundle
    log = Interactions.build(tiny_events(), bundle.catalog.item_ids, DEFAULT_EVENT_TYPES)
    start_us = int(bundle.snapshots.ticks_us[len(bundle.snapshots.ticks_us) // 2])
    past = window_queries(
        log,
        start_us,
        start_us + US_PER_DAY,
        per_user=1_000,
        max_labels=1,
        rng=np.random.default_rng(0),
    )
    past = known_to(bundle.factors, past, log.user_ids)
    return list(labelled_batches(bundle, past, ("view",), AS_RANKED, Silent(), "rows")), log


def online(
    recommender: Recommender, store: Store, shopper: str, now_us: int, k: int
) -> tuple[Int32Array, Float32Array]:
    """Item rows and feature rows of all k candidates, in the order of their rows."""
    is_session = shopper.startswith(SESSION)
    user_id = None if is_session else shopper
    session_id = shopper.removeprefix(SESSION) if is_session else None
    ask = Ask(
        request_id="r",
        now_us=now_us,
        k=k,
        user_id=user_id,
        session_id=session_id,
        recent=store.recent_events(
            user_id=user_id, session_id=session_id, before_us=now_us, limit=RECENT_EVENTS
        ),
        policy=AS_RANKED,
    )
    slate = recommender.recommend(ask).slate
    order = np.argsort(slate.item_rows)
    return slate.item_rows[order], slate.features[order]


def differences(
    batch: Labelled, log: Interactions, recommender: Recommender, store: Store
) -> Float32Array:
    """(n_views,) the greatest absolute difference by view; infinite where one side is NaN."""
    worst = np.zeros(len(FEATURE_NAMES), np.float32)
    past: PastQueries = batch.past
    for query in range(len(past)):
        span = slice(*batch.candidates.offsets[query : query + 2])
        expected, rows = batch.features[span], batch.candidates.item_rows[span]
        shopper, now_us = log.user_ids[past.users[query]], int(past.queries.now_us[query])
        found_rows, found = online(recommender, store, shopper, now_us, len(rows))
        np.testing.assert_array_equal(found_rows, rows)
        gap = np.where(np.isnan(expected) & np.isnan(found), 0, np.abs(found - expected))
        worst = np.maximum(worst, np.nan_to_num(gap, nan=np.inf).max(axis=0, initial=0))
    return worst


def test_every_view_online_equals_its_point_in_time_value(
    past_recommender: Recommender, tiny_world: TinyWorld
) -> None:
    batches, log = offline(past_recommender)
    n_moments = sum(len(batch.past) for batch in batches)
    assert n_moments > 100
    with tiny_world.open_store() as store:
        worst = np.max([differences(b, log, past_recommender, store) for b in batches], axis=0)
    view = FEATURE_NAMES[int(worst.argmax())]
    assert worst.max() <= 1e-6, f"{view} differs by {worst.max():.2g} over {n_moments} moments"
