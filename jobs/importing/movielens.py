"""MovieLens as GroupLens publishes it: movies, ratings and tags as CSV."""

from functools import partial
from pathlib import Path

import polars as pl

from features.event_checks import parse_times
from jobs.importing.columns import PROBLEM
from jobs.importing.parts import Part

LIKED, SEEN = 4.0, 3.0  # stars from which a rating counts as a like, and as a mere view


def is_movielens(folder: Path) -> bool:
    return (folder / "movies.csv").is_file() and (folder / "ratings.csv").is_file()


def movielens_parts(folder: Path) -> list[Part]:
    parts = [
        Part("movies.csv", "items", (folder / "movies.csv",), _movies),
        Part("ratings.csv", "events", (folder / "ratings.csv",), _ratings),
    ]
    if (folder / "tags.csv").is_file():
        comments = partial(_events, event_type=pl.lit("comment"))
        parts.append(Part("tags.csv", "events", (folder / "tags.csv",), comments))
    return parts


def _movies(rows: pl.DataFrame) -> pl.DataFrame:
    """The year stands in the title: "Toy Story (1995)"."""
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$")
    tags = pl.when(pl.col("genres") != "(no genres listed)").then(pl.col("genres").str.split("|"))
    return rows.select(
        item_id="movieId",
        title=pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""),
        tags=tags,
        attributes=pl.when(year.is_not_null()).then(
            pl.concat_str(pl.lit('{"year":'), year, pl.lit("}"))
        ),
    ).with_columns(pl.lit(None, pl.String).alias(PROBLEM))


def _ratings(rows: pl.DataFrame) -> pl.DataFrame:
    stars = pl.col("rating").cast(pl.Float64, strict=False)
    kind = (
        pl.when(stars >= LIKED)
        .then(pl.lit("like"))
        .when(stars >= SEEN)
        .then(pl.lit("view"))
        .otherwise(pl.lit("dismiss"))
    )
    unread = pl.format("rating is {}, expected a number of stars", pl.col("rating").fill_null(""))
    problem = pl.when(stars.is_null()).then(unread)
    return _events(rows.with_columns(value=stars, problem=problem), event_type=kind)


def _events(rows: pl.DataFrame, *, event_type: pl.Expr) -> pl.DataFrame:
    value = "value" if "value" in rows.columns else pl.lit(None, pl.Float64)
    problem = "problem" if "problem" in rows.columns else pl.lit(None, pl.String)
    return rows.select(
        pl.lit(None, pl.String).alias("event_id"),
        pl.col("userId").alias("user_id"),
        pl.lit(None, pl.String).alias("session_id"),
        pl.col("movieId").alias("item_id"),
        event_type.alias("event_type"),
        pl.lit(None, pl.String).alias("request_id"),
        value=value,
        import_problem=problem,
    ).hstack(parse_times(rows["timestamp"], unit="s"))
