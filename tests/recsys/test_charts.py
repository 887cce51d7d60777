"""Said to be popular in a tag: true by counting again, in a shop of its own and in the tiny one."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import Int32Array
from features.events import US_PER_DAY
from features.items import ITEM_SCHEMA
from features.snapshot import NICHE_ITEMS, SNAPSHOT_VIEWS, Snapshots
from recsys.ranking.charts import FRESH_DAYS, LEAST_EVENTS, LEAST_SHARE, MOST_CHARTED, TagCharts
from recsys.recommender import Recommender
from tests.recsys.asks import ask
from tests.tiny import NOW_US, item_row

BIG, SMALL, RARE = range(3)
NAMES = ["Beauty", "Nail Polish", "Limited"]


def charts(tags: Int32Array, events: list[int]) -> TagCharts:
    values = np.zeros((1, len(tags), len(SNAPSHOT_VIEWS)), np.float32)
    values[0, :, SNAPSHOT_VIEWS.index("events_7d")] = np.log1p(events)
    return TagCharts(tags, NAMES, Snapshots(np.array([NOW_US]), values))


def shop(n: int) -> Int32Array:
    """All are Beauty, the first NICHE_ITEMS Nail Polish, the first of all Limited."""
    tags = np.full((n, 3), -1, np.int32)
    tags[:, 0] = BIG
    tags[:NICHE_ITEMS, 1] = SMALL
    tags[0, 2] = RARE
    return tags


def said(found: TagCharts, tags: Int32Array, *, now_us: int = NOW_US) -> list[str | None]:
    return found.said(np.arange(len(tags), dtype=np.int32), tags, now_us)


def test_the_top_of_the_rarest_tag_that_is_not_too_rare() -> None:
    tags = shop(60)
    events = [30 - i if i < NICHE_ITEMS else 100 for i in range(60)]
    found = said(charts(tags, events), tags)
    assert found[:5] == ["Nail Polish"] * 5  # a quarter of twenty
    assert found[5:NICHE_ITEMS] == [None] * 15
    assert found[NICHE_ITEMS:] == [None] * 40  # forty as popular as one another: no top ten


def test_a_single_event_is_no_popularity_and_equals_at_the_end_are_left_out() -> None:
    tags = shop(40)
    assert set(said(charts(tags, [1] + [0] * 39), tags)) == {None}
    ties = said(charts(tags, [9, 8, 7, 6, 5, 5] + [0] * 34), tags)
    assert ties[:6] == ["Nail Polish"] * 4 + [None] * 2


def test_it_is_said_only_while_it_is_news_and_the_item_has_the_tag() -> None:
    tags = shop(40)
    found = charts(tags, list(range(40, 0, -1)))
    assert said(found, tags)[0] == "Nail Polish"
    assert said(found, tags, now_us=NOW_US + FRESH_DAYS * US_PER_DAY + 1)[0] is None
    assert said(found, tags, now_us=NOW_US - 1)[0] is None  # a question about the past
    retagged = tags.copy()
    retagged[0, 1] = BIG
    assert said(found, retagged)[0] is None
    later = np.vstack([tags, tags[:1]])  # an item that came since
    assert said(found, later)[-1] is None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1_000), n=st.integers(1, 120))
def test_whatever_is_said_is_true_by_counting_again(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tags = np.where(rng.random((n, 3)) < 0.6, np.arange(3), -1).astype(np.int32)
    tags = np.take_along_axis(tags, np.argsort(tags < 0, axis=1, kind="stable"), axis=1)
    events = rng.poisson(3, n)
    for row, name in enumerate(said(charts(tags, events.tolist()), tags)):
        sizes = {t: int((tags == t).any(axis=1).sum()) for t in tags[row].tolist() if t >= 0}
        enough = [t for t, size in sizes.items() if size >= NICHE_ITEMS]
        if name is None:
            continue
        tag = NAMES.index(name)
        assert tag in enough
        assert sizes[tag] == min(sizes[t] for t in enough)
        with_tag = events[(tags == tag).any(axis=1)]
        place = int((with_tag >= events[row]).sum())
        assert place <= min(MOST_CHARTED, sizes[tag] // LEAST_SHARE)
        assert events[row] >= LEAST_EVENTS


def test_a_shop_without_tags_or_items_says_nothing() -> None:
    none = np.full((4, 3), -1, np.int32)
    assert said(charts(none, [9, 9, 9, 9]), none) == [None] * 4
    assert said(charts(none[:0], []), none[:0]) == []


@pytest.fixture
def with_a_big_tag(tiny_recommender: Recommender) -> Recommender:
    """Every item is tagged "shop" too: the tags of ten and six are too rare for a chart."""
    ids = tiny_recommender.catalog.item_ids
    rows = [item_row(*item_id.split("-")) for item_id in ids]
    items = pl.DataFrame(
        [{**row, "tags": [*row["tags"], "shop"]} for row in rows],  # type: ignore[misc]
        schema=ITEM_SCHEMA,
    )
    tiny_recommender.catalog.put(items)
    bundle = tiny_recommender.bundle
    catalog = tiny_recommender.catalog
    bundle.charts = TagCharts(catalog.tags, list(catalog.tag_row_of), bundle.snapshots)
    return tiny_recommender


def test_a_slate_names_the_popular_ones_and_they_are(with_a_big_tag: Recommender) -> None:
    bundle = with_a_big_tag.bundle
    answer = with_a_big_tag.recommend(ask(k=60))
    week = bundle.snapshots.values[-1, :, SNAPSHOT_VIEWS.index("events_7d")]
    best = np.sort(week)[::-1]
    popular = [
        row
        for row, why in zip(answer.slate.item_rows, answer.reasons, strict=True)
        if "popular in shop this week" in why
    ]
    assert 0 < len(popular) <= MOST_CHARTED
    assert (week[popular] > best[MOST_CHARTED]).all() or len(popular) == MOST_CHARTED
    assert sorted(week[popular])[::-1] == best[: len(popular)].tolist()
