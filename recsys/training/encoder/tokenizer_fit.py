"""How well a tokenizer knows a shop's language, before anybody trusts vectors made with it."""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from recsys.retrieval.text import MAX_TEXT_CHARS

MAX_TEXTS = 2_000  # evenly spread; a share of 0.1 is then known to 0.01 with 10 tokens a text
WORRYING_SHARE = 0.2  # MiniLM: Beauty's English .05; one sentence of French .12, German .23,
# Polish .31, Japanese .36, Chinese .80, Russian .92
SPACES = {"▁", "Ġ"}  # how SentencePiece and byte-level tokenizers write a space
WHOLE_WORDS = (  # scripts in which one character is a word or a syllable
    (0x2E80, 0x30FF),  # CJK radicals, kana
    (0x3400, 0x9FFF),  # CJK ideographs
    (0xAC00, 0xD7AF),  # hangul syllables
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True, slots=True)
class TokenizerFit:
    """Shares of a catalogue's tokens and texts; zero where there is nothing to count."""

    unknown_share: float  # of tokens: the tokenizer has no word for them
    fragment_share: float  # of tokens: a byte, or a single letter of a longer word
    truncated_share: float  # of texts: longer than the encoder reads
    tokens_per_text: float  # before truncation, without marks such as [CLS]

    @property
    def warning(self) -> str | None:
        """What to tell the shop, where much of its text does not reach the encoder."""
        lost = self.unknown_share + self.fragment_share
        if lost <= WORRYING_SHARE:
            return None
        return (
            f"the encoder's tokenizer breaks this catalogue's language: {self.unknown_share:.0%}"
            f" of its tokens are unknown and {self.fragment_share:.0%} are single bytes or letters"
            f" (expected at most {WORRYING_SHARE:.0%} together). Set `base` to a multilingual"
            " encoder, such as intfloat/multilingual-e5-small"
        )


def tokenizer_fit(
    tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int, prefix: str = ""
) -> TokenizerFit:
    """`max_tokens` is read of prefix and text; of many texts, an even sample is looked at."""
    step = max(1, -(-len(texts) // MAX_TEXTS))
    saved = tokenizer.to_str()
    whole = Tokenizer.from_str(saved)
    unknown = _unknown_id(whole, json.loads(saved)["model"])
    whole.no_truncation()
    whole.no_padding()
    sample = [
        text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8") for text in texts[::step]
    ]
    encodings = whole.encode_batch(sample)
    counts: Counter[str] = Counter()
    for text, encoding in zip(sample, encodings, strict=True):
        counts.update(_kinds(text, encoding, unknown))
    tokens = max(1, counts.total())
    room = max_tokens - len(whole.encode(prefix, add_special_tokens=False).ids)
    truncated = sum(len(encoding.ids) > room for encoding in encodings)
    return TokenizerFit(
        unknown_share=counts["unknown"] / tokens,
        fragment_share=counts["fragment"] / tokens,
        truncated_share=truncated / max(1, len(sample)),
        tokens_per_text=counts.total() / max(1, len(sample)),
    )


def _unknown_id(tokenizer: Tokenizer, model: dict[str, object]) -> int | None:
    """A Unigram model keeps its number, the others its text; neither is an attribute of all."""
    number, token = model.get("unk_id"), model.get("unk_token")
    if isinstance(number, int):
        return number
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def _kinds(text: str, encoding: Encoding, unknown: int | None) -> list[str]:
    """One of unknown, fragment and known for every token that stands for text."""
    columns = (encoding.tokens, encoding.special_tokens_mask)
    stands_for_text = [
        not mark and token not in SPACES for token, mark in zip(*columns, strict=True)
    ]
    rows = zip(encoding.ids, encoding.offsets, encoding.word_ids, strict=True)
    spoken = list(itertools.compress(rows, stands_for_text))
    words = Counter(word for _, _, word in spoken)
    spans = Counter(span for _, span, _ in spoken)
    return [
        "unknown"
        if token == unknown
        else "fragment"
        if _is_fragment(text[span[0] : span[1]], shared=spans[span] > 1, alone=words[word] == 1)
        else "known"
        for token, span, word in spoken
    ]


def _is_fragment(piece: str, *, shared: bool, alone: bool) -> bool:
    """`shared`: other tokens stand for the same characters, as bytes do."""
    letters = piece.strip()
    if len(letters) != 1 or not letters.isalpha():
        return False
    whole = any(first <= ord(letters) <= last for first, last in WHOLE_WORDS)
    return shared or not (alone or whole)
