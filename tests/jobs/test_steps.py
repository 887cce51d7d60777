import os
from pathlib import Path

import pytest

from jobs.steps import REPORT, Workshop, digest_of, link_tree
from recsys.progress import Silent


def workshop(folder: Path) -> Workshop:
    return Workshop(folder / "work", Silent())


def write(folder: Path) -> dict[str, object]:
    (folder / "model.bin").write_text("learned")
    return {"rows": 3}


def refuse(folder: Path) -> dict[str, object]:
    raise AssertionError(f"worked again in {folder}")


def test_a_step_is_done_once_for_equal_inputs(tmp_path: Path) -> None:
    first = workshop(tmp_path).step("text", {"until": 5, "seed": 1}, write)
    again = workshop(tmp_path).step("text", {"seed": 1, "until": 5}, refuse)
    assert (first.ran, again.ran) == (True, False)
    assert again.folder == first.folder
    assert again.report == {"rows": 3}
    assert (again.folder / "model.bin").read_text() == "learned"


def test_other_inputs_or_another_name_are_another_step(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    done = [
        shop.step(name, {"until": until}, write)
        for name, until in (("text", 5), ("text", 6), ("past", 5))
    ]
    assert all(one.ran for one in done)
    assert len({one.digest for one in done}) == 3


def test_a_step_that_fails_leaves_nothing_that_counts_as_done(tmp_path: Path) -> None:
    def die(folder: Path) -> dict[str, object]:
        (folder / "half.bin").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        workshop(tmp_path).step("text", {}, die)
    done = workshop(tmp_path).step("text", {}, write)
    assert done.ran
    assert {path.name for path in done.folder.iterdir()} == {"model.bin", REPORT}


def test_results_that_a_run_did_not_use_are_forgotten(tmp_path: Path) -> None:
    workshop(tmp_path).step("text", {"until": 1}, write)
    (tmp_path / "work" / ".text-killed.draft").mkdir()
    shop = workshop(tmp_path)
    kept = shop.step("text", {"until": 2}, write)
    assert shop.forget_unused() == 2
    assert list((tmp_path / "work").iterdir()) == [kept.folder]


def test_linked_results_share_the_disk_and_leave_the_reports_alone(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    text = shop.step("text", {}, write)
    past = shop.step("past", {}, lambda folder: {"made": len(str(folder)) > 0})
    link_tree(text.folder, tmp_path / "bundle")
    link_tree(past.folder, tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["model.bin"]
    assert os.path.samefile(tmp_path / "bundle" / "model.bin", text.folder / "model.bin")
    assert workshop(tmp_path).step("text", {}, refuse).report == {"rows": 3}


def test_two_parts_with_one_file_are_refused_rather_than_mixed(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    text, past = shop.step("text", {}, write), shop.step("past", {}, write)
    link_tree(text.folder, tmp_path / "bundle")
    with pytest.raises(Exception, match="exists"):
        link_tree(past.folder, tmp_path / "bundle")
    assert (text.folder / "model.bin").read_text() == "learned"


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1})
