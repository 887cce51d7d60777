"""The one place that decides what text an item becomes, for training, embedding and search."""

import json
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

MAX_TEXT_CHARS = 2_000  # 512 tokens, the longest input of common encoders, hold about as much
MAX_ATTRIBUTE_CHARS = 80  # longer values are prose, codes or addresses, not properties


def item_text(
    title: str, description: str, tags: Sequence[str], attributes: Mapping[str, object]
) -> str:
    """Title, tags, textual attribute values, description: what says most survives truncation.

    Numbers, addresses and nested values say little to a text encoder and are left out. An item
    that says nothing about itself becomes "".
    """
    values = _textual(attributes[key] for key in sorted(attributes))
    labels = _distinct(_clean(label) for label in (*tags, *values))
    parts = (_clean(title), ", ".join(labels), _clean(description))
    return ". ".join(part for part in parts if part)[:MAX_TEXT_CHARS]


def item_texts(items: pl.DataFrame) -> list[str]:
    """One text for each row of an item table."""
    columns = items.select("title", "description", "tags", "attributes")
    return [
        item_text(title or "", description or "", tags or (), json.loads(attributes or "{}"))
        for title, description, tags, attributes in columns.iter_rows()
    ]


def _textual(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, str) and len(part) <= MAX_ATTRIBUTE_CHARS and "://" not in part:
                yield part


def _distinct(labels: Iterable[str]) -> list[str]:
    """The first spelling of each label; a brand is often both a tag and an attribute."""
    spellings: dict[str, str] = {}
    for label in labels:
        if label:
            spellings.setdefault(label.casefold(), label)
    return list(spellings.values())


def _clean(text: str) -> str:
    return " ".join(text[: 2 * MAX_TEXT_CHARS].split())
