import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation.perturbations import (
    ELSEWHERE,
    PERTURBATIONS,
    converted_units,
    first_half,
    gibberish,
    in_another_order,
    respelled_units,
    with_typos,
)

RNG = np.random.default_rng
titles = st.lists(
    st.sampled_from(["Soap", "12 oz", "500ml", "8-Inch", "Rose", "é", "2", "(3 ct)"]), max_size=8
).map(" ".join)


@given(titles, st.integers(0, 99))
def test_typos_change_a_few_letters_and_nothing_else(title: str, seed: int) -> None:
    changed = with_typos(title, RNG(seed))

    assert abs(len(changed) - len(title)) <= 2
    gone = Counter(title) - Counter(changed)
    assert sum(gone.values()) <= 2
    assert all(letter.isalpha() for letter in gone)


def test_a_title_without_letters_has_no_typos() -> None:
    assert with_typos("4711", RNG(0)) == "4711"


@given(titles, st.integers(0, 99))
def test_another_order_and_the_first_half_keep_words_whole(title: str, seed: int) -> None:
    words = title.split()

    assert Counter(in_another_order(title, RNG(seed)).split()) == Counter(words)
    half = first_half(title, RNG(seed)).split()
    assert half == words[: len(half)]
    assert 2 * len(half) in (len(words), len(words) + 1)


@pytest.mark.parametrize(
    ("title", "converted"),
    [
        ("Shampoo 500 ml", "Shampoo 0.5 l"),
        ("Shampoo 12 oz", "Shampoo 340 g"),
        ("Lacquer, 0.5-Fluid Ounce", "Lacquer, 14.8 ml"),
        ("Spray .5 fl. oz", "Spray 14.8 ml"),
        ("Oil 1.5L", "Oil 1500 ml"),
        ('Mirror 8" x 10 inches', "Mirror 20.3 cm x 25.4 cm"),
        ("Ribbon 18 Centimetres", "Ribbon 7.09 inch"),
        ("Swabs 100 count", "Swabs 100 pcs"),
    ],
)
def test_a_quantity_is_converted_as_a_label_would(title: str, converted: str) -> None:
    assert converted_units(title, RNG(0)) == converted


@pytest.mark.parametrize("title", ["5 in 1 comb", "Chanel No 5", "1,000 ml", "30 mlx", "a12 oz"])
def test_what_is_no_plain_quantity_stays(title: str) -> None:
    assert respelled_units(title, RNG(0)) == converted_units(title, RNG(0)) == title


@given(titles, st.integers(0, 99))
def test_another_spelling_is_the_same_quantity(title: str, seed: int) -> None:
    respelled = respelled_units(title, RNG(seed))

    assert converted_units(respelled, RNG(0)) == converted_units(title, RNG(0))
    assert re.findall(r"\d+", respelled) == re.findall(r"\d+", title)


def test_another_spelling_is_another_one() -> None:
    for title in ("12 oz", "12oz", "12-ounce", "12 Ounces"):
        spellings = {respelled_units(title, RNG(seed)) for seed in range(20)}
        assert title.casefold() not in spellings
        assert spellings <= {"12 oz", "12oz", "12 ounces"}


def test_equal_generators_give_equal_titles() -> None:
    for perturb in PERTURBATIONS.values():
        assert perturb("Rose Soap 12 oz", RNG(3)) == perturb("Rose Soap 12 oz", RNG(3))


def test_texts_from_elsewhere_are_distinct() -> None:
    texts = [*ELSEWHERE, *gibberish(30, RNG(0))]
    assert len(set(texts)) == len(texts) == 60
