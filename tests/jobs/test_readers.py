import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import DataError
from jobs.importing.readers import data_suffix, read_batches
from tests.jobs.importing import write


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
def test_text_files_are_read_the_same_packed_or_not(tmp_path: Path, name: str) -> None:
    rows = {"csv": 'id,name\n1,"a, b"\n2,\n', "jsonl": '{"id":1,"name":"a, b"}\n{"id":2}\n'}
    path = write(tmp_path / name, rows[name.split(".")[1]])
    (batch,) = read_batches(path)
    assert batch.rows.rows() == [("1", "a, b"), ("2", None)]
    assert batch.numbers.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
def test_parquet_keeps_its_types_packed_or_not(tmp_path: Path, name: str) -> None:
    table = pl.DataFrame({"id": [1, 2], "tags": [["a"], []]})
    table.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    (batch,) = read_batches(tmp_path / name)
    assert batch.rows.equals(table)


def test_a_csv_row_with_too_few_cells_is_kept_with_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b\n1,2\n3\n4,5\n6,7,8\n9,10\n")
    (batch,) = read_batches(path)
    assert batch.rows["a"].to_list() == ["1", "4", "9"]
    assert batch.numbers.tolist() == [1, 3, 5]
    assert [(m.number, m.reason, m.raw) for m in batch.malformed] == [
        (2, "found 1 cells, expected 2", "3"),
        (4, "found 3 cells, expected 2", "6,7,8"),
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_csv_row_numbers_count_the_malformed_rows_too(
    tmp_path_factory: pytest.TempPathFactory, is_good: list[bool]
) -> None:
    lines = [f"{n},x" if good else f"{n}" for n, good in enumerate(is_good, 1)]
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", "a,b\n" + "\n".join(lines) + "\n")
    batches = list(read_batches(path, block_bytes=32))
    numbers = np.concatenate([b.numbers for b in batches])
    values = [int(value) for b in batches for value in b.rows["a"]]
    assert numbers.tolist() == values == [n for n, good in enumerate(is_good, 1) if good]
    assert sum(len(b.malformed) for b in batches) == is_good.count(False)


def test_a_csv_row_that_is_not_utf8_is_kept_and_the_rest_survives(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\nok,1\n\xff,2\nalso,3\n")
    (batch,) = read_batches(path)
    assert batch.rows["a"].to_list() == ["ok", "also"]
    assert batch.numbers.tolist() == [1, 3]
    assert [(m.number, m.reason) for m in batch.malformed] == [(2, "not UTF-8, expected UTF-8")]


def test_json_lines_that_are_no_objects_are_kept_with_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": "x"}\n\n{oops\n[1]\n{"a": {"b": 1}}\n')
    (batch,) = read_batches(path)
    assert batch.rows["a"].to_list() == ["x", '{"b": 1}']
    assert batch.numbers.tolist() == [1, 5]
    assert [m.number for m in batch.malformed] == [3, 4]


def test_small_blocks_read_the_same_rows_as_one_block(tmp_path: Path) -> None:
    text = "".join(f'{{"a": {n}}}\n' for n in range(1000))
    path = write(tmp_path / "a.jsonl", text)
    batches = list(read_batches(path, block_bytes=256))
    assert len(batches) > 10
    assert pl.concat([b.rows for b in batches])["a"].to_list() == [str(n) for n in range(1000)]
    assert np.concatenate([b.numbers for b in batches]).tolist() == list(range(1, 1001))


def test_a_json_column_that_starts_late_is_still_read(tmp_path: Path) -> None:
    lines = ['{"a": {"nested": 1}}'] * 100 + ['{"a": 2, "late": "x"}']
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    last = list(read_batches(path, block_bytes=64))[-1]
    assert last.rows.rows() == [("2", "x")]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet"])
def test_a_file_cut_short_is_named_in_the_error(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    if name == "a.parquet":
        pl.DataFrame({"a": range(1000)}).write_parquet(whole)
    else:
        write(whole, "".join(f'{{"a": {n * 7919}}}\n' for n in range(1000)))
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(DataError, match=name):
        list(read_batches(whole))


def test_an_empty_file_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column names"):
        list(read_batches(write(tmp_path / "a.csv", "")))
    with pytest.raises(DataError, match=r"a\.xlsx"):
        list(read_batches(write(tmp_path / "a.xlsx", "x")))


def test_the_ending_before_gz_counts() -> None:
    assert data_suffix(Path("x/a.JSONL.gz")) == ".jsonl"
    assert data_suffix(Path("x/notes.txt")) is None
