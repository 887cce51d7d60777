"""What an acceptable event is, and how its time is read: nothing is guessed or repaired."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import polars as pl

from features.checks import Rule, id_rules, preview, rule, split, text_column, wrong_type
from features.events import (
    EVENT_SCHEMA,
    MAX_CLOCK_SKEW_US,
    SEEN,
    US_PER_SECOND,
    CheckedRows,
    EventType,
)

TimeUnit: TypeAlias = Literal["s", "ms", "us"]

US_PER_UNIT: dict[TimeUnit, int] = {"s": US_PER_SECOND, "ms": 1_000, "us": 1}
EARLIEST_EVENT_US = 315_532_800 * US_PER_SECOND  # 1980: earlier than any storefront's log
END_OF_TIME_US = 253_402_300_800 * US_PER_SECOND  # year 10000: ISO-8601 ends before it
MAX_VALUE = 1e12  # more than anything costs; its square and a billion of them are still numbers
LATEST = "latest_event_time_us"  # a column, so that rules do not depend on the moment
TEXT_COLUMNS = ("event_id", "user_id", "session_id", "item_id", "event_type", "request_id")

ISO_EXAMPLE = "ISO-8601 with a zone, such as 2026-01-31T12:00:00Z"
ISO_TIME = (
    r"^(?<day>\d{4}-\d\d-\d\d)[Tt ]"
    r"(?<minute>\d\d:\d\d)(?<second>:[0-5]\d)?(?<fraction>[.,]\d{1,9})?"
)
ISO_ZONE = r" ?(?<zone>[Zz]|[+-]\d\d:?[0-5]\d)$"
USUAL_ISO = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d{1,9})?(Z|\+00:00)$"
ISO_WITHOUT_ZONE = r"^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?)?$"


def check_events(
    frame: pl.DataFrame, *, now_us: int, event_types: Sequence[EventType]
) -> CheckedRows:
    """Split into rows of EVENT_SCHEMA and rejected rows.

    An optional column `event_time_problem` (of `parse_times`) says why a time could not be read.
    """
    known = tuple(dict.fromkeys([*(kind.name for kind in event_types), SEEN]))
    columns, rules = _event_rules(tuple(frame.schema.items()), known)
    latest = pl.lit(now_us + MAX_CLOCK_SKEW_US, pl.Int64).alias(LATEST)
    return split(frame.with_columns(latest, *columns), rules, EVENT_SCHEMA)


@lru_cache(maxsize=64)  # a server meets one schema, an import a few; building takes a millisecond
def _event_rules(
    schema: tuple[tuple[str, pl.DataType], ...], known: tuple[str, ...]
) -> tuple[list[pl.Expr], list[Rule]]:
    """The columns that `split` needs beside LATEST, and its rules."""
    frame = pl.DataFrame(schema=dict(schema))
    texts = [text_column(frame, name) for name in TEXT_COLUMNS]
    times, time_rules = _time_column(frame)
    value, value_rules = _value_column(frame)
    neither = pl.col("user_id").is_null() & pl.col("session_id").is_null()
    rules = [
        *(wrong for _, wrongs in texts for wrong in wrongs),
        *id_rules("event_id", required=True),
        rule(neither, "user_id and session_id are both missing, expected at least one"),
        *id_rules("user_id", required=False),
        *id_rules("session_id", required=False),
        *id_rules("item_id", required=True),
        rule(pl.col("event_type").is_null(), f"event_type is missing, expected {_one_of(known)}"),
        rule(
            ~pl.col("event_type").is_in(known),
            "event_type is ",
            preview("event_type"),
            f", expected {_one_of(known)}",
        ),
        *time_rules,
        *id_rules("request_id", required=False),
        rule(
            (pl.col("event_type") == SEEN) & pl.col("request_id").is_null(),
            f"request_id is missing, expected the slate that was {SEEN}",
        ),
        *value_rules,
    ]
    return [*(text for text, _ in texts), *times, value], rules


def parse_times(
    times: pl.Series, *, unit: TimeUnit | None = None, name: str = "event_time"
) -> pl.DataFrame:
    """Two columns as long as `times`: `<name>_us` and `<name>_problem`.

    The first is Int64 microseconds UTC, null where nothing could be read; the second then says
    why (null where the input itself was null). Numbers, also as text, need `unit`; other text is
    ISO-8601 with a zone; Datetime columns need a zone.
    """
    frame = times.alias("time").to_frame()
    dtype = times.dtype
    if dtype == pl.String and (usual := _usual_times(times, name)) is not None:
        return usual
    if dtype.is_integer() or dtype.is_float():  # not Decimal, which rounds its products
        parsed, rules = _from_numbers(pl.col("time"), unit, name)
    elif dtype == pl.String:
        parsed, rules = _from_text(unit, name)
    elif isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        parsed, rules = pl.col("time").dt.timestamp("us"), []
    elif isinstance(dtype, pl.Datetime):
        parsed, rules = _unread(f"{name} has no time zone, expected a Datetime column with one")
    elif dtype == pl.Null:
        parsed, rules = pl.lit(None), []
    else:
        parsed, rules = _unread(f"{name} has type {dtype}, expected numbers or ISO-8601 text")
    read = frame.select("time", parsed.cast(pl.Int64).alias(f"{name}_us"))
    if read[f"{name}_us"].null_count() == times.null_count():  # nothing to explain, nothing to pay
        return read.select(f"{name}_us", pl.lit(None, pl.String).alias(f"{name}_problem"))
    problem = pl.coalesce(
        *(pl.when(r.fails).then(r.reason) for r in rules), pl.lit(None, pl.String)
    )
    return read.select(f"{name}_us", problem.alias(f"{name}_problem"))


def _usual_times(times: pl.Series, name: str) -> pl.DataFrame | None:
    """Texts all as browsers write them, at a tenth of the general cost; None for others."""
    if not times.str.contains(USUAL_ISO).all():
        return None
    local = pl.col("time").str.strip_suffix("Z").str.strip_suffix("+00:00")
    read = local.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    at = pl.DataFrame({"time": times}).select(read.dt.timestamp("us").alias(f"{name}_us"))
    if at[f"{name}_us"].null_count() > times.null_count():  # a 30th of February
        return None
    return at.with_columns(pl.lit(None, pl.String).alias(f"{name}_problem"))


def _unread(reason: str) -> tuple[pl.Expr, list[Rule]]:
    return pl.lit(None), [rule(pl.col("time").is_not_null(), reason)]


def _from_numbers(number: pl.Expr, unit: TimeUnit | None, name: str) -> tuple[pl.Expr, list[Rule]]:
    if unit is None:
        reason = " is a number without a unit, say whether it counts s, ms or us"
        return pl.lit(None), [rule(number.is_not_null(), f"{name} ", number, reason)]
    size = US_PER_UNIT[unit]
    magnitude = number.cast(pl.Float64).abs()
    inside = magnitude.is_finite() & (magnitude < END_OF_TIME_US // size)
    # integers stay integers, because a float cannot hold every microsecond of the far future
    scaled = pl.when(inside).then(number) * size
    reason = f" in {unit} is not a time before the year 10000"
    return scaled.round().cast(pl.Int64, strict=False), [rule(~inside, f"{name} ", number, reason)]


def _from_text(unit: TimeUnit | None, name: str) -> tuple[pl.Expr, list[Rule]]:
    text = pl.col("time").str.strip_chars()
    digits = pl.when(text.str.contains(r"^[+-]?\d{1,18}$")).then(text).cast(pl.Int64, strict=False)
    from_number, number_rules = _from_numbers(digits, unit, name)
    from_iso = _from_iso(text)
    rules = [
        *number_rules,
        rule(text == "", f"{name} is empty, expected {ISO_EXAMPLE}"),
        rule(
            text.str.contains(ISO_WITHOUT_ZONE),
            f"{name} ",
            preview("time"),
            " has no time zone, end it with Z or an offset such as +02:00",
        ),
        rule(
            digits.is_null() & text.is_not_null() & from_iso.is_null(),
            f"{name} ",
            preview("time"),
            f" cannot be read as a time, expected {ISO_EXAMPLE}",
        ),
    ]
    return pl.coalesce(from_number, from_iso), rules


def _from_iso(text: pl.Expr) -> pl.Expr:
    """Int64 µs; null for anything but a complete ISO-8601 time with a zone."""
    groups = text.str.extract_groups(ISO_TIME + ISO_ZONE).struct
    second, fraction = (groups.field(name).fill_null("") for name in ("second", "fraction"))
    local = pl.concat_str(groups.field("day"), pl.lit("T"), groups.field("minute"))
    seconds = pl.when(second == "").then(pl.lit(":00")).otherwise(second)
    at = (local + seconds + fraction.str.replace(",", ".", literal=True)).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
    )
    zone = groups.field("zone").str.replace("^[Zz]$", "+00:00").str.replace(":", "", literal=True)
    minutes = zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(3, 2).cast(pl.Int64)
    west = pl.when(zone.str.starts_with("-")).then(1).otherwise(-1)
    return at.dt.timestamp("us") + west * minutes * 60 * US_PER_SECOND


def _time_column(frame: pl.DataFrame) -> tuple[list[pl.Expr], list[Rule]]:
    name, problem = "event_time_us", "event_time_problem"
    dtype = frame.schema.get(name, pl.Null())
    if not (dtype.is_integer() or dtype == pl.Null):
        empty = [pl.lit(None, pl.Int64).alias(name)]
        return empty, [wrong_type(name, dtype, "integer microseconds, as parse_times returns")]
    known = frame.schema.get(problem) == pl.String
    time = pl.col(name) if name in frame.columns else pl.lit(None, pl.Int64).alias(name)
    why = pl.col(problem) if known else pl.lit(None, pl.String).alias(problem)
    column = pl.col(name)
    latest = pl.col(LATEST)
    too_late = (" is in the future, expected at most ", _written(latest))
    too_early = (" is before 1980, expected microseconds since 1970",)
    return [time.cast(pl.Int64, strict=False), why], [
        rule(pl.col(problem).is_not_null(), pl.col(problem)),
        rule(column.is_null(), f"{name} is missing"),
        rule(column > latest, f"{name} ", column, " (", _written(column), ")", *too_late),
        rule(column < EARLIEST_EVENT_US, f"{name} ", column, *too_early),
    ]


def _written(time_us: pl.Expr) -> pl.Expr:
    # the format function panics on years that it cannot write
    sound = pl.from_epoch(time_us.clip(0, END_OF_TIME_US - 1), time_unit="us")
    written = sound.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return pl.when(time_us < END_OF_TIME_US).then(written).otherwise(pl.lit("after the year 9999"))


def _value_column(frame: pl.DataFrame) -> tuple[pl.Expr, list[Rule]]:
    dtype = frame.schema.get("value", pl.Null())
    if not (dtype.is_numeric() or dtype == pl.Null):
        empty = pl.lit(None, pl.Float64).alias("value")
        return empty, [wrong_type("value", dtype, "a number")]
    value = pl.col("value") if "value" in frame.columns else pl.lit(None).alias("value")
    sound = pl.col("value").is_finite() & (pl.col("value").abs() <= MAX_VALUE)
    return value.cast(pl.Float64), [
        rule(~sound, "value is ", pl.col("value"), f", expected a finite number to {MAX_VALUE:g}")
    ]


def _one_of(names: Sequence[str]) -> str:
    return "one of " + ", ".join(names)
