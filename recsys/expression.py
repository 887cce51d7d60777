"""Which items: a small safe language over attributes and tags."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition on items; `text` is what was written."""

    text: str


def parse(text: str) -> Expression:
    return Expression(text)
