"""Reads CSV, JSONL and Parquet in batches, so that memory does not grow with the file.

Rows that are no rows (wrong number of cells, not JSON) are kept with their reason. Cells of CSV
and JSONL stay text: what they mean is decided later, in one place for every format.
"""

import csv
import gzip
import io
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from features.arrays import Int64Array
from features.errors import DataError

BLOCK_BYTES = 4 << 20  # about 100,000 events: large enough to be fast, small enough to forget
PARQUET_ROWS = 100_000
_QUOTED_NAME = re.compile(rb'"([^"\\]*)"\s*:')
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that could not be read at all."""

    number: int
    reason: str
    raw: object


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Rows as they are in the file; `numbers` (n,) count its rows from 1, a header not included."""

    rows: pl.DataFrame
    numbers: Int64Array
    malformed: list[Malformed] = field(default_factory=list)


def data_suffix(path: Path) -> str | None:
    """`.csv` for a.csv and a.csv.gz; None for what this module cannot read."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    return suffix.lower() if suffix.lower() in SUFFIXES else None


def read_batches(path: Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[RawBatch]:
    """Raises DataError for a file that is empty, cut short or of another format than its name."""
    suffix = data_suffix(path)
    if suffix is None:
        raise DataError(
            f"found {path.name}; expected a name ending in one of {', '.join(SUFFIXES)}, "
            "with or without .gz; rename or convert it"
        )
    try:
        if suffix == ".parquet":
            yield from _read_parquet(path)
        elif suffix in (".csv", ".tsv"):
            yield from _read_csv(path, block_bytes)
        else:
            yield from _read_jsonl(path, block_bytes)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(
            f"found {path} unreadable ({error}); expected a complete {suffix} file; "
            "export or download it again"
        ) from error


def first_rows(path: Path) -> pl.DataFrame:
    """The first rows, at least one, to see what a file holds."""
    for batch in read_batches(path, block_bytes=64 << 10):
        if batch.rows.height:
            return batch.rows
    raise DataError(f"found no readable row in {path}; expected a table; check the file")


def expected_batches(paths: tuple[Path, ...]) -> int | None:
    """How many batches these files make, None where compression hides it."""
    total = 0
    for path in paths:
        if path.suffix == ".gz":
            return None
        if data_suffix(path) == ".parquet":
            rows = pa_parquet.read_metadata(path).num_rows
            total += math.ceil(rows / PARQUET_ROWS)
        else:
            total += math.ceil(path.stat().st_size / BLOCK_BYTES)
    return total


def _read_csv(path: Path, block_bytes: int) -> Iterator[RawBatch]:
    header, delimiter = _header(path)
    malformed: list[Malformed] = []

    def keep(row: Any) -> str:  # noqa: ANN401  pyarrow's InvalidRow
        reason = f"found {row.actual_columns} cells, expected {row.expected_columns}"
        malformed.append(Malformed(row.number - 1, reason, row.text))  # the header is its row 1
        return "skip"

    with pa.input_stream(str(path), compression="detect") as stream:
        reader = pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=block_bytes, column_names=header, skip_rows=1
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep
            ),
            # bytes, because one cell that is not UTF-8 would stop the whole file
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.binary())),
        )
        n_good, n_told = 0, 0
        for batch in reader:
            rows = _decoded(pl.DataFrame(pl.from_arrow(batch)))
            skipped = np.array([m.number for m in malformed], np.int64)
            good = np.arange(n_good, n_good + rows.height)
            # the g-th good row comes after every malformed row with fewer than g good rows before
            before = np.searchsorted(skipped - np.arange(len(skipped)) - 1, good, side="right")
            n_good += rows.height
            yield _without_garbled(RawBatch(rows, good + before + 1, malformed[n_told:]))
            n_told = len(malformed)
        if n_told < len(malformed):
            empty = pl.DataFrame(schema=dict.fromkeys(header, pl.String))
            yield RawBatch(empty, np.empty(0, np.int64), malformed[n_told:])


def _header(path: Path) -> tuple[list[str], str]:
    with _opened(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", errors="replace") as text:
        line = text.readline()
    delimiter = max(",\t;", key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    header = [name.strip() or f"column_{number}" for number, name in enumerate(names)]
    if not line.strip() or len(set(header)) < len(header):
        raise DataError(
            f"found header {line.strip()[:200]!r} in {path}; expected distinct column names in "
            "the first line; add or correct it"
        )
    return header, delimiter


def _decoded(rows: pl.DataFrame) -> pl.DataFrame:
    """Bytes to text; an empty cell is null, a byte that is not UTF-8 becomes U+FFFD."""
    try:
        text = rows.select(pl.all().cast(pl.String))
    except pl.exceptions.ComputeError:
        text = rows.select(
            pl.Series(
                column.name,
                [None if cell is None else cell.decode("utf-8", "replace") for cell in column],
                pl.String,
            )
            for column in rows
        )
    return text.select(pl.when(pl.all() != "").then(pl.all()))


def _without_garbled(batch: RawBatch) -> RawBatch:
    """Rows with a byte that is not UTF-8 are no rows."""
    garbled = batch.rows.select(
        pl.any_horizontal(pl.all().str.contains("\ufffd", literal=True).fill_null(value=False))
    ).to_series()
    if not garbled.any():
        return batch
    where = np.flatnonzero(garbled.to_numpy())
    told = [
        Malformed(int(batch.numbers[row]), "not UTF-8, expected UTF-8", raw)
        for row, raw in zip(where, batch.rows.filter(garbled).to_dicts(), strict=True)
    ]
    kept = np.delete(batch.numbers, where)
    return RawBatch(batch.rows.filter(~garbled), kept, [*batch.malformed, *told])


def _read_jsonl(path: Path, block_bytes: int) -> Iterator[RawBatch]:
    schema: dict[str, type[pl.DataType]] = {}
    seen: set[bytes] = set()
    number = 1
    with _opened(path) as file:
        while lines := file.readlines(block_bytes):
            block = b"".join(lines)
            # a column may start late in the file; only then is every line looked at
            if unseen := set(_QUOTED_NAME.findall(block)) - seen:
                schema |= _json_names(lines)
                seen |= unseen
            rows = _parsed(block, schema)
            if rows is not None and rows.height == len(lines):
                yield RawBatch(rows, np.arange(number, number + len(lines)))
            else:
                yield _line_by_line(lines, number, schema)
            number += len(lines)


def _json_names(lines: list[bytes]) -> dict[str, type[pl.DataType]]:
    names: dict[str, type[pl.DataType]] = {}
    for line in lines:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            names.update(dict.fromkeys(entry, pl.String))
    return names


def _parsed(block: bytes, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame | None:
    """Every value as text, lists and objects as their JSON; None where a line is no object."""
    if not schema:
        return None
    try:
        return pl.read_ndjson(block, schema=schema)
    except pl.exceptions.PolarsError:
        return None


def _line_by_line(
    lines: list[bytes], first_number: int, schema: dict[str, type[pl.DataType]]
) -> RawBatch:
    """A block with a bad line in it: the good ones and the reasons; blank lines do not count."""
    good, numbers, malformed = [], [], []
    for number, line in enumerate(lines, first_number):
        if not line.strip():
            continue
        try:
            is_object, reason = isinstance(orjson.loads(line), dict), "expected a JSON object"
        except orjson.JSONDecodeError as error:
            is_object, reason = False, f"not JSON: {error}"
        if is_object:
            good.append(line.rstrip(b"\r\n"))
            numbers.append(number)
        else:
            malformed.append(Malformed(number, reason, line.decode("utf-8", "replace").rstrip()))
    rows = _parsed(b"\n".join(good), schema) if good else None
    if rows is None or rows.height != len(good):
        malformed += [
            Malformed(n, "cannot be read", text.decode("utf-8", "replace"))
            for n, text in zip(numbers, good, strict=True)
        ]
        return RawBatch(pl.DataFrame(schema=schema), np.empty(0, np.int64), malformed)
    return RawBatch(rows, np.array(numbers, np.int64), malformed)


def _read_parquet(path: Path) -> Iterator[RawBatch]:
    number = 1
    with _seekable(path) as file:
        for batch in pa_parquet.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS):
            rows = pl.DataFrame(pl.from_arrow(batch))
            yield RawBatch(rows, np.arange(number, number + rows.height))
            number += rows.height


@contextmanager
def _seekable(path: Path) -> Iterator[IO[bytes]]:
    """Parquet is read from its end: a compressed file is unpacked to disk first."""
    if path.suffix != ".gz":
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as unpacked, gzip.open(path) as packed:
        shutil.copyfileobj(packed, unpacked)
        unpacked.seek(0)
        yield unpacked


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
