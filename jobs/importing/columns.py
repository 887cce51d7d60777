"""What the columns of a file mean: from any names and types to the ones the checks expect.

Every function here keeps rows aligned: row i of the answer is row i of the file. A cell that
cannot be understood puts its reason into `import_problem`.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import orjson
import polars as pl

from features.errors import ConfigError
from features.event_checks import TimeUnit, parse_times
from features.events import EVENT_SCHEMA
from features.items import ITEM_SCHEMA

PROBLEM = "import_problem"
EVENT_FIELDS = (*EVENT_SCHEMA, "event_time", "position")
ITEM_FIELDS = (*ITEM_SCHEMA, "published_at")

# Names that mean only one thing in the exports of common shops and data sets.
ALIASES = {
    "event_type": ("event", "type", "action"),
    "event_time": ("timestamp", "time", "ts", "datetime", "created_at"),
    "item_id": ("item", "itemid", "product_id", "productid", "movieid", "sku", "asin"),
    "user_id": ("user", "userid", "customer_id", "visitor_id", "visitorid"),
    "session_id": ("session", "sessionid", "user_session"),
    "value": ("rating", "price"),
    "title": ("name", "product_name"),
    "tags": ("categories", "genres"),
}
_TRUE, _FALSE = ("true", "1", "yes", "t"), ("false", "0", "no", "f")


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """`given` maps a file's column to a field; names that already are fields need no entry."""

    given: Mapping[str, str]

    @classmethod
    def parse(cls, texts: list[str]) -> "ColumnMap":
        """From `column=field` texts."""
        fields = {*EVENT_FIELDS, *ITEM_FIELDS}
        given = {}
        for text in texts:
            column, separator, name = text.rpartition("=")
            if not separator or name not in fields:
                raise ConfigError(
                    f"found --map {text}; expected column=field with a field of "
                    f"{', '.join(sorted(fields))}; correct it"
                )
            given[column] = name
        return cls(given)

    def check(self, columns: list[str]) -> None:
        missing = [column for column in self.given if column not in columns]
        if missing:
            raise ConfigError(
                f"found no column {', '.join(missing)} to map; expected one of "
                f"{', '.join(columns)}; correct --map"
            )

    def renamed(self, rows: pl.DataFrame, fields: tuple[str, ...]) -> pl.DataFrame:
        """Columns under their field's name: as given, then by their own name, then by alias."""
        taken = {name: column for column, name in self.given.items() if column in rows.columns}
        lower = {column.lower(): column for column in reversed(rows.columns)}
        for field in fields:
            for name in (field, *ALIASES.get(field, ())):
                if field not in taken and name in lower and lower[name] not in taken.values():
                    taken[field] = lower[name]
        others = [c for c in rows.columns if c not in taken.values() and c not in taken]
        return rows.select(*(pl.col(column).alias(name) for name, column in taken.items()), *others)


def guessed_time_unit(times: pl.Series) -> TimeUnit | None:
    """The unit in which these numbers lie between 1973 and 5138; None where they are no numbers."""
    numbers = times.cast(pl.Float64, strict=False) if times.dtype == pl.String else times
    if not numbers.dtype.is_numeric() or numbers.drop_nulls().is_empty():
        return None
    middle = pl.DataFrame({"n": numbers}).select(pl.col("n").cast(pl.Float64).median()).item()
    if middle < 1e11:
        return "s"
    return "ms" if middle < 1e14 else "us"


def event_columns(
    rows: pl.DataFrame, columns: ColumnMap, *, event_type: str, unit: TimeUnit | None
) -> pl.DataFrame:
    """EVENT_SCHEMA's columns as far as the file has them, ready for `check_events`.

    `event_type` fills rows that have none; `unit` is for times that are numbers.
    """
    found = columns.renamed(rows, EVENT_FIELDS)
    if "event_time_us" not in found.columns or not found["event_time_us"].dtype.is_integer():
        name = "event_time_us" if "event_time_us" in found.columns else "event_time"
        unit = "us" if name == "event_time_us" else unit
        times = found[name] if name in found.columns else pl.Series([None] * len(found))
        found = found.drop("event_time_us", strict=False)
        found = found.hstack(parse_times(times, unit=unit, name="event_time"))
    for name in EVENT_SCHEMA:
        if name not in found.columns:
            found = found.with_columns(pl.lit(None, EVENT_SCHEMA[name]).alias(name))
    # a float stays one, for the check to refuse: "17.0" would be another shopper than "17"
    texts = [n for n, t in EVENT_SCHEMA.items() if t == pl.String and not _is_float_id(found, n)]
    value, problem = _number("value", found.schema["value"])
    kept = [*EVENT_SCHEMA, *(c for c in ("event_time_problem",) if c in found)]
    return found.with_columns(
        *(pl.col(name).cast(pl.String) for name in texts), value, problem.alias(PROBLEM)
    ).select(
        pl.col(*kept, PROBLEM).exclude("event_type"), pl.col("event_type").fill_null(event_type)
    )


def _is_float_id(rows: pl.DataFrame, name: str) -> bool:
    return name in ("user_id", "session_id", "item_id") and rows[name].dtype.is_float()


def item_columns(rows: pl.DataFrame, columns: ColumnMap) -> pl.DataFrame:
    """ITEM_SCHEMA's columns as far as the file has them; every other column is an attribute."""
    found = columns.renamed(rows, ITEM_FIELDS)
    extra = [c for c in found.columns if c not in ITEM_FIELDS]
    kept = found.select(c for c in found.columns if c in ITEM_FIELDS)
    problem = pl.lit(None, pl.String)
    if "tags" in kept.columns and kept["tags"].dtype == pl.String:
        tags = [_tag_list(text) for text in kept["tags"]]
        kept = kept.with_columns(pl.Series("tags", tags, pl.List(pl.String)))
    if extra:
        kept = kept.with_columns(_attributes(found, extra))
    if kept.schema.get("available", pl.Boolean) != pl.Boolean:
        text = pl.col("available").cast(pl.String).str.to_lowercase()
        known = text.is_in([*_TRUE, *_FALSE]) | text.is_null()
        why = pl.format("available is {}, expected true or false", text.fill_null(""))
        problem = pl.when(~known).then(why)
        kept = kept.with_columns(problem.alias(PROBLEM), available=text.is_in(_TRUE))
    if "published_at" in kept.columns:
        unit = guessed_time_unit(kept["published_at"])
        kept = kept.hstack(parse_times(kept["published_at"], unit=unit, name="published_at"))
    elif kept.schema.get("published_at_us", pl.Int64) == pl.String:
        kept = kept.hstack(
            parse_times(kept["published_at_us"], unit="us", name="time")
        ).with_columns(published_at_us="time_us", published_at_problem="time_problem")
    names = ("published_at", "time_us", "time_problem")
    kept = kept.drop(names, strict=False)
    return kept if PROBLEM in kept else kept.with_columns(pl.lit(None, pl.String).alias(PROBLEM))


def _number(name: str, dtype: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    """The column as Float64 and, aligned, why a cell is no number."""
    number = pl.col(name).cast(pl.Float64, strict=False)
    if dtype.is_numeric():
        return number, pl.lit(None, pl.String)
    unread = pl.col(name).is_not_null() & number.is_null()
    return number, pl.when(unread).then(pl.format(f"{name} is {{}}, expected a number", name))


def _tag_list(text: str | None) -> list[str] | None:
    """A JSON list, or words divided by `|`."""
    if text is None or not text.startswith("["):
        return text.split("|") if text else None
    try:
        return [str(tag) for tag in orjson.loads(text)]
    except orjson.JSONDecodeError:
        return [text]


def _attributes(found: pl.DataFrame, extra: list[str]) -> pl.Series:
    """Each row's other columns as one JSON object; a price becomes a number where it is one."""
    names = [*extra, *(["attributes"] if "attributes" in found.columns else [])]
    return pl.Series("attributes", [_attribute_text(row) for row in found.select(names).to_dicts()])


def _attribute_text(row: dict[str, object]) -> str:
    given = row.pop("attributes", None)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return str(given)  # the check says what is wrong with it
    kept = {name: value for name, value in row.items() if value is not None}
    price = kept.get("price")
    if isinstance(price, str):
        with suppress(ValueError):  # the check refuses it, with the text found
            kept["price"] = float(price)
    both = {**kept, **given} if isinstance(given, dict) else kept
    return json.dumps(both, ensure_ascii=False, default=str)
