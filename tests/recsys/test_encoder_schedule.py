from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import ConfigError
from features.events import US_PER_DAY
from features.interactions import Interactions
from recsys.training.encoder.schedule import (
    Decision,
    EncoderSchedule,
    EncoderState,
    decide,
)

SCHEDULE = EncoderSchedule(refresh_days=30, min_new_shoppers=5, max_new_items=0.5)
LEARNED = 100 * US_PER_DAY
STATE = EncoderState(
    config="c",
    shipped="tuned",
    refreshed_us=LEARNED,
    learned_until_us=LEARNED,
    tried_until_us=LEARNED,
)


def log_of(new_shoppers: int, *, first_new_item: int = 0) -> Interactions:
    """Ten shoppers took items 0 to 9 before; the new ones take two from `first_new_item` on."""
    old = [(user, user, LEARNED - US_PER_DAY) for user in range(10)]
    new = [
        (10 + user, first_new_item + (user + step) % 5, LEARNED + step)
        for user in range(new_shoppers)
        for step in range(2)
    ]
    users, items, times = np.array(old + new).T
    n_users = int(users.max()) + 1
    return Interactions(
        user_ids=[str(user) for user in range(n_users)],
        indptr=np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n_users))]),
        user_rows=users.astype(np.int32),
        item_rows=items.astype(np.int32),
        types=np.zeros(len(users), np.int8),
        weights=np.ones(len(users), np.float32),
        time_us=times.astype(np.int64),
    )


def decision(
    state: EncoderState | None, log: Interactions, *, config: str = "c", days_later: int = 1
) -> Decision:
    return decide(state, config, log, LEARNED + days_later * US_PER_DAY, SCHEDULE)


def test_without_a_live_encoder_it_begins_at_the_base() -> None:
    assert decision(None, log_of(10)).action == "refresh"


def test_another_configuration_begins_again() -> None:
    assert decision(STATE, log_of(10), config="other").action == "refresh"


def test_an_encoder_that_knows_the_label_window_begins_again() -> None:
    found = decision(STATE, log_of(0), days_later=-1)
    assert found.action == "refresh"
    assert "label window" in found.reason


def test_too_few_new_shoppers_keep_the_live_encoder_and_the_reason_counts_them() -> None:
    found = decision(STATE, log_of(4))
    assert found.action == "keep"
    assert "4 shoppers" in found.reason
    assert "5 are needed" in found.reason


def test_shoppers_who_come_back_for_the_same_items_teach_nothing_new() -> None:
    log = log_of(10)
    nothing_met = replace(log, item_rows=(log.item_rows * 0))
    found = decision(STATE, nothing_met)
    assert found.action == "keep"
    assert found.reason.startswith("0 shoppers met another item")


def test_one_item_met_since_counts_where_the_shopper_had_met_another() -> None:
    log = log_of(5)
    first = np.flatnonzero(np.isin(np.arange(len(log)), log.indptr[10:-1]))
    times = log.time_us.copy()
    times[first] = LEARNED - 1
    assert decision(STATE, replace(log, time_us=times)).action == "continue"


def test_nothing_new_keeps_even_an_old_encoder() -> None:
    assert decision(STATE, log_of(0), days_later=400).action == "keep"


def test_enough_new_shoppers_continue_the_live_encoder() -> None:
    assert decision(STATE, log_of(5)).action == "continue"


def test_what_was_tried_in_vain_is_tried_again_with_more_shoppers() -> None:
    tried = replace(STATE, tried_until_us=LEARNED + US_PER_DAY)
    assert decision(tried, log_of(5), days_later=2).action == "keep"
    assert decision(replace(tried, tried_until_us=LEARNED), log_of(5)).action == "continue"


def test_a_month_later_it_begins_again() -> None:
    assert decision(STATE, log_of(5), days_later=29).action == "continue"
    assert decision(STATE, log_of(5), days_later=30).action == "refresh"


def test_where_the_base_is_live_more_shoppers_are_a_reason_to_try_again() -> None:
    base = replace(STATE, shipped="base")
    assert decision(base, log_of(4), days_later=7).action == "keep"
    assert decision(base, log_of(5), days_later=6).action == "keep"
    assert decision(base, log_of(5), days_later=7).action == "refresh"


def test_a_catalogue_that_has_turned_over_begins_again() -> None:
    found = decision(STATE, log_of(5, first_new_item=20))
    assert found.action == "refresh"
    assert "drift: 100%" in found.reason


def test_a_state_is_what_was_saved_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert EncoderState.load(tmp_path) is None
    STATE.save(tmp_path)
    assert EncoderState.load(tmp_path) == STATE
    (tmp_path / "state.json").write_text('{"config": 1}')
    assert EncoderState.load(tmp_path) is None


@pytest.mark.parametrize("wrong", [{"refresh_days": 0}, {"max_new_items": 0.0}])
def test_a_schedule_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected at least one day"):
        EncoderSchedule(**wrong)  # type: ignore[arg-type]
