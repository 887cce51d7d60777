"""Which outcomes belong to which slate, on tables small enough to see through."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from features.events import EVENT_SCHEMA, MAX_CLOCK_SKEW_US, US_PER_SECOND
from features.slates import SlateRecord, exposures
from features.views import FEATURE_NAMES, SOURCES
from recsys.training.exposures import OUTCOME_WINDOW_US, PastSlates, exposure_rows
from recsys.training.queries import RankingRows

NOON_US = 20_000 * 86_400 * US_PER_SECOND
LATE_US = NOON_US + 10 * OUTCOME_WINDOW_US
ACTIONS = ("click", "dismiss")
VIEW = 3  # a column


@dataclass(frozen=True, slots=True)
class Told:
    """An event `after_s` seconds after noon."""

    item_id: str
    after_s: float
    event_type: str = "click"
    request_id: str | None = None
    user_id: str | None = "ann"
    session_id: str | None = None


def slate(
    request_id: str, *item_ids: str, after_s: float = 0, user_id: str | None = "ann"
) -> SlateRecord:
    """In column VIEW each item has its position, NaN elsewhere."""
    k = len(item_ids)
    features = np.full((k, len(FEATURE_NAMES)), np.nan, np.float32)
    features[:, VIEW] = np.arange(k)
    return SlateRecord(
        request_id=request_id,
        user_id=user_id,
        session_id="s1",
        placement="home",
        shown_at_us=NOON_US + int(after_s * US_PER_SECOND),
        release_id="release",
        item_ids=item_ids,
        propensities=np.ones(k, np.float32),
        scores=np.ones(k, np.float32),
        source_scores=np.ones((k, len(SOURCES)), np.float32),
        features=features,
    )


def rows(
    slates: list[SlateRecord],
    events: list[Told],
    *,
    end_us: int = LATE_US,
    max_slates: int = 100,
    held_out_share: float = 0.0,
    actions: tuple[str, ...] = ACTIONS,
) -> RankingRows:
    told = [
        {
            "event_id": f"e{n}",
            "user_id": event.user_id,
            "session_id": event.session_id,
            "item_id": event.item_id,
            "event_type": event.event_type,
            "event_time_us": NOON_US + int(event.after_s * US_PER_SECOND),
            "request_id": event.request_id,
            "value": None,
        }
        for n, event in enumerate(events)
    ]
    past = PastSlates(exposures(slates).lazy(), pl.DataFrame(told, schema=EVENT_SCHEMA))
    return exposure_rows(
        past,
        actions,
        end_us=end_us,
        max_slates=max_slates,
        held_out_share=held_out_share,
        rng=np.random.default_rng(0),
    )


def test_an_event_of_the_request_labels_its_item_and_no_other() -> None:
    found = rows(
        [slate("r1", "a", "b", "c"), slate("r2", "b", "a", after_s=60)],
        [
            Told("b", 90, request_id="r1"),
            Told("b", 95, "dismiss", request_id="r1"),
            Told("a", 95, request_id="r2"),
            Told("z", 95, request_id="r2"),
            Told("b", 95, "view", request_id="r2"),  # no action of this ranker
        ],
    )
    np.testing.assert_array_equal(found.offsets, [0, 3, 5])
    np.testing.assert_array_equal(found.labels, [[0, 0], [1, 1], [0, 0], [0, 0], [1, 0]])
    np.testing.assert_array_equal(found.positions, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(found.features[:, VIEW], [0, 1, 2, 0, 1])
    assert np.isnan(found.features[:, VIEW + 1]).all()
    assert not found.held_out.any()


def test_an_event_without_a_request_belongs_to_the_last_slate_that_showed_it_to_that_shopper() -> (
    None
):
    slates = [slate("r1", "a", "b"), slate("r2", "a", "c", after_s=60), slate("r3", "b", after_s=9)]
    found = rows([*slates, slate("r4", "a", user_id="bob", after_s=70)], [Told("a", 90)])
    np.testing.assert_array_equal(found.labels[:, 0], [1, 0])
    np.testing.assert_array_equal(found.positions, [0, 1])
    assert len(rows(slates, [Told("a", 90, user_id="eve")])) == 0
    assert len(rows([slate("r", "a", user_id=None)], [Told("a", 9, user_id=None, session_id="s1")]))


@pytest.mark.parametrize(
    ("after_s", "request_id", "counts"),
    [
        (0.0, None, False),
        (1.0, None, True),
        (OUTCOME_WINDOW_US / US_PER_SECOND, None, True),
        (OUTCOME_WINDOW_US / US_PER_SECOND + 1, None, False),
        (OUTCOME_WINDOW_US / US_PER_SECOND + 1, "r1", True),
        (1 - MAX_CLOCK_SKEW_US / US_PER_SECOND, "r1", True),  # a browser's clock that is late
        (-MAX_CLOCK_SKEW_US / US_PER_SECOND, "r1", False),
    ],
)
def test_only_what_came_after_the_slate_counts(
    after_s: float, request_id: str | None, counts: bool
) -> None:
    found = rows([slate("r1", "a", "b")], [Told("a", after_s, request_id=request_id)])
    assert len(found) == int(counts)


def test_neither_slates_nor_outcomes_from_the_cut_on_are_learned() -> None:
    slates = [slate("r1", "a"), slate("r2", "a", after_s=100)]
    events = [Told("a", 50, request_id="r1"), Told("a", 150, request_id="r2")]
    for after_s, n_slates in ((50, 0), (51, 1), (150, 1), (151, 2)):
        cut = NOON_US + after_s * US_PER_SECOND
        assert len(rows(slates, events, end_us=cut)) == n_slates


def test_slates_without_outcome_are_only_held_out_and_the_newest_are_kept() -> None:
    slates = [slate(f"r{n:02}", "a", "b", after_s=n) for n in range(40)]
    events = [Told("a", 1_000, request_id=f"r{n:02}") for n in range(0, 40, 2)]
    found = rows(slates, events, held_out_share=0.5)
    has_outcome = np.add.reduceat(found.labels[:, 0], found.offsets[:-1]) > 0
    assert has_outcome.sum() == 20
    assert 2 < (~has_outcome).sum() < 18
    assert found.held_out[~has_outcome].all()
    assert not found.held_out[has_outcome].all()
    assert len(rows(slates, events, max_slates=5)) == 5


def test_no_slates_are_no_rows() -> None:
    found = rows([], [Told("a", 1)])
    assert len(found) == 0
    assert found.features.shape == (0, len(FEATURE_NAMES))
    assert found.labels.shape == (0, 2)


def test_a_shop_where_nobody_did_anything_yet_has_slates_and_no_rows() -> None:
    assert len(rows([slate("r1", "a", "b")], [], actions=())) == 0
    assert len(rows([], [], actions=())) == 0
