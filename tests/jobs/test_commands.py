"""The commands as people type them: exit codes and what is said."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.__main__ import app, main
from tests.jobs.importing import write

GOOD = "user_id,item_id,event_type,event_time\n" + "".join(
    f"u{n},book,view,{1_700_000_000 + n}\n" for n in range(99)
)


@pytest.fixture(autouse=True)
def _own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECSYS_DATA_DIR", str(tmp_path / "data"))


def test_import_says_how_many_are_new_and_how_many_were_there(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", GOOD)
    first = CliRunner().invoke(app, ["import", str(path)])
    assert first.exit_code == 0, first.output
    assert "99 new, 0 already there" in first.output
    second = CliRunner().invoke(app, ["import", str(path)])
    assert "0 new, 99 already there" in second.output


@pytest.mark.parametrize(("limit", "exit_code"), [("0.01", 0), ("0.009", 1), ("1", 0)])
def test_too_many_refused_rows_end_with_1_and_keep_the_others(
    tmp_path: Path, limit: str, exit_code: int
) -> None:
    path = write(tmp_path / "events.csv", GOOD + "u99,book,stare,1700000000\n")
    result = CliRunner().invoke(app, ["import", str(path), "--max-reject-share", limit])
    assert result.exit_code == exit_code, result.output
    assert "99 new" in result.output
    (rejects,) = (tmp_path / "data" / "rejects").glob("events.csv-*.jsonl")
    assert "stare" in rejects.read_text()
    assert ("accepted rows are stored" in result.output.replace("\n", " ")) == bool(exit_code)


def test_sample_then_import_is_one_storefront(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    arguments = ["sample", str(out), "--events", "1000", "--seed", "3", "--end", "2026-03-01"]
    made = CliRunner().invoke(app, [*arguments, "--days", "5"])
    assert made.exit_code == 0, made.output
    assert sorted(f.name for f in (out / "events").iterdir())[-1] == "day=2026-02-28"
    result = CliRunner().invoke(app, ["import", str(out)])
    assert result.exit_code == 0, result.output


def test_our_own_errors_are_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs", "import", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("DataError: found nothing at ")
