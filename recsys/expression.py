"""Which items: a small safe language over their fields, read here and answered by columns.

    brand in ("Acme", 'Bolt') and price between 10 and 20 and not tags = "refurbished"

Nothing in it can call, loop or recurse; length, depth and number of conditions are bounded, so a
stranger's expression costs no more than a few passes over the catalogue.
"""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from features.errors import DataError
from recsys.conditions import (
    BUILT_IN,
    AllOf,
    AnyOf,
    Exists,
    Node,
    Not,
    OneOf,
    Value,
    Within,
    parts,
)
from recsys.expression_errors import listed, misplaced, problem, unreadable

MAX_LENGTH = 2_000  # characters: a screenful; longer ones are lists that belong into a tag
MAX_CONDITIONS = 50  # each is a pass over the catalogue for who asks it first
MAX_DEPTH = 30  # of and, or, not within each other; far from Python's own limit
REMEMBERED = 1_024  # texts read before; twice the rules a shop may have, about 25 kB at worst

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition on items; `text` is what was written, and says which expression it is."""

    text: str
    root: Node = field(compare=False, repr=False)
    fields: tuple[str, ...] = field(compare=False, repr=False)  # in the order of their names

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=REMEMBERED)
def parse(text: str) -> Expression:
    """Raises DataError that says where, what was found, what was expected and what to do."""
    if len(text) > MAX_LENGTH:
        raise DataError(
            f"the filter has {len(text)} characters, expected at most {MAX_LENGTH}: tag the items "
            "that you mean and filter by the tag"
        )
    try:
        root = _parser().parse(text)
    except UnexpectedCharacters as error:
        raise unreadable(text, cast(int, error.pos_in_stream)) from None
    except UnexpectedToken as error:
        raise misplaced(error, text) from None
    assert isinstance(root, Node)
    nodes = list(parts(root))
    deepest = max(depth for _, depth in nodes)
    if deepest > MAX_DEPTH:
        raise DataError(
            f"the filter nests and, or, not {deepest} deep, expected at most {MAX_DEPTH}: "
            "write it flatter, or as a tag of the items"
        )
    named = [node.field for node, _ in nodes if isinstance(node, OneOf | Within | Exists)]
    if len(named) > MAX_CONDITIONS:
        raise DataError(
            f"the filter has {len(named)} conditions, expected at most {MAX_CONDITIONS}: write "
            'equal fields as one list, brand in ("Acme", "Bolt")'
        )
    return Expression(text, root, tuple(sorted(set(named))))


_GRAMMAR = r"""
?start: any_of
any_of: all_of (_OR all_of)*
all_of: _unary (_AND _unary)*
_unary: negation | "(" any_of ")" | _condition
negation: _NOT _unary
_condition: equal | order | one_of | none_of | between | exists
equal: name (EQUAL | UNEQUAL) value
order: name ORDER value
one_of: name _IN _values
none_of: name _NOT _IN _values
between: name _BETWEEN value _AND value
exists: name _EXISTS
_values: "(" value ("," value)* ")"
name: NAME | QUOTED_NAME
?value: TEXT | NUMBER | BOOLEAN

EQUAL: "="
UNEQUAL: "!="
ORDER: "<=" | ">=" | "<" | ">"
NAME: /[A-Za-z_][A-Za-z0-9_.-]*/
QUOTED_NAME: /`(\\.|[^`\\])+`/s
TEXT: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
NUMBER: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?/
%declare _AND _OR _NOT _IN _BETWEEN _EXISTS BOOLEAN
%ignore /\s+/
"""

_KEYWORDS = {
    "and": "_AND",
    "or": "_OR",
    "not": "_NOT",
    "in": "_IN",
    "between": "_BETWEEN",
    "exists": "_EXISTS",
    "true": "BOOLEAN",
    "false": "BOOLEAN",
}
_ESCAPES = {'"': '"', "'": "'", "`": "`", "\\": "\\", "n": "\n", "t": "\t"}
_KINDS: dict[type | None, str] = {
    str: "text in quotes",
    bool: "true or false",
    float: "a number",
}


def _keyword(token: Token) -> Token:
    kind = _KEYWORDS.get(token.lower())
    return token if kind is None else Token.new_borrow_pos(kind, str(token), token)


@cache
def _parser() -> Lark:
    return Lark(
        _GRAMMAR,
        parser="lalr",
        lexer="basic",
        lexer_callbacks={"NAME": _keyword},
        transformer=_Builder(),
    )


class _Builder(Transformer[Token, Node]):
    """Nodes from tokens, from the inside out while the text is read."""

    def any_of(self, parts: list[Node]) -> Node:
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def all_of(self, parts: list[Node]) -> Node:
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def negation(self, parts: list[Node]) -> Node:
        return Not(parts[0])

    def name(self, tokens: list[Token]) -> Token:
        token = tokens[0]
        name = _unquoted(token) if token.type == "QUOTED_NAME" else str(token)
        return Token.new_borrow_pos(token.type, name, token)

    def equal(self, tokens: list[Token]) -> Node:
        name, sign, value = tokens
        return OneOf(str(name), (_value(name, value),), negated=sign == "!=")

    def one_of(self, tokens: list[Token]) -> Node:
        name, *values = tokens
        return OneOf(str(name), tuple(_value(name, value) for value in values))

    def none_of(self, tokens: list[Token]) -> Node:
        name, *values = tokens
        return OneOf(str(name), tuple(_value(name, value) for value in values), negated=True)

    def order(self, tokens: list[Token]) -> Node:
        name, sign, value = tokens
        bound = _bound(name, value)
        if sign[0] == "<":
            return Within(
                str(name), high=bound if sign == "<=" else math.nextafter(bound, -math.inf)
            )
        return Within(str(name), low=bound if sign == ">=" else math.nextafter(bound, math.inf))

    def between(self, tokens: list[Token]) -> Node:
        name, low, high = tokens
        within = Within(str(name), _bound(name, low), _bound(name, high))
        if within.low > within.high:
            raise problem(
                low, f"found {name} between {low} and {high}", "the smaller first", "swap them"
            )
        return within

    def exists(self, tokens: list[Token]) -> Node:
        return Exists(str(tokens[0]))


def _unquoted(token: Token) -> str:
    for escape in re.finditer(r"\\(.)", token, re.DOTALL):
        if escape[1] not in _ESCAPES:
            raise problem(
                token, f"found the escape {escape[0]}", listed(f"\\{e}" for e in _ESCAPES)
            )
    return re.sub(r"\\(.)", lambda escape: _ESCAPES[escape[1]], token[1:-1], flags=re.DOTALL)


def _value(name: Token, token: Token) -> Value:
    """The literal as what the field is compared with."""
    if token.type == "TEXT":
        value: Value = _unquoted(token)
    elif token.type == "BOOLEAN":
        value = token.lower() == "true"
    else:
        value = _number(token)
    kind = BUILT_IN.get(name)
    if kind is datetime:
        return _microseconds(name, token, value)
    found = type(value) if isinstance(value, str | bool) else float
    if kind is not None and kind is not found:
        raise problem(
            token, f"found {token}", f"{_KINDS[kind]}: {name} is compared with nothing else"
        )
    return value


def _number(token: Token) -> float:
    """Whole numbers stay whole: ids of 19 digits are told apart by = and in."""
    number = float(token)
    if not math.isfinite(number):
        raise problem(token, f"found {token}", "a number that a computer holds, below 1e308")
    return int(token) if re.fullmatch("[+-]?[0-9]+", token) else number


def _bound(name: Token, token: Token) -> float:
    value = _value(name, token)
    if isinstance(value, str | bool):
        advice = "only numbers and published_at have an order; use =, != or in for others"
        raise problem(token, f"found {token}", "a number", advice)
    return float(value)


def _microseconds(name: Token, token: Token, value: Value) -> float:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        example = '"2026-11-23T18:00:00Z"'
        raise problem(
            token, f"found {token}", f"an ISO-8601 time with its zone for {name}, {example}"
        )
    return float((time - _EPOCH) // _MICROSECOND)
