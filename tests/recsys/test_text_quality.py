"""Encoders whose faults are known: bags of words that know, or ignore, case and spelling."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from features.arrays import Float32Array
from features.items import ITEM_SCHEMA
from recsys.evaluation.perturbations import ELSEWHERE
from recsys.evaluation.text_quality import (
    ATTRACTION,
    MEASURES,
    OUT_OF_DOMAIN,
    SEARCH,
    Embed,
    QualityConfig,
    WordSpace,
    differences,
    score_text,
    short_query,
    summary,
)
from recsys.retrieval.text import item_texts

DIM = 64
SYLLABLES = ("ba", "ko", "mi", "tu", "re", "lo", "sa", "ne")
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]


def bag_of_words(spelling: Callable[[str], str] = str.casefold) -> Embed:
    """Sums of a random vector a word; a text of unknown words is the mean direction."""
    rng = np.random.default_rng(7)
    vectors = {spelling(word): rng.normal(size=DIM) for word in [*WORDS, "12", "oz", "ounces"]}

    def embed(texts: Sequence[str]) -> Float32Array:
        rows = np.zeros((len(texts), DIM))
        for row, text in enumerate(texts):
            for word in text.split():
                rows[row] += vectors.get(spelling(word), 0.0)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(norms, 1e-12), np.float32)

    return embed


def items(n: int = 200, words: int = 6) -> pl.DataFrame:
    """Titles of random words, the first in capitals; the first fifty end in "12 oz"."""
    rng = np.random.default_rng(1)
    titles = [" ".join(rng.choice(WORDS, words, replace=False)).capitalize() for _ in range(n)]
    rows = [
        {"item_id": str(row), "title": title + (" 12 oz" if row < 50 else "")}
        for row, title in enumerate(titles)
    ]
    bare = {"description": "", "tags": [], "attributes": "{}", "available": True}
    return pl.DataFrame([{**row, **bare} for row in rows], schema=ITEM_SCHEMA)


def means(embed: Embed, config: QualityConfig | None = None) -> dict[str, float]:
    space = WordSpace(embed, embed, embed(item_texts(items())))
    scores = score_text(space, items(), config or QualityConfig(sample=150))
    return {name: figure.mean for name, figure in summary(scores).items()}


def test_a_bag_of_words_finds_items_and_minds_neither_order_nor_case() -> None:
    found = means(bag_of_words())

    assert set(found) == set(MEASURES)
    assert found[SEARCH] > 0.99
    for measure in ("word order", "upper case", "lower case"):
        assert found[measure] == 1.0, measure
    assert 0.05 < found["truncation"] < found["typos"] < 0.9


def test_an_encoder_that_knows_lower_case_only_is_found_out() -> None:
    found = means(bag_of_words(str))

    assert found["upper case"] < 0.3
    assert 0.5 < found["lower case"] < 1.0  # one word in six was a capital one


def test_units_are_judged_on_the_items_that_have_them() -> None:
    embed = bag_of_words()
    scores = score_text(WordSpace(embed, embed), items(), QualityConfig(sample=200, pool=200))

    counts = {name: figure.texts for name, figure in summary(scores).items()}
    assert counts["units respelled"] == counts["units converted"] == 50
    assert counts["typos"] >= 195  # a swap of equal letters changes nothing
    assert counts[SEARCH] == 200
    assert counts[OUT_OF_DOMAIN] == counts[ATTRACTION] == len(ELSEWHERE) + QualityConfig().gibberish


def test_an_encoder_that_says_the_same_of_everything_finds_nothing() -> None:
    def constant(texts: Sequence[str]) -> Float32Array:
        return np.full((len(texts), DIM), DIM**-0.5, np.float32)

    found = means(constant)
    assert found[SEARCH] == 0.0
    assert found[OUT_OF_DOMAIN] == pytest.approx(0.5)


def test_texts_from_elsewhere_are_far_from_a_catalogue_of_other_words() -> None:
    found = means(bag_of_words())
    assert (found[OUT_OF_DOMAIN], found[ATTRACTION]) == (1.0, 0.0)


def test_an_encoder_that_puts_what_it_does_not_know_in_the_middle_is_found_out() -> None:
    inner = bag_of_words()
    centre = inner(item_texts(items())).mean(axis=0)
    centre /= np.linalg.norm(centre)

    def embed(texts: Sequence[str]) -> Float32Array:
        rows = inner(texts)
        rows[np.linalg.norm(rows, axis=1) == 0] = centre
        return np.asarray((rows + centre) / np.linalg.norm(rows + centre, axis=1)[:, None])

    found = means(embed)
    assert found[OUT_OF_DOMAIN] < 0.5
    assert found[ATTRACTION] > 2


def test_neighbours_among_all_items_need_no_vectors_in_hand() -> None:
    embed, config = bag_of_words(), QualityConfig(sample=40, pool=1_000)
    vectors = embed(item_texts(items()))

    given = score_text(WordSpace(embed, embed, vectors), items(), config)
    made = score_text(WordSpace(embed, embed), items(), config)

    assert all((given[name] == made[name]).all() for name in MEASURES)


def test_two_encoders_are_compared_text_by_text() -> None:
    good, bad = (
        score_text(WordSpace(embed, embed), items(), QualityConfig(sample=100))
        for embed in (bag_of_words(), bag_of_words(str))
    )
    found = differences(bad, good)

    assert found["upper case"].high < -0.5
    assert (found["word order"].low, found["word order"].high) == (0.0, 0.0)
    assert all(interval.mean == 0 for interval in differences(good, good).values())


def test_a_measure_alone_gives_what_it_gives_among_all() -> None:
    embed, config = bag_of_words(), QualityConfig(sample=60)
    every = score_text(WordSpace(embed, embed), items(), config)
    alone = score_text(WordSpace(embed, embed), items(), config, measures=("typos",))

    assert list(alone) == ["typos"]
    assert (alone["typos"] == every["typos"]).all()


def test_a_catalogue_without_titles_or_of_one_item_is_not_judged() -> None:
    embed = bag_of_words()
    space = WordSpace(embed, embed)
    nameless = items(20).with_columns(title=pl.lit(" "))

    assert score_text(space, nameless, QualityConfig()) == {}
    assert set(score_text(space, items(1), QualityConfig())) == {SEARCH}


def test_a_short_query_is_words_of_the_title_in_their_order() -> None:
    rng = np.random.default_rng(0)
    queries = {short_query("a b c d", rng) for _ in range(60)}

    assert queries == {"a b c", "a b d", "a c d", "b c d"}
    assert short_query("two words", rng) == "two words"
