"""What rules do to slates: hidden, pinned, moved, limited; and what exploration may not undo."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.items import ITEM_SCHEMA
from recsys.expression import parse
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.rules import Boost, Bury, Hide, Pin, Quota, Rule
from recsys.types import Answer
from tests.recsys.asks import CERTAIN, IN_ORDER, RED, ask, colors, placed, things
from tests.tiny import item_row

COLOR_LOVED = 'color = "red"'


def rule(rule_id: str, then: Hide | Pin | Boost | Bury | Quota, context: str | None = None) -> Rule:
    return Rule(rule_id=rule_id, then=then, context=context)


def hide(where: str, rule_id: str = "hide") -> Rule:
    return rule(rule_id, Hide(action="hide", where=where))


def pin(item_id: str, position: int, rule_id: str = "pin") -> Rule:
    return rule(rule_id, Pin(action="pin", item_id=item_id, position=position))


def at_most(n: int, attribute: str, where: str | None = None, rule_id: str = "quota") -> Rule:
    return rule(rule_id, Quota(action="quota", attribute=attribute, at_most=n, where=where))


@pytest.mark.parametrize(("then", "first"), [(Boost, "pink"), (Bury, "other")])
def test_rules_move_items_whose_scores_are_all_equal(
    tiny_recommender: Recommender, then: type[Boost] | type[Bury], first: str
) -> None:
    """As in a shop that nobody has shopped in yet."""
    tiny_recommender.bundle.ranker = None
    pink_or_white = (parse('tags in ("pink", "white")'),)
    moved = then(action=then.__name__.lower(), where='tags = "pink"', strength=0.5)  # type: ignore[arg-type]
    policy = IN_ORDER.changed_by({"sources": {}})
    asked = ask(filters=pink_or_white, k=20, policy=policy, rules=(rule("move", moved),))
    shown = colors(tiny_recommender.recommend(asked).item_ids)
    assert sorted(shown) == sorted(["pink", "white"] * 10)
    assert (set(shown[:10]) == {"pink"}) == (first == "pink")


def test_a_quota_counts_titles(tiny_recommender: Recommender) -> None:
    rows = [item_row("red", "shirt", item_id=f"shirt-{n}") for n in range(5)]
    items = pl.DataFrame(rows, schema=ITEM_SCHEMA)
    tiny_recommender.put_items(items, tiny_recommender.embed_items(items))
    shirts = (parse('title = "red shirt"'),)
    answer = tiny_recommender.recommend(ask(filters=shirts, rules=(at_most(2, "title"),)))
    assert len(answer.item_ids) == 2


@pytest.mark.parametrize("name", ["home", "search", "trending", "similar", "because_you_viewed"])
def test_rules_hold_in_every_placement(tiny_recommender: Recommender, name: str) -> None:
    rules = (hide('tags = "hat"'), pin("pink-coat", 1), at_most(2, "color"))
    words = {"words": "red hat"} if name == "search" else {}
    answer = tiny_recommender.recommend(
        placed(name, rules=rules, recent=RED, context_item_ids=("blue-ring",), **words)
    )
    assert len(answer.item_ids) == 10
    assert "hat" not in things(answer.item_ids)
    assert answer.item_ids[1] == "pink-coat"
    assert max(Counter(colors(answer.item_ids)).values()) <= 2


def test_hidden_items_are_counted_and_never_come_back(tiny_recommender: Recommender) -> None:
    rules = (hide(COLOR_LOVED, "a"), hide('tags = "hat" or tags = "red"', "b"))
    answer = tiny_recommender.recommend(ask(k=500, rules=rules))
    assert len(answer.item_ids) == 45  # 60 without ten red ones and five hats of other colours
    assert answer.fired == {"a": 10, "b": 5}
    assert answer.removed == {"hidden": 15}
    everything = tiny_recommender.recommend(ask(rules=(hide("item_id exists"),)))
    assert everything.item_ids == ()


def test_a_pin_stands_at_its_position_though_no_source_found_it_and_it_was_seen(
    tiny_recommender: Recommender,
) -> None:
    few = Policy(exploration=0, sources={"co_visited": 5})
    asked = ask(recent=RED, policy=few, rules=(pin("red-hat", 0, "a"), pin("pink-hat", 4, "b")))
    answer = tiny_recommender.recommend(asked)
    assert answer.item_ids[0] == "red-hat"
    assert answer.item_ids[4] == "pink-hat"
    assert answer.fired == {"a": 1, "b": 1}
    assert answer.slate.propensities[[0, 4]].tolist() == [1, 1]
    assert np.isfinite(answer.slate.probabilities).all()


def test_a_pin_yields_to_filters_hides_exclusions_context_and_availability(
    tiny_recommender: Recommender,
) -> None:
    rules = (pin("red-hat", 0),)
    blue = (parse('tags = "blue"'),)
    gone: list[Answer] = [
        tiny_recommender.recommend(ask(rules=rules, filters=blue)),
        tiny_recommender.recommend(ask(rules=(*rules, hide('tags = "hat"')))),
        tiny_recommender.recommend(ask(rules=rules, exclude_item_ids=("red-hat",))),
        tiny_recommender.recommend(ask(rules=rules, context_item_ids=("red-hat",))),
    ]
    tiny_recommender.remove_items(["red-hat"])
    gone.append(tiny_recommender.recommend(ask(rules=rules)))
    for answer in gone:
        assert "red-hat" not in answer.item_ids
        assert "pin" not in answer.fired
        assert len(answer.item_ids) == 10


def test_pins_of_one_position_stand_by_rule_id_and_of_a_later_page_wait(
    tiny_recommender: Recommender,
) -> None:
    rules = (
        pin("red-hat", 0, "a"),
        pin("blue-hat", 0, "b"),
        pin("pink-hat", 1, "c"),
        pin("red-sock", 12, "d"),
        pin("red-hat", 7, "e"),
    )
    first = tiny_recommender.recommend(ask(rules=rules))
    assert first.item_ids[:3] == ("red-hat", "blue-hat", "pink-hat")
    assert "red-sock" not in first.item_ids
    assert first.fired == {"a": 1, "b": 1, "c": 1}
    second = tiny_recommender.recommend(
        ask(rules=rules, first_position=10, exclude_item_ids=first.item_ids)
    )
    assert second.item_ids[2] == "red-sock"
    assert not set(first.item_ids) & set(second.item_ids)


def test_a_pin_pushed_to_the_next_page_stands_there(tiny_recommender: Recommender) -> None:
    rules = (pin("red-hat", 9, "a"), pin("blue-hat", 9, "b"))
    first = tiny_recommender.recommend(ask(rules=rules))
    assert first.item_ids[9] == "red-hat"
    assert "blue-hat" not in first.item_ids
    second = tiny_recommender.recommend(
        ask(rules=rules, first_position=10, exclude_item_ids=first.item_ids)
    )
    assert second.item_ids[0] == "blue-hat"


def test_with_little_to_show_pins_move_up(tiny_recommender: Recommender) -> None:
    hats = (parse('tags = "hat"'),)
    rules = (pin("red-hat", 8, "a"), pin("blue-hat", 40, "b"))
    answer = tiny_recommender.recommend(ask(rules=rules, filters=hats))
    assert len(answer.item_ids) == 6
    assert answer.item_ids[4:] == ("red-hat", "blue-hat")


def test_strength_one_lifts_above_all_others_and_buries_below(
    tiny_recommender: Recommender,
) -> None:
    def order(*rules: Rule) -> list[str]:
        asked = ask(k=60, policy=IN_ORDER, rules=rules, recent=RED)
        return colors(tiny_recommender.recommend(asked).item_ids)

    boosted = order(rule("up", Boost(action="boost", where='color = "blue"', strength=1)))
    assert boosted[:9].count("blue") == 9  # the worst of them may tie with the best other
    buried = order(rule("down", Bury(action="bury", where='color = "blue"', strength=1)))
    assert buried[-9:].count("blue") == 9


def test_moves_add_up_and_say_how_many_of_the_slate_they_moved(
    tiny_recommender: Recommender,
) -> None:
    up = rule("up", Boost(action="boost", where='color = "blue"', strength=0.5))
    down = rule("down", Bury(action="bury", where='tags = "hat"', strength=0.2))

    def scores(*rules: Rule) -> dict[str, float]:
        answer = tiny_recommender.recommend(ask(k=60, policy=IN_ORDER, rules=rules))
        if rules:
            assert answer.fired == {"up": 10, "down": 6}
        return dict(zip(answer.item_ids, answer.slate.scores.tolist(), strict=True))

    plain, moved = scores(), scores(up, down)
    spread = max(plain.values()) - min(plain.values())
    for item_id, score in moved.items():
        by = 0.5 * item_id.startswith("blue") - 0.2 * item_id.endswith("hat")
        assert score == pytest.approx(plain[item_id] + by * spread, abs=1e-5)


def test_quotas_count_pins_first_and_only_what_they_name(tiny_recommender: Recommender) -> None:
    rules = (pin("red-hat", 5), at_most(1, "color", where='tags = "red"'))
    answer = tiny_recommender.recommend(ask(rules=rules, recent=RED))
    assert colors(answer.item_ids).count("red") == 1
    assert answer.item_ids[5] == "red-hat"
    assert answer.fired["quota"] > 0
    tags = tiny_recommender.recommend(ask(rules=(at_most(1, "tags"),), recent=RED))
    assert sorted(Counter(colors(tags.item_ids)).values()) == [1] * 6  # six colours, once each
    assert max(Counter(things(tags.item_ids)).values()) == 1
    missing = tiny_recommender.recommend(ask(rules=(at_most(1, "no such attribute"),)))
    assert missing.item_ids == tiny_recommender.recommend(ask()).item_ids


def test_a_quota_that_candidates_cannot_fill_reaches_into_the_catalogue(
    tiny_recommender: Recommender,
) -> None:
    reds = Policy(exploration=0, sources={"co_visited": 10})
    answer = tiny_recommender.recommend(ask(rules=(at_most(2, "color"),), recent=RED, policy=reds))
    assert len(answer.item_ids) == 10
    assert max(Counter(colors(answer.item_ids)).values()) == 2
    assert not set(answer.item_ids) & set(RED.item_ids)  # still nothing that was seen


def test_a_rule_with_a_context_holds_only_there(tiny_recommender: Recommender) -> None:
    rules = (rule("hide", Hide(action="hide", where='tags = "hat"'), 'tags = "shirt"'),)
    for context, n_hats in ((("red-shirt",), 0), (("red-sock",), 6), ((), 6), (("gone",), 6)):
        answer = tiny_recommender.recommend(ask(k=60, rules=rules, context_item_ids=context))
        assert things(answer.item_ids).count("hat") == n_hats


EXPLORING = Policy(exploration=0.4, exploration_pool=8, diversity=0.1)


def slates(recommender: Recommender, rules: Sequence[Rule], n: int) -> list[Answer]:
    asked = {"rules": tuple(rules), "policy": EXPLORING, "recent": RED, "k": 5}
    return [recommender.recommend(ask(request_id=f"r{i}", **asked)) for i in range(n)]


def test_propensities_are_frequencies_and_pins_and_quotas_hold_in_every_explored_slate(
    tiny_recommender: Recommender,
) -> None:
    rules = (pin("pink-hat", 2), at_most(2, "color"))
    n = 2_000
    shown: Counter[tuple[int, str]] = Counter()
    logged: dict[tuple[int, str], float] = {}
    for answer in slates(tiny_recommender, rules, n):
        assert answer.item_ids[2] == "pink-hat"
        assert len(set(answer.item_ids)) == 5
        assert max(Counter(colors(answer.item_ids)).values()) <= 2
        places = list(enumerate(answer.item_ids))
        shown.update(places)
        for place, propensity in zip(places, answer.slate.propensities.tolist(), strict=True):
            assert logged.setdefault(place, propensity) == propensity
    assert logged[2, "pink-hat"] == 1
    for place, propensity in logged.items():
        error = 4 * np.sqrt(propensity * (1 - propensity) / n)  # four standard errors
        assert shown[place] / n == pytest.approx(propensity, abs=error + 1e-9)
    for position in range(5):
        total = sum(p for (at, _), p in logged.items() if at == position)
        assert total == pytest.approx(1, abs=1e-5)


_COLORS = ("red", "blue", "pink", "green")
_RULES = st.one_of(
    st.builds(pin, st.sampled_from([f"{c}-{t}" for c in _COLORS for t in ("hat", "coat")]),
              st.integers(0, 12)),
    st.builds(at_most, st.integers(1, 3), st.sampled_from(["color", "tags"])),
    st.builds(hide, st.sampled_from(['tags = "hat"', 'color = "blue"'])),
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(given_rules=st.lists(_RULES, max_size=6), seed=st.integers(0, 999), later=st.booleans())
def test_any_rules_give_distinct_items_within_their_quotas(
    tiny_recommender: Recommender, given_rules: list[Rule], seed: int, later: bool
) -> None:
    rules = [r.model_copy(update={"rule_id": f"r{n}"}) for n, r in enumerate(given_rules)]
    policy = CERTAIN.changed_by({"exploration": 0.5, "exploration_pool": 10})
    asked = ask(request_id=f"s{seed}", rules=tuple(rules), policy=policy, first_position=10 * later)
    answer = tiny_recommender.recommend(asked)
    ids = answer.item_ids
    assert len(set(ids)) == len(ids) <= 10
    assert set(answer.fired) <= {r.rule_id for r in rules}
    for r in rules:
        match r.then:
            case Hide(where='tags = "hat"'):
                assert "hat" not in things(ids)
            case Hide():
                assert "blue" not in colors(ids)
            case Quota(attribute="color", at_most=n):
                assert max(Counter(colors(ids)).values(), default=0) <= n
            case Quota(at_most=n):
                counted = Counter(colors(ids)) + Counter(things(ids))
                assert max(counted.values(), default=0) <= n
            case _:
                pass
    if not any(isinstance(r.then, Quota) for r in rules):
        assert len(ids) == 10
