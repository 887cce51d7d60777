"""What an acceptable item is: the catalogue's table, and its rows checked before they count."""

import json
import math
from typing import Any

import orjson
import polars as pl

from features.checks import Rule, id_rules, rule, split, text_column, wrong_type
from features.event_checks import END_OF_TIME_US
from features.events import CheckedRows

ITEM_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "description": pl.String(),
    "tags": pl.List(pl.String()),
    "attributes": pl.String(),  # a JSON object with sorted keys
    "available": pl.Boolean(),
    "published_at_us": pl.Int64(),  # null where unknown
}

# Far above what a shop page shows; beyond them the text is a mistake, not a description.
MAX_TITLE_LENGTH = 2_000
MAX_DESCRIPTION_LENGTH = 50_000
MAX_ATTRIBUTES_LENGTH = 20_000
MAX_TAGS = 64
MAX_TAG_LENGTH = 200


def check_items(frame: pl.DataFrame) -> CheckedRows:
    """Split into rows of ITEM_SCHEMA and rejected rows.

    Only `item_id` and some text are required. `attributes` may be structs, dicts or JSON text;
    nulls in it are dropped. Tags are stripped and deduplicated, keeping their order.
    """
    texts = [text_column(frame, name) for name in ("item_id", "title", "description")]
    tags, tag_rules = _tags(frame)
    available, available_rules = _available(frame)
    published, published_rules = _published(frame)
    prepared = frame.with_columns(
        *(text for text, _ in texts), tags, available, *published, *attribute_texts(frame)
    ).with_columns(pl.col("title", "description").fill_null("").str.strip_chars())
    has_text = (pl.col("title") != "") | (pl.col("description") != "")
    rules = [
        *(wrong for _, wrongs in texts for wrong in wrongs),
        *id_rules("item_id", required=True),
        *_text_rules("title", MAX_TITLE_LENGTH),
        *_text_rules("description", MAX_DESCRIPTION_LENGTH),
        *tag_rules,
        rule(
            ~has_text & (pl.col("tags").list.len() == 0),
            "title, description and tags are all empty, expected at least one",
        ),
        rule(pl.col("attributes_problem").is_not_null(), pl.col("attributes_problem")),
        *available_rules,
        *published_rules,
    ]
    return split(prepared, rules, ITEM_SCHEMA)


def _text_rules(name: str, longest: int) -> list[Rule]:
    length = pl.col(name).str.len_chars()
    return [
        rule(length > longest, f"{name} has ", length, f" characters, expected at most {longest}"),
        # databases other than SQLite cannot store it
        rule(pl.col(name).str.contains("\0", literal=True), f"{name} contains a NUL character"),
    ]


def _tags(frame: pl.DataFrame) -> tuple[pl.Expr, list[Rule]]:
    empty = pl.lit([], pl.List(pl.String))
    dtype = frame.schema.get("tags", pl.Null())
    if dtype == pl.Null:
        return empty.alias("tags"), []
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    if inner not in (pl.String, pl.Null) and not (inner is not None and inner.is_integer()):
        return empty.alias("tags"), [wrong_type("tags", dtype, "a list of texts")]
    stripped = pl.element().cast(pl.String).str.strip_chars()
    clean = stripped.filter(stripped.str.contains(r"\S")).unique(maintain_order=True)
    longest = pl.col("tags").list.eval(pl.element().str.len_chars()).list.max()
    count = pl.col("tags").list.len()
    has_nul = pl.col("tags").list.eval(pl.element().str.contains("\0", literal=True)).list.any()
    return pl.col("tags").list.eval(clean).fill_null(empty), [
        rule(count > MAX_TAGS, "tags holds ", count, f" tags, expected at most {MAX_TAGS}"),
        rule(
            longest > MAX_TAG_LENGTH,
            "a tag has ",
            longest,
            f" characters, expected at most {MAX_TAG_LENGTH}",
        ),
        rule(has_nul, "a tag contains a NUL character"),
    ]


def _available(frame: pl.DataFrame) -> tuple[pl.Expr, list[Rule]]:
    dtype = frame.schema.get("available", pl.Null())
    if dtype == pl.Boolean:
        return pl.col("available").fill_null(value=True), []
    wrong = [] if dtype == pl.Null else [wrong_type("available", dtype, "true or false")]
    return pl.lit(value=True).alias("available"), wrong


def _published(frame: pl.DataFrame) -> tuple[list[pl.Expr], list[Rule]]:
    name, problem = "published_at_us", "published_at_problem"
    dtype = frame.schema.get(name, pl.Null())
    usable = dtype.is_integer()
    wrong = [] if usable or dtype == pl.Null else [wrong_type(name, dtype, "integer microseconds")]
    time = pl.col(name).cast(pl.Int64) if usable else pl.lit(None, pl.Int64).alias(name)
    has_problem = frame.schema.get(problem) == pl.String
    why = pl.col(problem) if has_problem else pl.lit(None, pl.String).alias(problem)
    beyond = pl.col(name).is_between(-END_OF_TIME_US, END_OF_TIME_US).not_()
    return [time, why], [
        *wrong,
        rule(pl.col(problem).is_not_null(), pl.col(problem)),
        rule(beyond, f"{name} ", pl.col(name), ", expected microseconds since 1970"),
    ]


def attribute_texts(frame: pl.DataFrame, *, priced: bool = True) -> list[pl.Series]:
    """The canonical JSON texts and, aligned, why a row has none; `priced` checks the price."""
    given = frame["attributes"].to_list() if "attributes" in frame.columns else [None] * len(frame)
    texts: list[str | None] = []
    problems: list[str | None] = []
    for value in given:
        try:
            texts.append(_attributes_text(value, priced=priced))
            problems.append(None)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            texts.append(None)
            problems.append(f"attributes: {error}"[:300])  # a message, not the whole value
    return [
        pl.Series("attributes", texts, pl.String),
        pl.Series("attributes_problem", problems, pl.String),
    ]


def _attributes_text(value: Any, *, priced: bool) -> str:  # noqa: ANN401  JSON is whatever it is
    """Raise for what is no JSON object of sound values: the errors that `_attributes` words."""
    if value is None or value == "":
        return "{}"
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, dict):
        raise TypeError(f"found {type(value).__name__}, expected a JSON object")
    kept = {str(name): entry for name, entry in value.items() if entry is not None}
    if priced:
        _check_price(kept.get("price"))
    text = json.dumps(
        kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    text.encode()  # a lone surrogate is legal in JSON and nowhere else
    if "\\u0000" in text:
        raise ValueError("found a NUL character")
    if len(text) > MAX_ATTRIBUTES_LENGTH:
        raise ValueError(f"found {len(text)} characters, expected at most {MAX_ATTRIBUTES_LENGTH}")
    orjson.loads(text)  # as every catalogue reads it: one item it refuses would stop them all
    return text


def _check_price(price: object) -> None:
    if price is None:
        return
    is_number = isinstance(price, int | float) and not isinstance(price, bool)
    if not is_number or not math.isfinite(price) or price < 0:  # type: ignore[operator,arg-type]
        raise ValueError(f"price is {price!r}, expected a finite number from 0 up")


def with_unlisted_items(items: pl.DataFrame, item_ids: pl.Series) -> pl.DataFrame:
    """ITEM_SCHEMA rows by item_id: the items, and bare ones for ids that only events name."""
    bare = (
        pl.DataFrame({"item_id": item_ids.unique()})
        .join(items, on="item_id", how="anti")
        .with_columns(
            title=pl.lit(""),
            description=pl.lit(""),
            tags=pl.lit([], pl.List(pl.String)),
            attributes=pl.lit("{}"),
            available=pl.lit(value=True),
            published_at_us=pl.lit(None, pl.Int64),
        )
    )
    return pl.concat([items, bare.select(*ITEM_SCHEMA)]).sort("item_id")
