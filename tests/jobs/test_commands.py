"""The commands as people type them: exit codes and what is said."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.errors import ConfigError
from jobs.__main__ import app, main
from jobs.reports import writable, write_json
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


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--kinds", kinds) for kinds in ("", " , ", "flat,round")),
        *(("--sizes", sizes) for sizes in ("", "0", "10000,-5", "199", "1.5e4", "many")),
        *(("--allowed", shares) for shares in ("", "x", "0", "nan", "1,1.5", "-0.5")),
    ],
)
def test_lists_of_benchmark_index_are_checked_before_a_release_is_looked_for(
    option: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=f"{option}: found '.*', expected "):
        CliRunner().invoke(app, ["benchmark-index", option, value], catch_exceptions=False)


@pytest.mark.parametrize("command", ["benchmark", "audit", "benchmark-encoder"])
def test_where_figures_cannot_be_written_no_work_is_begun(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    nowhere = ["--items", "nowhere", "--sequences", "nowhere"] if "bench" in command else []
    for path in (tmp_path, tmp_path / "file" / "out.json"):
        arguments = [command, *nowhere, "--json", str(path)]
        with pytest.raises(ConfigError, match="not writable"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_figures_are_written_into_a_new_folder_and_nothing_is_left_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    assert writable(path) == path
    assert not path.exists()
    write_json({"a": 1}, path)
    assert writable(path) == path
    assert path.read_text() == '{\n  "a": 1\n}'
