"""Import → night → a day of shopping through the server → night: is the shop better for it?

The sample knows what its shoppers truly want, so the answer does not depend on what they were
shown. What is learned does: the day explores half of its positions, as a young shop should. With
the default of one in twenty the second night mostly learns what the first one chose to show, and
gains nothing that could be told from chance (seed 0: +0.3 ± 0.3, seed 1: 0.0 ± 0.3). It learns
from the day's events alone: the day itself is what it is judged on, so its slates teach the ranker
one night later, when they lie before the evaluation window.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from features.arrays import Float64Array
from jobs.sample import Size
from recsys.evaluation.bootstrap import paired_bootstrap
from tests.api.conftest import until
from tests.story.small_shop import (
    SmallShop,
    best_unseen,
    live_a_day,
    popular_unseen,
    slates_for,
    true_values,
)

# A log of 15 events a shopper, then a day that more than doubles it.
SIZE = Size(n_events=6_000, n_users=400, n_items=300, n_days=4)
VISITS = 6_000  # gains +.8 to +1.2 from run to run; of 3,000 +.2 to +1.2, which may be chance
EXPLORATION = 0.5  # gains at .05, .3 and .6, seed 0: +4 %, +6 %, +13 %
JUDGES = 300  # shoppers whose slates are compared
NOON_US = 12 * 3_600 * 1_000_000


@pytest.mark.timeout(900)  # thousands of requests and two nights, beside another worker's
def test_the_second_night_is_worth_more_to_the_same_shoppers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = SmallShop.opened(tmp_path, seed=0, size=SIZE)
    truth, lived, next_day = shop.truth, SIZE.n_days, SIZE.n_days + 1
    judges = [truth.shoppers.user_id(row) for row in range(JUDGES)]
    first = shop.night(before_day=lived)
    assert first.published, first.reason
    with shop.server() as client:
        assert client.serves(str(first.release_id))
        events = live_a_day(client, truth, lived, VISITS, EXPLORATION)
        _check_the_record(shop, events)
        slates = {"first night": slates_for(client, judges)}
        second = shop.night(before_day=next_day)
        assert second.published, second.reason
        until(lambda: client.serves(str(second.release_id)), within_s=30)
        slates["second night"] = slates_for(client, judges)

    at_us = shop.morning_us(next_day) + NOON_US
    seen = shop.stored_events()
    slates["popularity"] = popular_unseen(seen, judges)
    slates["ideal"] = best_unseen(truth, seen, judges, at_us)
    values = {name: true_values(truth, found, at_us) for name, found in slates.items()}
    gain = paired_bootstrap(values["second night"], values["first night"], seed=0).interval
    with capsys.disabled():
        _show(values, f"gain {gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
    assert gain.low > 0
    assert values["popularity"].mean() < values["second night"].mean() < values["ideal"].mean()


def _check_the_record(shop: SmallShop, events: pl.DataFrame) -> None:
    """Nothing that happened that day is missing, and slates and events know of each other."""
    stored = shop.stored_events().filter(pl.col("event_id").is_in(events["event_id"].implode()))
    key = "event_id"
    assert stored.select(events.columns).sort(key).equals(events.sort(key))
    shown = events["request_id"].drop_nulls().unique()
    assert len(shown) > VISITS / 2
    until(lambda: shop.counts()["slates"] >= shop.n_logged_slates + VISITS)


def _show(values: Mapping[str, Float64Array], gain: str) -> None:
    worth = ", ".join(f"{name} {value.mean():.2f}" for name, value in values.items())
    print(f"\ntrue utility of a slate: {worth}; {gain}")  # noqa: T201  what the story is told for
