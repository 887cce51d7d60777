"""What a section of a report's page is made of, and how its figures are written."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobs.page_figures import Picture

Report = Mapping[str, Any]  # JSON values, as a step keeps them

ABSENT = "–"
DIGEST = 12  # letters of a digest that tell two releases apart
INTERVAL = re.compile(r"([+-]?[\d.,e-]+ )?\[[^]]*\]")  # with or without its mean
MAX_TITLE = 90  # letters: a tenth of Beauty's titles are longer, up to 865


@dataclass(frozen=True, slots=True)
class Table:
    """Written cells; where `numeric`, a column stands to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of a list, what is said of it, and whether it stands out."""

    title: str
    note: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """A named list, best first."""

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """Lists side by side, about one item or shopper."""

    title: str
    lists: tuple[Listing, ...]
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page, shown in the order of these fields."""

    anchor: str
    title: str
    words: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    examples_title: str = ""
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    kept = [tuple(row) for row in rows]
    numeric = tuple(
        any(_is_number(row[n]) for row in kept)
        and all(_is_number(row[n]) or row[n] in (None, "") for row in kept)
        for n in range(len(columns))
    )
    return Table(title, tuple(columns), tuple(tuple(map(written, row)) for row in kept), numeric)


def facts(report: Report, *, without: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """A report's own values, in its order; what it does not know is left out."""
    left_out = set(without)
    return tuple(
        _fact(name, value)
        for name, value in report.items()
        if name not in left_out and _is_plain(value)
    )


def _fact(name: str, value: object) -> tuple[str, str]:
    if name.endswith("_us") and isinstance(value, int):
        return spoken(name.removesuffix("_us")), minute(value)
    if "second" in name and isinstance(value, float):
        return spoken(name), f"{value:,.1f}"
    text = written(value)
    return spoken(name), text[:DIGEST] if name == "digest" else text


def written(value: object) -> str:
    """Rates with four digits, larger numbers with thousands apart, tiny ones with a power."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if 0 < abs(value) < 5e-5:  # four digits would call it nothing
            return f"{value:.1e}"
        return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys():
        mean, low, high = (written(value[name]) for name in ("mean", "low", "high"))
        return f"{mean} [{low}, {high}]"
    return str(value)


def spoken(name: str) -> str:
    """A field's name as words."""
    return name.replace("_", " ")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def shortened(title: str) -> str:
    """A title that fits into a list."""
    short = title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1].rstrip()}…"
    return short.strip()


def day(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).strftime("%Y-%m-%d")


def minute(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def is_known(value: object) -> bool:
    """NaN is a report that never went through JSON, null one that did."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.endswith("%") or INTERVAL.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: object) -> bool:
    return is_known(value) and value != "" and isinstance(value, str | int | float)
