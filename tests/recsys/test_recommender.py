from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.events import US_PER_SECOND, RecentEvents
from features.items import ITEM_SCHEMA
from features.views import FEATURE_NAMES, SOURCES
from recsys.expression import parse
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.retrieval.text import item_texts
from recsys.types import Answer, Ask, Queries, Retrieved
from tests.tiny import NOW_US, TINY_COLORS, item_row

N_ITEMS = 60
CERTAIN = Policy(exploration=0)
PLAIN = Policy(exploration=0, diversity=0, personalisation=0, filter_viewed=False)


def recent(*item_ids: str, kind: str = "click") -> RecentEvents:
    """Events a minute apart, the last one a minute ago."""
    ages = np.arange(len(item_ids), 0, -1) * 60 * US_PER_SECOND
    return RecentEvents(item_ids, [kind] * len(item_ids), NOW_US - ages)


def ask(**changes: object) -> Ask:
    given: dict[str, object] = {"request_id": "r", "now_us": NOW_US, "k": 10, "policy": CERTAIN}
    return Ask(**(given | changes))  # type: ignore[arg-type]


def search(recommender: Recommender, text: str, **changes: object) -> Answer:
    return recommender.recommend(ask(words=text, **({"policy": PLAIN} | changes)))


def similar(recommender: Recommender, item_id: str, k: int) -> tuple[str, ...]:
    policy = PLAIN.changed_by({"about": "context", "sources": {"similar_text": 60}})
    given = {"context_item_ids": (item_id,), "k": k, "policy": policy}
    return recommender.recommend(ask(**given)).item_ids


def colors(item_ids: Sequence[str]) -> list[str]:
    return [item_id.split("-")[0] for item_id in item_ids]


def put(recommender: Recommender, *rows: dict[str, object]) -> None:
    items = pl.DataFrame(rows, schema=ITEM_SCHEMA)
    recommender.put_items(items, recommender.embed_items(items))


def words(color: str, thing: str) -> str:
    """All that is known of an item in words; the tiny encoder is too crude for half of them."""
    return item_texts(pl.DataFrame([item_row(color, thing)], schema=ITEM_SCHEMA))[0]


RED = recent("red-shirt", "red-shoe", "red-hat")


def test_a_stranger_gets_a_full_slate(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(ask(user_id="nobody"))
    assert len(set(answer.item_ids)) == 10
    assert answer.degraded == ()


def test_a_shopper_of_one_colour_gets_more_of_it(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(ask(k=7, recent=RED))
    assert colors(answer.item_ids).count("red") >= 4  # 7 red things are left; 1 by chance


def test_what_was_seen_excluded_looked_at_or_gone_is_never_shown(
    tiny_recommender: Recommender,
) -> None:
    tiny_recommender.remove_items(["blue-hat", "not-an-item"])
    put(tiny_recommender, {**item_row("blue", "sock"), "available": False})
    answer = tiny_recommender.recommend(
        ask(
            k=N_ITEMS,
            recent=RED,
            exclude_item_ids=("blue-shirt", "unknown"),
            context_item_ids=("blue-ring",),
        )
    )
    gone = {"blue-hat", "blue-sock", "blue-shirt", "blue-ring", *RED.item_ids}
    assert not set(answer.item_ids) & gone
    assert len(answer.item_ids) == N_ITEMS - len(gone)  # and everything else is


def test_viewed_items_come_back_where_the_policy_lets_them(tiny_recommender: Recommender) -> None:
    policy = Policy(exploration=0, filter_viewed=False)
    answer = tiny_recommender.recommend(ask(k=N_ITEMS, recent=RED, policy=policy))
    assert len(answer.item_ids) == N_ITEMS


def test_more_than_the_catalogue_is_the_whole_catalogue_once(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(ask(k=500))
    assert len(answer.item_ids) == len(set(answer.item_ids)) == N_ITEMS


def test_one_who_has_seen_everything_is_shown_it_again_and_it_is_said(
    tiny_recommender: Recommender,
) -> None:
    everything = recent(*tiny_recommender.catalog.item_ids)
    answer = tiny_recommender.recommend(ask(recent=everything))
    assert len(answer.item_ids) == 10
    assert answer.fallbacks == ("viewed",)
    assert answer.degraded == ()


def test_a_slates_columns_are_aligned(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(ask(recent=RED, explain=True))
    slate, k = answer.slate, len(answer.item_ids)
    rows = tiny_recommender.catalog.rows(answer.item_ids)
    np.testing.assert_array_equal(slate.item_rows, rows)
    assert slate.features.shape == (k, len(FEATURE_NAMES))
    assert slate.source_scores.shape == (k, len(SOURCES))
    assert slate.probabilities.shape == (k, len(tiny_recommender.actions))
    assert ((slate.probabilities > 0) & (slate.probabilities < 1)).all()
    assert slate.propensities.tolist() == [1.0] * k
    assert answer.explanations is not None
    assert len(answer.reasons) == len(answer.explanations) == k
    weights = tiny_recommender.action_weights(CERTAIN)
    np.testing.assert_allclose(slate.scores, slate.probabilities @ weights, rtol=1e-5)


def test_without_diversity_the_best_utility_comes_first(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(
        ask(k=30, recent=RED, policy=Policy(exploration=0, diversity=0))
    )
    assert (np.diff(answer.slate.scores) <= 0).all()


def test_equal_request_ids_get_equal_slates_and_others_may_explore(
    tiny_recommender: Recommender,
) -> None:
    policy = Policy(exploration=0.5)

    def slate(request_id: str) -> Answer:
        return tiny_recommender.recommend(ask(request_id=request_id, recent=RED, policy=policy))

    assert slate("a").item_ids == slate("a").item_ids
    others = [slate(f"r{n}") for n in range(5)]
    assert len({answer.item_ids for answer in others}) > 1
    assert any((answer.slate.propensities < 0.5).any() for answer in others)


class BrokenSource:
    name = "co_visited"

    def candidates(self, queries: Queries, n: int) -> Retrieved:
        raise OSError("its file is gone")


def test_a_failing_source_is_named_and_the_answer_still_comes(
    tiny_recommender: Recommender,
) -> None:
    bundle = tiny_recommender.bundle
    bundle.sources = tuple(
        BrokenSource() if source.name == "co_visited" else source for source in bundle.sources
    )
    answer = tiny_recommender.recommend(ask(recent=RED))
    assert answer.degraded == ("co_visited",)
    assert len(answer.item_ids) == 10


def test_even_without_any_source_there_is_an_answer(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(ask(policy=Policy(sources={})))
    assert len(answer.item_ids) == 10


@pytest.mark.parametrize("fault", ["missing", "shape", "nan"])
def test_without_a_working_ranker_candidates_keep_their_best_source_rank(
    tiny_recommender: Recommender, fault: str
) -> None:
    ranker = tiny_recommender.bundle.ranker
    assert ranker is not None
    broken = {
        "missing": None,
        "shape": replace(ranker, mean=ranker.mean[1:]),
        "nan": replace(ranker, biases=tuple(bias * np.nan for bias in ranker.biases)),
    }
    tiny_recommender.bundle.ranker = broken[fault]
    policy = Policy(exploration=0, diversity=0)
    answer = tiny_recommender.recommend(ask(recent=RED, policy=policy, explain=True))
    assert answer.degraded == ("ranker",)
    assert len(answer.item_ids) == 10
    ranks = answer.slate.features[:, : len(SOURCES)].max(axis=1)
    np.testing.assert_allclose(answer.slate.scores, ranks)
    assert (np.diff(ranks) <= 0).all()


def test_a_new_item_is_found_at_once_by_its_words_and_by_being_new(
    tiny_recommender: Recommender,
) -> None:
    row = item_row("red", "shirt", item_id="arrival", published_at_us=NOW_US - 1)
    put(tiny_recommender, row)
    for sources in ({"similar_text": 5}, {"new_items": 5}):
        answer = tiny_recommender.recommend(
            ask(recent=recent("red-shirt"), policy=Policy(exploration=0, sources=sources))
        )
        assert "arrival" in answer.item_ids
        assert answer.degraded == ()
    assert "arrival" in search(tiny_recommender, words("red", "shirt"), k=2).item_ids
    assert "arrival" in similar(tiny_recommender, "red-shirt", 10)
    liked = tiny_recommender.recommend(ask(recent=recent("arrival")))
    assert "arrival" not in liked.item_ids


def test_many_new_items_at_once_are_all_kept_apart(tiny_recommender: Recommender) -> None:
    rows = [item_row(color, "ring", item_id=f"new-{color}") for color in TINY_COLORS]
    put(tiny_recommender, *rows, item_row("red", "belt"))  # the last one is known
    for color in TINY_COLORS:
        assert f"new-{color}" in search(tiny_recommender, words(color, "ring"), k=2).item_ids
    assert len(tiny_recommender.recommend(ask(k=500)).item_ids) == N_ITEMS + len(TINY_COLORS)


def test_changed_words_change_where_an_item_is_found(tiny_recommender: Recommender) -> None:
    before = tiny_recommender.bundle.text.words.vectors.copy()
    changed = item_row("blue", "coat", item_id="red-shirt")
    put(tiny_recommender, changed)
    row = tiny_recommender.catalog.row("red-shirt")
    moved = np.any(tiny_recommender.bundle.text.words.vectors != before, axis=1)
    assert np.flatnonzero(moved).tolist() == [row]
    assert "red-shirt" in search(tiny_recommender, words("blue", "coat"), k=2).item_ids
    assert len(tiny_recommender.catalog) == N_ITEMS


def test_putting_what_was_embedded_copies_no_matrix(tiny_recommender: Recommender) -> None:
    bundle = tiny_recommender.bundle
    indexes = (bundle.text.words, bundle.text.taste, bundle.sequence.index, bundle.factors.index)
    items = pl.DataFrame([item_row("red", "cape"), item_row("red", "kilt")], schema=ITEM_SCHEMA)
    vectors = tiny_recommender.embed_items(items)
    before = [index.vectors for index in indexes]
    tiny_recommender.put_items(items, vectors)
    for index, matrix in zip(indexes, before, strict=True):
        assert len(index) == len(matrix) + 2
        assert np.shares_memory(index.vectors, matrix)


def test_a_removed_item_is_nowhere_until_it_is_put_again(tiny_recommender: Recommender) -> None:
    tiny_recommender.remove_items(["red-coat"])
    assert "red-coat" not in tiny_recommender.recommend(ask(k=500)).item_ids
    assert "red-coat" not in search(tiny_recommender, "red coat", k=500).item_ids
    assert "red-coat" not in similar(tiny_recommender, "red-vest", 500)
    put(tiny_recommender, item_row("red", "coat"))
    assert "red-coat" in tiny_recommender.recommend(ask(k=500)).item_ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('tags in ("red", "blue")', 20),
        ('tags = "red" and tags = "hat"', 1),
        ('not tags = "red"', 50),
        ('color in ("red", "green")', 20),
        ("price between 20 and 30", 18),
        ('tags = "red" and price <= 10', 1),
        ('tags = "no such tag"', 0),
    ],
)
def test_only_items_that_pass_the_filter_are_shown(
    tiny_recommender: Recommender, text: str, expected: int
) -> None:
    filters = (parse(text),)
    allowed = tiny_recommender.catalog.allowed(filters, ask().now_us)
    assert allowed.sum() == expected
    for answer in (
        tiny_recommender.recommend(ask(k=500, filters=filters)),
        tiny_recommender.recommend(ask(k=500, filters=filters, words="red shirt")),
    ):
        assert len(answer.item_ids) == expected
        assert allowed[answer.slate.item_rows].all()
        assert answer.degraded == ()


def test_what_is_looked_at_counts_as_viewed_just_now(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(ask(context_item_ids=("green-hat",)))
    days = answer.slate.features[:, FEATURE_NAMES.index("days_since_last_event")]
    length = answer.slate.features[:, FEATURE_NAMES.index("history_length")]
    assert (days == 0).all()
    np.testing.assert_allclose(length, np.log1p(1))
    stranger = tiny_recommender.recommend(ask())
    assert answer.item_ids != stranger.item_ids


def test_one_more_event_changes_the_very_next_answer(tiny_recommender: Recommender) -> None:
    before = tiny_recommender.recommend(ask(recent=RED))
    more = recent(*RED.item_ids, "blue-ring", kind="click")
    after = tiny_recommender.recommend(ask(recent=more))
    assert before.item_ids != after.item_ids
    length = FEATURE_NAMES.index("history_length")
    np.testing.assert_allclose(after.slate.features[:, length], np.log1p(4))


def test_events_on_unknown_items_or_of_unknown_types_are_passed_over(
    tiny_recommender: Recommender,
) -> None:
    odd = RecentEvents(["gone", "red-hat"], ["click", "sneeze"], np.array([NOW_US - 2, NOW_US - 1]))
    answer = tiny_recommender.recommend(ask(recent=odd))
    assert len(answer.item_ids) == 10
    assert (answer.slate.features[:, FEATURE_NAMES.index("history_length")] == 0).all()
