"""A dismissal is heard: the item and its likes are lower in the very next answer."""

from collections.abc import Sequence

import numpy as np
import pytest

from features.events import US_PER_SECOND, RecentEvents
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.types import Answer, Ask
from tests.tiny import NOW_US

DISMISSED = "red-hat"
LIKED = ("red-shirt", "blue-shirt")
EVERYTHING = Policy(exploration=0, diversity=0, filter_viewed=False)


def answer(
    recommender: Recommender, kinds: Sequence[str], item_ids: Sequence[str], policy: Policy
) -> Answer:
    """All 60 items in order, for a shopper with these events a minute apart."""
    ages = np.arange(len(item_ids), 0, -1) * 60 * US_PER_SECOND
    ask = Ask(
        request_id="r",
        now_us=NOW_US,
        k=60,
        recent=RecentEvents(item_ids, kinds, NOW_US - ages),
        explain=True,
        policy=policy,
    )
    return recommender.recommend(ask)


def place_of(found: Answer, *item_ids: str) -> float:
    """Mean position."""
    return float(np.mean([found.item_ids.index(item_id) for item_id in item_ids]))


@pytest.fixture
def answers(tiny_recommender: Recommender) -> tuple[Answer, Answer]:
    """The same request before and after one dismissal."""
    before = answer(tiny_recommender, ["click"] * 2, LIKED, EVERYTHING)
    after = answer(tiny_recommender, ["click", "click", "dismiss"], (*LIKED, DISMISSED), EVERYTHING)
    return before, after


def test_a_dismissed_item_falls_and_those_like_it_too(answers: tuple[Answer, Answer]) -> None:
    before, after = answers
    assert place_of(after, DISMISSED) > place_of(before, DISMISSED)
    color = DISMISSED.split("-")[0]
    alike = [i for i in before.item_ids if i.startswith(color) and i not in (*LIKED, DISMISSED)]
    assert len(alike) > 5
    assert place_of(after, *alike) > place_of(before, *alike) + 2


def test_what_was_dismissed_is_not_shown_again(tiny_recommender: Recommender) -> None:
    found = answer(tiny_recommender, ["dismiss"], [DISMISSED], Policy(exploration=0))
    assert DISMISSED not in found.item_ids


def test_the_likelier_a_dismissal_the_lower_the_item_where_it_weighs_enough(
    tiny_recommender: Recommender,
) -> None:
    assert "dismiss" in tiny_recommender.actions
    only = dict.fromkeys(tiny_recommender.actions, 0.0) | {"dismiss": -4.0}
    policy = EVERYTHING.model_copy(update={"action_weights": only})
    found = answer(tiny_recommender, ["click"] * 2, LIKED, policy)
    assert found.explanations is not None
    chances = [entry["probabilities"]["dismiss"] for entry in found.explanations]  # type: ignore[index]
    assert chances == sorted(chances)
    assert chances[-1] > chances[0]
    np.testing.assert_allclose(found.slate.scores, -4.0 * np.array(chances), rtol=1e-4)
