"""How well a tokenizer knows a shop's language, before anybody trusts vectors made with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from recsys.retrieval.text import MAX_TEXT_CHARS

MAX_TEXTS = 2_000  # evenly spread; a share of 0.1 is then known to 0.01 with 10 tokens a text
WORRYING_SHARE = 0.2  # MiniLM: Beauty's English .05; one sentence of French .12, German .23,
# Polish .31, Japanese .36, Chinese .80, Russian .92
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
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    whole.no_padding()
    sample = [
        text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8") for text in texts[::step]
    ]
    encodings = whole.encode_batch(sample)
    counts: Counter[str] = Counter()
    for text, encoding in zip(sample, encodings, strict=True):
        counts.update(_kinds(whole, text, encoding))
    tokens = max(1, counts.total())
    room = max_tokens - len(whole.encode(prefix, add_special_tokens=False).ids)
    truncated = sum(len(encoding.ids) > room for encoding in encodings)
    return TokenizerFit(
        unknown_share=counts["unknown"] / tokens,
        fragment_share=counts["fragment"] / tokens,
        truncated_share=truncated / max(1, len(sample)),
        tokens_per_text=counts.total() / max(1, len(sample)),
    )


def _kinds(tokenizer: Tokenizer, text: str, encoding: Encoding) -> list[str]:
    """One of unknown, fragment and known for every token that stands for text."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)
    if unknown_id is None:  # a Unigram model keeps its number instead
        unknown_id = getattr(tokenizer.model, "unk_id", None)
    rows = zip(
        encoding.ids, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask, strict=True
    )
    spoken = [
        (token, span, word) for token, span, word, mark in rows if word is not None and not mark
    ]
    words = Counter(word for _, _, word in spoken)
    spans = Counter(span for _, span, _ in spoken)
    return [
        "unknown"
        if token == unknown_id
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
