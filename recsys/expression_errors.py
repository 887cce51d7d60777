"""What is wrong with a filter, in the words of who wrote it: where, found, expected, what to do."""

from collections.abc import Iterable

from lark import Token
from lark.exceptions import UnexpectedToken

from features.errors import DataError

LONGEST_FOUND = 100  # characters of what was found: a message, not the whole filter
_EXAMPLE = 'price < 20 or tags = "lamp"'

# What the grammar's names are to who writes a filter.
_WORDS = {
    "a field": ("NAME", "QUOTED_NAME"),
    "not": ("_NOT",),
    "(": ("LPAR",),
    "a value": ("TEXT", "NUMBER", "BOOLEAN"),
    "=, !=, <, <=, >, >=": ("EQUAL", "UNEQUAL", "ORDER"),
    "in": ("_IN",),
    "between": ("_BETWEEN",),
    "exists": ("_EXISTS",),
    "and": ("_AND",),
    "or": ("_OR",),
    "a comma": ("COMMA",),
    ")": ("RPAR",),
    "the end": ("$END",),
}
_KEYWORDS = ("_AND", "_OR", "_NOT", "_IN", "_BETWEEN", "_EXISTS", "BOOLEAN")
_ADVICE = {
    "&": "write and",
    "|": "write or",
    "!": "write not, or != between a field and a value",
    '"': 'close the quote with the sign that opened it, and write a quote within as \\"',
    "'": "close the quote with the sign that opened it, and write a quote within as \\'",
    "`": "close the field's name with a backquote",
    "“": 'quotes are straight, "so"',
    "”": 'quotes are straight, "so"',
    "‘": "quotes are straight, 'so'",
    "’": "quotes are straight, 'so'",
}


def unreadable(text: str, start: int) -> DataError:
    advice = _ADVICE.get(
        text[start], "put text into quotes, and unusual field names into `backquotes`"
    )
    return problem(
        start, f"found {text[start]}", "a field, a value or a sign of comparison", advice
    )


def misplaced(error: UnexpectedToken, text: str) -> DataError:
    token, accepted = error.token, error.accepts or error.expected
    expected = listed(word for word, names in _WORDS.items() if not accepted.isdisjoint(names))
    if token.type == "$END":
        return problem(len(text), "found the end", expected, f"write a whole condition, {_EXAMPLE}")
    advice = f"write conditions such as {_EXAMPLE}, joined by and, or, not"
    if token.type == "NAME" and "TEXT" in accepted:
        advice = f'text stands in quotes, "{token}"'
    elif token.type == "TEXT" and "NAME" in accepted:
        advice = "a field stands bare or in `backquotes`"
    elif token.type in ("EQUAL", "ORDER") and "TEXT" in accepted:
        advice = "one sign of comparison stands between a field and a value"
    elif token.type == "RPAR" and "$END" in accepted:
        advice = "no bracket is open here: take this one out"
    elif token.type in _KEYWORDS and "NAME" in accepted:
        advice = f"a field of that name stands in backquotes, `{token}`"
    return problem(token, f"found {token}", expected, advice)


def problem(where: Token | int, found: str, expected: str, advice: str = "") -> DataError:
    start = where if isinstance(where, int) else where.start_pos or 0
    found = found if len(found) <= LONGEST_FOUND else f"{found[:LONGEST_FOUND]}…"
    place = f"the filter, character {start + 1}: {found}, expected {expected}"
    return DataError(f"{place}; {advice}" if advice else place)


def listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
