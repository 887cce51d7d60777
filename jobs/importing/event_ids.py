"""Gives events without an id one that only depends on what they say."""

from hashlib import blake2b

import polars as pl

_CONTENT = (
    "user_id",
    "session_id",
    "item_id",
    "event_type",
    "event_time_us",
    "request_id",
    "value",
)


class EventIds:
    """Ids of one file: a hash of the content, and a number where equal rows come again.

    Equal rows are told apart when they lie in the same batch or the next one; remembering more
    would cost memory that grows with the file.
    """

    def __init__(self) -> None:
        self._before = _no_counts()

    def filled(self, events: pl.DataFrame) -> pl.DataFrame:
        missing = events["event_id"].is_null()
        if not missing.any():
            return events
        hashes = _content_hashes(events).alias("hash").to_frame()
        nth = pl.int_range(pl.len()).over("hash") + pl.col("earlier").fill_null(0)
        numbered = hashes.join(
            self._before, on="hash", how="left", maintain_order="left"
        ).with_columns(nth=nth)
        self._before = numbered.group_by("hash").agg(earlier=pl.col("nth").max() + 1)
        again = pl.when(pl.col("nth") > 0).then(pl.format("-{}", "nth")).otherwise(pl.lit(""))
        made = numbered.select("row-" + pl.col("hash") + again).to_series()
        return events.with_columns(event_id=pl.col("event_id").fill_null(made))


def _content_hashes(events: pl.DataFrame) -> pl.Series:
    # a control character divides the fields: the checks allow none inside an id
    content = events.select(
        pl.concat_str(
            [pl.col(name).cast(pl.String).fill_null("\x00") for name in _CONTENT],
            separator="\x1f",
        )
    ).to_series()
    # Polars' own hash may change with its version; this loop runs at a million rows a second
    return pl.Series(
        [blake2b(text.encode(), digest_size=12).hexdigest() for text in content], dtype=pl.String
    )


def _no_counts() -> pl.DataFrame:
    return pl.DataFrame(schema={"hash": pl.String, "earlier": pl.Int64})
