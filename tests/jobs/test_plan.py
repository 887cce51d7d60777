"""Where a night is cut: never back into what the live encoder was taught."""

import numpy as np

from features.events import US_PER_DAY
from features.interactions import Interactions
from jobs.plan import Cuts, Plan

N_USERS, DAYS = 2_000, 60


def log_until(day: int, *, a_day: int = 40, quiet: range = range(0)) -> Interactions:
    """A different set of shoppers every day, in turn; two of them on quiet days."""
    found = [
        (user % N_USERS, when)
        for when in range(day)
        for user in range(when * a_day, when * a_day + (2 if when in quiet else a_day))
    ]
    users, days = np.array(sorted(found)).T
    return Interactions(
        user_ids=[str(user) for user in range(N_USERS)],
        indptr=np.concatenate([[0], np.cumsum(np.bincount(users, minlength=N_USERS))]),
        user_rows=users.astype(np.int32),
        item_rows=np.zeros(len(users), np.int32),
        types=np.zeros(len(users), np.int8),
        weights=np.ones(len(users), np.float32),
        time_us=(days * US_PER_DAY).astype(np.int64),
    )


def cuts(plan: Plan) -> Cuts:
    return Cuts(end_us=plan.as_of_us, label_us=plan.label_us, evaluation_us=plan.evaluation_us)


def nights(days: list[int], quiet: range = range(0)) -> list[Plan]:
    plans: list[Plan] = []
    for day in days:
        log = log_until(day, quiet=quiet)
        plans.append(Plan.of(log, day * US_PER_DAY, cuts(plans[-1]) if plans else None))
    return plans


def test_a_new_night_is_judged_by_what_came_after_the_live_release() -> None:
    first, second = nights([DAYS, DAYS + 1])
    assert first.evaluation_us < DAYS * US_PER_DAY - US_PER_DAY  # longer than a day
    assert second.evaluation_us == DAYS * US_PER_DAY


def test_a_night_without_news_is_cut_like_the_one_before() -> None:
    first, second, again, once_more = nights([DAYS, DAYS + 1, DAYS + 1, DAYS + 1])
    assert again == once_more == second != first


def test_quiet_days_do_not_move_the_cuts_back() -> None:
    days = [DAYS, *range(DAYS + 1, DAYS + 8)]
    plans = nights(days, quiet=range(DAYS + 2, DAYS + 6))
    labels = [plan.label_us for plan in plans]
    evaluations = [plan.evaluation_us for plan in plans]
    assert labels == sorted(labels)
    assert evaluations == sorted(evaluations)
    assert all(label < evaluation for label, evaluation in zip(labels, evaluations, strict=True))


def test_a_release_that_does_not_tell_its_cuts_only_ends_the_trial_before_it() -> None:
    log = log_until(DAYS)
    assert Plan.of(log, DAYS * US_PER_DAY, Cuts(end_us=DAYS * US_PER_DAY)) == nights([DAYS])[0]
