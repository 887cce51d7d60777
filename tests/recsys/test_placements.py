"""Every placement is the one funnel, asked about something else."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import polars as pl
import pytest

from features.items import ITEM_SCHEMA
from features.views import FEATURE_NAMES, SOURCES
from recsys.expression import parse
from recsys.placements import Placement, asked_about_else
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.types import Queries, Retrieved
from tests.recsys.asks import PLACEMENTS, RED, ask, colors, placed, recent, things
from tests.tiny import item_row

CONTEXT = {"context_item_ids": ("green-hat",)}


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize("shopper", [{}, {"recent": RED}])
def test_every_placement_fills_its_slate_without_what_is_in_context(
    tiny_recommender: Recommender, name: str, shopper: dict[str, object]
) -> None:
    words = {"words": "green hat"} if name == "search" else {}
    answer = tiny_recommender.recommend(placed(name, **CONTEXT, **shopper, **words, explain=True))
    assert len(set(answer.item_ids)) == 10
    assert "green-hat" not in answer.item_ids
    assert answer.degraded == ()
    assert np.isfinite(answer.slate.scores).all()
    assert np.isfinite(answer.slate.probabilities).all()
    assert all(answer.reasons)


def test_about_context_is_about_the_context_alone_whoever_asks(
    tiny_recommender: Recommender,
) -> None:
    for name in ("viewed_together", "bought_together"):
        alone = tiny_recommender.recommend(placed(name, **CONTEXT))
        shopper = tiny_recommender.recommend(
            placed(name, **CONTEXT, recent=RED, user_id="shopper-0")
        )
        assert alone.item_ids == shopper.item_ids
        assert alone.about_item_ids == shopper.about_item_ids == ("green-hat",)
        assert alone.fallbacks == shopper.fallbacks


def test_similar_items_share_words_or_shoppers(tiny_recommender: Recommender) -> None:
    found = tiny_recommender.recommend(placed("similar", k=5, context_item_ids=("pink-hat",)))
    alike = zip(colors(found.item_ids), things(found.item_ids), strict=True)
    assert sum(color == "pink" or thing == "hat" for color, thing in alike) >= 3


def test_what_is_bought_together_shares_the_shoppers_colour(tiny_recommender: Recommender) -> None:
    found = tiny_recommender.recommend(placed("bought_together", k=3, **CONTEXT))
    assert set(colors(found.item_ids)) == {"green"}  # who buys, buys the colour they love


def test_a_release_without_baskets_says_that_it_shows_what_is_viewed_together(
    tiny_release: tuple[Path, str], tmp_path: Path
) -> None:
    root, release_id = tiny_release
    copytree(root / release_id, tmp_path / "old")
    rmtree(tmp_path / "old" / "bought_together")
    old = Recommender.load(tmp_path / "old", release_id="old")
    bought = old.recommend(placed("bought_together", **CONTEXT))
    viewed = old.recommend(placed("viewed_together", **CONTEXT))
    assert bought.item_ids == viewed.item_ids
    assert bought.fallbacks == ("co_visited",)


def test_an_item_nobody_bought_shows_what_is_viewed_with_it(tiny_recommender: Recommender) -> None:
    arrival = item_row("green", "hat", item_id="arrival")
    items = pl.DataFrame([arrival], schema=ITEM_SCHEMA)
    tiny_recommender.put_items(items, tiny_recommender.embed_items(items))
    answer = tiny_recommender.recommend(
        placed("bought_together", k=5, context_item_ids=("arrival",))
    )
    assert len(answer.item_ids) == 5
    assert answer.fallbacks == ("co_visited", "popular")  # nor did anybody look at it


def test_because_you_viewed_goes_with_the_last_item_that_was_liked(
    tiny_recommender: Recommender,
) -> None:
    events = recent("red-shirt", "blue-ring", "pink-hat", kind="share")
    events = replace(events, event_types=["click", "share", "dismiss"])
    answer = tiny_recommender.recommend(placed("because_you_viewed", recent=events))
    assert answer.about_item_ids == ("blue-ring",)
    assert answer.fallbacks == ()
    assert "blue-ring" not in answer.item_ids


@pytest.mark.parametrize("name", ["because_you_viewed", "similar", "cart"])
def test_without_an_anchor_the_shopper_gets_what_home_would_show(
    tiny_recommender: Recommender, name: str
) -> None:
    answer = tiny_recommender.recommend(placed(name, context_item_ids=("no-such-item",)))
    assert answer.fallbacks == ("shopper",)
    assert answer.about_item_ids == ()
    policy = Policy().changed_by(PLACEMENTS[name].policy)
    kept = {"filter_viewed": policy.filter_viewed, "diversity": policy.diversity}
    home = Policy().changed_by({**kept, "exploration": policy.exploration})
    assert answer.item_ids == tiny_recommender.recommend(ask(policy=home)).item_ids


def test_the_ranker_is_asked_about_the_shopper_whatever_the_slate_is_about(
    tiny_recommender: Recommender,
) -> None:
    """History and affinity views of an item do not depend on which sources were asked what."""
    everything = Policy(exploration=0, diversity=0, filter_viewed=False)
    about = everything.changed_by({"about": "context", "sources": {"co_visited": 100}})
    home = tiny_recommender.recommend(ask(k=60, recent=RED, policy=everything, **CONTEXT))
    answer = tiny_recommender.recommend(ask(k=60, recent=RED, policy=about, **CONTEXT))
    same = [FEATURE_NAMES.index(n) for n in ("history_length", "tag_affinity", "text_to_last")]
    same += [FEATURE_NAMES.index(n) for n in FEATURE_NAMES if n.endswith("_affinity")]
    rows, others = (np.argsort(found.slate.item_rows) for found in (home, answer))
    np.testing.assert_allclose(
        answer.slate.features[others][:, same], home.slate.features[rows][:, same], rtol=1e-5
    )


def test_words_find_what_matches_and_leave_out_what_is_excluded(
    tiny_recommender: Recommender,
) -> None:
    found = tiny_recommender.recommend(placed("search", k=3, words="green sock. green, sock"))
    assert found.item_ids[0] == "green-sock"
    excluded = {"k": 3, "words": "green sock. green, sock", "exclude_item_ids": ("green-sock",)}
    without = tiny_recommender.recommend(placed("search", **excluded))
    assert "green-sock" not in without.item_ids
    assert without.removed["excluded"] == 1
    assert len(without.item_ids) == 3


def test_the_more_personal_a_search_the_more_it_is_to_the_shoppers_taste(
    tiny_recommender: Recommender,
) -> None:
    def reds(personalisation: float) -> int:
        policy = Policy(exploration=0, diversity=0, personalisation=personalisation)
        answer = tiny_recommender.recommend(ask(words="blue hat", recent=RED, policy=policy, k=7))
        return colors(answer.item_ids).count("red")

    assert reds(0.0) < reds(1.0)


def test_scores_of_a_blend_are_the_match_and_the_utility_by_their_share(
    tiny_recommender: Recommender,
) -> None:
    def scores(personalisation: float) -> dict[str, float]:
        policy = Policy(
            exploration=0, diversity=0, personalisation=personalisation, filter_viewed=False
        )
        answer = tiny_recommender.recommend(ask(words="blue hat", recent=RED, policy=policy, k=60))
        return dict(zip(answer.item_ids, answer.slate.scores.tolist(), strict=True))

    match, utility, blend = scores(0.0), scores(1.0), scores(0.25)
    low, high = min(utility.values()), max(utility.values())
    assert min(match.values()) == 0
    assert max(match.values()) == 1
    for item_id, score in blend.items():
        scaled = (utility[item_id] - low) / (high - low)
        assert score == pytest.approx(0.75 * match[item_id] + 0.25 * scaled, abs=1e-5)


class Broken:
    name = "similar_text"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        raise OSError("its file is gone")


def test_a_search_goes_on_without_a_source_and_without_the_encoder(
    tiny_recommender: Recommender,
) -> None:
    bundle = tiny_recommender.bundle
    bundle.sources = tuple(Broken() if s.name == Broken.name else s for s in bundle.sources)
    found = tiny_recommender.recommend(placed("search", words="red shirt", recent=RED))
    assert found.degraded == ("similar_text",)
    assert found.item_ids[0].startswith("red")
    bundle.text.encoder = None  # type: ignore[assignment]
    found = tiny_recommender.recommend(placed("search", words="red shirt", recent=RED))
    assert found.degraded == ("words", "similar_text")
    assert found.fallbacks == ("shopper",)
    assert len(found.item_ids) == 10


def test_a_slate_is_topped_up_by_popularity_never_against_a_filter(
    tiny_recommender: Recommender,
) -> None:
    few = Policy(exploration=0, sources={"co_visited": 1})
    answer = tiny_recommender.recommend(ask(recent=RED, policy=few))
    assert len(answer.item_ids) == 10
    assert answer.fallbacks == ("popular",)
    reds = (parse('tags = "red"'),)
    answer = tiny_recommender.recommend(ask(recent=RED, policy=few, filters=reds))
    assert set(answer.item_ids) == {f"red-{t}" for t in things(answer.item_ids)}
    assert len(answer.item_ids) == 7  # ten, three of which were seen


def test_what_was_seen_comes_back_only_where_nothing_else_may_be_shown(
    tiny_recommender: Recommender,
) -> None:
    seen = (parse('item_id in ("red-shirt", "red-shoe")'),)
    answer = tiny_recommender.recommend(ask(recent=RED, filters=seen))
    assert set(answer.item_ids) == {"red-shirt", "red-shoe"}
    assert answer.fallbacks == ("viewed",)
    nothing = tiny_recommender.recommend(ask(filters=(parse('tags = "no such tag"'),)))
    assert nothing.item_ids == ()
    assert nothing.fallbacks == ()


def test_pages_follow_one_another_until_the_catalogue_is_shown(
    tiny_recommender: Recommender,
) -> None:
    for name in ("home", "search", "trending", "new"):
        shown: list[str] = []
        words = {"words": "red"} if name == "search" else {}
        while answer := tiny_recommender.recommend(
            placed(name, first_position=len(shown), exclude_item_ids=tuple(shown), **words)
        ).item_ids:
            shown += answer
        assert len(shown) == len(set(shown)) == 60


def test_only_slates_by_utility_for_the_shopper_teach_the_ranker() -> None:
    default = set(asked_about_else({}))
    assert set(PLACEMENTS) - default == {"home", "product_page", "mail"}
    mine = {
        "home": '{"name": "home", "policy": {"personalisation": 0.5}}',
        "similar": '{"name": "similar", "policy": {"diversity": 0.5}}',
        "basket": '{"name": "basket", "policy": {"about": "context"}}',
    }
    assert set(asked_about_else(mine)) == default - {"similar"} | {"home", "basket"}


def test_a_stored_placement_that_cannot_be_read_stops_no_night() -> None:
    unreadable = {"home": '{"name": "home", "of_a_newer_server": 1}'}
    assert asked_about_else(unreadable) == asked_about_else({})


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        ({"trendy": 50}, "found the source 'trendy', expected one of next_item, "),
        ({"trending": 10**9}, "found 1000000000 candidates of trending, expected 0"),
        ({"trending": -1}, "found -1 candidates"),
    ],
)
def test_sources_that_cannot_be_asked_are_refused(sources: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Placement(name="strip", policy={"sources": sources})  # type: ignore[dict-item]
    asked = Placement(
        name="strip", policy={"sources": dict.fromkeys((*SOURCES, "bought_together"), 0)}
    )
    assert len(Policy().changed_by(asked.policy).sources) == len(SOURCES) + 1


def test_policies_of_older_releases_lose_the_knobs_that_are_gone() -> None:
    stored = {**Policy(diversity=0.3).model_dump(), "search_personalisation": 0.1}
    assert Policy.stored(stored) == Policy(diversity=0.3)
    with pytest.raises(ValueError, match="search_personalisation"):
        Policy().changed_by({"search_personalisation": 0.1})
