import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Whitespace

from recsys.retrieval.encoder import TOKENIZER_FILE, load_tokenizer
from recsys.training.encoder.base import embedded_folder
from recsys.training.encoder.tokenizer_fit import tokenizer_fit


@pytest.fixture(scope="module")
def minilm() -> Tokenizer:
    return load_tokenizer(embedded_folder() / TOKENIZER_FILE, max_tokens=16)


def words(*known: str) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *known])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def test_shares_are_those_of_a_count_by_hand() -> None:
    fit = tokenizer_fit(words("red", "hat"), ["red hat", "red sock", ""], max_tokens=1)
    assert fit.unknown_share == 1 / 4
    assert fit.fragment_share == 0
    assert fit.truncated_share == 2 / 3
    assert fit.tokens_per_text == 4 / 3


def test_a_prefix_takes_room() -> None:
    tokenizer = words("query", "red", "hat")
    assert tokenizer_fit(tokenizer, ["red hat"], max_tokens=2).truncated_share == 0
    assert tokenizer_fit(tokenizer, ["red hat"], max_tokens=2, prefix="query ").truncated_share == 1


def test_the_tokenizer_keeps_its_own_truncation(minilm: Tokenizer) -> None:
    tokenizer_fit(minilm, ["red " * 100], max_tokens=16)
    assert len(minilm.encode("red " * 100).ids) == 16


def test_english_fits_minilm(minilm: Tokenizer) -> None:
    texts = ["Red leather wallet with zip, T-shirt size M, 100ml", "Organic face cream"]
    fit = tokenizer_fit(minilm, texts, max_tokens=64)
    assert fit.unknown_share + fit.fragment_share < 0.1
    assert fit.warning is None


@pytest.mark.parametrize(
    "text",
    [
        "Красный кожаный кошелёк на молнии",
        "محفظة جلدية حمراء بسحاب",
        "红色真皮拉链钱包,可放八张卡片",
        "지퍼가 달린 빨간 가죽 지갑",
        "赤い本革のファスナー付き財布、カード八枚収納",
        "กระเป๋าสตางค์หนังสีแดงมีซิป",
    ],
)
def test_a_language_that_minilm_does_not_know_is_said(minilm: Tokenizer, text: str) -> None:
    warning = tokenizer_fit(minilm, [text], max_tokens=64).warning
    assert warning is not None
    assert "multilingual" in warning


def test_bytes_are_fragments() -> None:
    alphabet = {piece: number for number, piece in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    fit = tokenizer_fit(tokenizer, ["赤い"], max_tokens=64)
    assert (fit.fragment_share, fit.tokens_per_text) == (1.0, 6.0)


def test_characters_that_are_words_are_no_fragments() -> None:
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("赤", -1.0), ("い", -1.0), ("靴", -1.0)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = Metaspace()
    known = tokenizer_fit(tokenizer, ["赤い靴"], max_tokens=64)
    assert (known.unknown_share, known.fragment_share) == (0.0, 0.0)
    assert tokenizer_fit(tokenizer, ["帽"], max_tokens=64).unknown_share == 1


def test_an_empty_catalogue_has_nothing_to_warn_of(minilm: Tokenizer) -> None:
    for texts in ([], ["", " "]):
        fit = tokenizer_fit(minilm, texts, max_tokens=8)
        assert (fit.unknown_share, fit.truncated_share, fit.tokens_per_text) == (0, 0, 0)
        assert fit.warning is None


@given(st.lists(st.text(alphabet=st.characters(), max_size=40), max_size=5))
def test_shares_are_shares_whatever_the_text(texts: list[str]) -> None:
    fit = tokenizer_fit(words("a", "b"), texts, max_tokens=4)
    assert 0 <= fit.unknown_share + fit.fragment_share <= 1
    assert 0 <= fit.truncated_share <= 1
