import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from features.errors import DataError
from features.events import EVENT_SCHEMA, US_PER_DAY
from features.slates import ASSIGNMENT_SCHEMA
from jobs.experiments.interleaved_report import render_interleaved
from jobs.experiments.side_by_side import SideBySide
from recsys.evaluation.experiment.interleaved import Interleaved, analyse_interleaved
from recsys.evaluation.experiment.preferences import preference
from recsys.experiments.experiment import MIXED, Design, Experiment, Metric, Plan, Variant
from recsys.experiments.interleaving import team_draft
from recsys.experiments.lifecycle import drafted, started

START = datetime(2026, 3, 2, tzinfo=UTC)
START_US = int(START.timestamp() * 1e6)
CLICKS = Metric(name="clicks", event_type="click")


def running(**changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "mixed",
        "hypothesis": "new is liked",
        "kind": "interleave",
        "unit": "user",
        "variants": (Variant(key="control"), Variant(key="new", policy={"diversity": 0.5})),
        "plan": Plan(goals=(CLICKS,)),
    }
    return started(drafted(Design(**fields | changes), START), START, "", ())


class Shop:
    """What was shown and done, as the lake's tables."""

    def __init__(self) -> None:
        self.assignments: list[dict[str, object]] = []
        self.exposures: list[dict[str, object]] = []
        self.events: list[dict[str, object]] = []

    def show(
        self, request_id: str, user_id: str | None, items: str, teams: str, **given: Any
    ) -> None:
        day, first = given.pop("day", 1.0), given.pop("first", 0)
        self.assignments.append(
            {
                "request_id": request_id,
                "experiment": "mixed",
                "phase": 1,
                "variant": MIXED,
                "how": "hash",
                "unit_id": user_id,
                "user_id": user_id,
                "session_id": None,
                "placement": "home",
                "shown_at_us": START_US + int(day * US_PER_DAY),
                "n_items": len(items),
                "teams": teams,
            }
            | given
        )
        self.exposures += [
            {"request_id": request_id, "position": first + n, "item_id": item}
            for n, item in enumerate(items)
        ]

    def take(self, request_id: str | None, item: str, *, day: float = 1.1, **given: Any) -> None:
        self.events.append(
            {
                "event_id": f"e{len(self.events)}",
                "user_id": "u",
                "session_id": None,
                "item_id": item,
                "event_type": "click",
                "event_time_us": START_US + int(day * US_PER_DAY),
                "request_id": request_id,
                "value": None,
            }
            | given
        )

    def look(self, experiment: Experiment | None = None, *, days: float = 8.0) -> Interleaved:
        shown = {"request_id": pl.String(), "position": pl.Int32(), "item_id": pl.String()}
        return analyse_interleaved(
            experiment or running(),
            pl.DataFrame(self.assignments, ASSIGNMENT_SCHEMA),
            pl.DataFrame(self.exposures, shown),
            pl.DataFrame(self.events, EVENT_SCHEMA),
            as_of_us=START_US + int(days * US_PER_DAY),
        )


def wins(shop: Shop, **changes: Any) -> tuple[int, int, int]:
    return shop.look(running(**changes)).rows[0].preference.wins


def test_a_taken_item_counts_for_the_ranking_it_was_drafted_from() -> None:
    shop = Shop()
    shop.show("r1", "u1", "abc", "AB-")
    shop.show("r2", "u2", "abc", "BA-")
    shop.show("r3", "u3", "abc", "AB-")
    shop.take("r1", "a")
    shop.take("r2", "a")
    shop.take("r3", "c")  # of both
    assert wins(shop) == (1, 0, 1)


def test_a_unit_prefers_what_it_took_more_from_over_all_its_slates() -> None:
    shop = Shop()
    shop.show("r1", "u1", "abcd", "ABAB")
    shop.show("r2", "u1", "efgh", "BABA", day=1.2)
    shop.show("r3", "u2", "abcd", "ABAB")
    for request_id, item in (("r1", "a"), ("r1", "b"), ("r2", "e"), ("r3", "a"), ("r3", "b")):
        shop.take(request_id, item)
    assert wins(shop) == (0, 1, 1)


def test_an_item_that_is_clicked_often_is_taken_once() -> None:
    shop = Shop()
    shop.show("r1", "u1", "abcd", "ABAB")
    for item in "aaabd":
        shop.take("r1", item)
    assert wins(shop) == (0, 0, 1)


def test_values_count_with_their_amount_and_less_may_be_better() -> None:
    shop = Shop()
    shop.show("r1", "u1", "abcd", "ABAB")
    for item, value in (("a", 50.0), ("b", 10.0), ("d", 10.0), ("b", None)):
        shop.take("r1", item, value=value)
    spent = Metric(name="spent", event_type="click", of="value")
    assert wins(shop, plan=Plan(goals=(spent,))) == (1, 0, 0)
    less = spent.model_copy(update={"direction": "down"})
    assert wins(shop, plan=Plan(goals=(less,))) == (0, 0, 1)


def test_a_second_page_counts_its_teams_from_its_own_beginning() -> None:
    shop = Shop()
    shop.show("r1", "u1", "abcd", "ABAB", first=20)
    shop.take("r1", "b")
    assert wins(shop) == (0, 0, 1)


def test_what_names_no_slate_or_another_or_comes_too_late_is_not_credited() -> None:
    shop = Shop()
    shop.show("r1", "u1", "abcd", "ABAB")
    shop.take(None, "a")
    shop.take("other", "a")
    shop.take("r1", "z")
    shop.take("r1", "a", day=9.0)  # not known yet
    shop.take("r1", "b", event_type="view")
    assert wins(shop) == (0, 0, 0)
    shop.take("r1", "a", day=3.5)
    windowed = CLICKS.model_copy(update={"window_days": 2.0})
    assert wins(shop) == (1, 0, 0)
    assert wins(shop, plan=Plan(goals=(windowed,))) == (0, 0, 0)


def test_overrides_and_other_phases_are_left_out() -> None:
    shop = Shop()
    shop.show("r1", "u1", "ab", "AB", how="override")
    shop.show("r2", "u2", "ab", "AB", phase=2)
    shop.show("r3", None, "ab", "AB")
    shop.take("r1", "a")
    shop.take("r2", "a")
    found = shop.look()
    assert found.slates == 0
    assert found.verdict.standing == "unhealthy"
    assert found.verdict.words == "No verdict: No slate has been interleaved yet."


def test_the_preference_is_students_t_on_the_units() -> None:
    taken = np.array([1.0, 1, 1, 0, -1, 1, 0, 1, -1, 1])
    found = preference(taken, alpha=0.05, n_star=5_000)
    oracle = stats.ttest_1samp(taken / 2, 0)
    low, high = oracle.confidence_interval(0.95)
    assert found.wins == (2, 2, 6)
    assert found.d == pytest.approx((6 + 2 / 2) / 10 - 0.5, abs=1e-12)
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-12)
    assert found.p_value == pytest.approx(oracle.pvalue, abs=1e-12)
    assert found.anytime_low is not None
    assert found.anytime_low < low


def test_a_unanimous_preference_is_the_surest_of_all() -> None:
    found = preference(np.ones(1_000), alpha=0.05, n_star=5_000)
    assert (found.d, found.problem) == (0.5, None)
    assert found.p_anytime is not None
    assert found.p_anytime < 1e-9
    few = preference(np.ones(3), alpha=0.05, n_star=5_000)
    assert few.p_anytime is not None
    assert few.p_anytime > 0.2, "three may agree by chance"


@pytest.mark.parametrize("taken", [[], [1.0], [0.0, 0.0]])
def test_too_few_or_equal_preferences_are_a_word_and_no_number(taken: list[float]) -> None:
    found = preference(np.array(taken, np.float64), alpha=0.05, n_star=5_000)
    assert found.problem
    assert (found.se, found.p_anytime, found.low) == (None, None, None)


def crowd(relevance: Sequence[float], b: str, *, seed: int, n: int = 400) -> Shop:
    """`n` users see one slate each of the rankings "abcdefgh" and `b`, and click by relevance."""
    rng, shop, a = np.random.default_rng(seed), Shop(), "abcdefgh"
    for user in range(n):
        draft = team_draft(a, b, 6, seed=int(rng.integers(2**62)))
        items = "".join((a, b)[s][p] for s, p in zip(draft.sides, draft.places, strict=True))
        day = 7.5 * (user + 1) / n
        shop.show(f"r{user}", f"u{user}", items, draft.teams, day=day)
        for item in items:
            if rng.random() < relevance[ord(item) - ord("a")]:
                shop.take(f"r{user}", item, day=day + 0.01)
    return shop


LIKED = (0.02, 0.02, 0.02, 0.02, 0.1, 0.2, 0.3, 0.3)


def test_the_better_ranking_is_preferred_and_sent_to_an_ab_test() -> None:
    found = crowd(LIKED, "hgfedcba", seed=1).look()
    assert found.verdict.standing == "preferred"
    assert found.verdict.variant == "new"
    assert found.verdict.words.startswith("Screening: new is preferred by clicks, d +")
    assert "Test it in an A/B experiment before it ships." in found.verdict.words
    assert found.competitive == 1.0
    assert len(found.looks) == 8
    first, second = found.mean_positions
    assert first == pytest.approx(second or 0, abs=0.2)


def test_equally_good_rankings_are_not_preferred() -> None:
    alike = (0.15,) * 8
    for seed in range(5):
        found = crowd(alike, "badcfehg", seed=seed).look()
        assert found.verdict.standing == "collecting"
        assert "No preference is sure yet" in found.verdict.words


def test_rankings_that_are_the_same_are_said_to_be() -> None:
    found = crowd(LIKED, "abcdefgh", seed=1, n=60).look()
    assert "Both rankings show the same" in found.verdict.words
    assert found.competitive == 0.0


def test_a_coin_that_is_not_fair_forbids_a_verdict() -> None:
    shop = Shop()
    for user in range(200):
        shop.show(f"r{user}", f"u{user}", "ab", "AB", day=7.5)
        shop.take(f"r{user}", "a" if user % 3 else "b", day=7.6)
    found = shop.look()
    assert found.verdict.standing == "unhealthy"
    assert "a fair coin does not do that" in found.verdict.words


def test_before_the_planned_days_or_with_few_units_nothing_is_said() -> None:
    shop = crowd(LIKED, "hgfedcba", seed=1)
    early = shop.look(days=3.0)
    assert "Too early: at least 7 days were planned" in early.verdict.words
    few = crowd(LIKED, "hgfedcba", seed=1, n=40).look()
    assert "at least 50 must" in few.verdict.words


def test_only_what_is_interleaved_and_ran_is_analysed() -> None:
    with pytest.raises(DataError, match="is not interleaved: its units are compared"):
        Shop().look(running(kind="ab"))
    with pytest.raises(DataError, match="never ran"):
        Shop().look(drafted(running().design, START))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"goals": (CLICKS.model_copy(update={"kind": "proportion"}),)}, "expected a mean"),
        ({"goals": (CLICKS,), "guardrails": (Metric(name="g", event_type="v", margin=0.1),)}, "no"),
    ],
)
def test_a_plan_that_items_cannot_answer_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        running(plan=Plan(**changes))


def test_the_page_and_the_json_say_that_it_is_a_screening() -> None:
    experiment = running(hypothesis="<b>liked</b>")
    found = crowd(LIKED, "hgfedcba", seed=1).look(experiment)
    page = render_interleaved(found, SideBySide(placement="home"))
    assert "&lt;b&gt;liked" in page
    assert "Screening: new is preferred" in page
    assert "says nothing of how much more would be sold" in page
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["rows"][0]["preference"]["wins"] == list(found.rows[0].preference.wins)
    assert found.table()["n"].tolist() == [found.rows[0].preference.n]
    nothing = Shop().look(days=timedelta(hours=1) / timedelta(days=1))
    empty = render_interleaved(nothing, SideBySide(placement="home", problem="no shopper"))
    assert "No slate has been interleaved yet" in empty
