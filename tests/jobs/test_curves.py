"""Curves are read back from the files that TensorBoard reads; W&B is a small module of our own."""

import importlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from jobs.curves import FLUSH_S, asks_for_wandb, open_curves
from recsys.progress import Silent

# What a run was told, a line each; `log` fails where the figure says so.
WANDB_DOUBLE = """
import json, pathlib

class Run:
    def __init__(self, name, dir):
        self.path = pathlib.Path(dir) / "wandb.jsonl"
        self.note("init", name)

    def note(self, *what):
        with self.path.open("a") as file:
            file.write(json.dumps(what) + "\\n")

    def log(self, figures, step):
        if figures["loss"] < 0:
            raise RuntimeError("the network is down")
        self.note("log", step, figures)

    def finish(self, exit_code):
        self.note("finish", exit_code)

def init(name, dir):
    return Run(name, dir)
"""


class Heard(Silent):
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def wandb_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "wandb.py").write_text(WANDB_DOUBLE)
    monkeypatch.syspath_prepend(packages)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("wandb", None)


@pytest.fixture
def wandb_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of it fails, installed or not


def events_of(folder: Path) -> list[Event]:
    """Length, checksum of the length, record, checksum of the record; as TensorBoard reads it."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (length,), (length_sum,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        record, (record_sum,) = data[12 : 12 + length], struct.unpack_from("<I", data, 12 + length)
        assert (length_sum, record_sum) == (masked_crc32c(data[:8]), masked_crc32c(record))
        found.append(Event.FromString(record))
        data = data[16 + length :]
    return found


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value)
        for event in events_of(folder)
        for value in event.summary.value
    ]


def told(folder: Path) -> list[list[object]]:
    return [json.loads(line) for line in (folder / "wandb.jsonl").read_text().splitlines()]


def test_an_event_file_holds_every_figure_at_its_step_and_time(tmp_path: Path) -> None:
    seconds = iter([100.0, 101.0])
    with open_curves(
        tmp_path,
        run_name="night",
        use_wandb=False,
        progress=Silent(),
        clock=lambda: next(seconds),
    ) as curves:
        curves.add(10, {"loss": 4.5, "recall": 0.25})
        curves.add(20, {"loss": 4.25})
    found = scalars(tmp_path / "night")
    assert found == [(10, "loss", 4.5), (10, "recall", 0.25), (20, "loss", 4.25)]
    head, *others = events_of(tmp_path / "night")
    assert head.file_version == "brain.Event:2"
    assert [event.wall_time for event in others] == [100.0, 100.0, 101.0]


def test_figures_are_on_disk_while_the_training_runs(tmp_path: Path) -> None:
    seconds = iter([100.0, 100.0 + FLUSH_S])
    with open_curves(
        tmp_path,
        run_name="r",
        use_wandb=False,
        progress=Silent(),
        clock=lambda: next(seconds),
    ) as curves:
        for step in (1, 2):
            curves.add(step, {"loss": 2.0})
            assert scalars(tmp_path / "r")[-1] == (step, "loss", 2.0)


def test_a_training_without_figures_leaves_no_files(tmp_path: Path) -> None:
    with open_curves(tmp_path / "curves", run_name="r", use_wandb=True, progress=Silent()):
        pass
    assert not (tmp_path / "curves").exists()


@pytest.mark.usefixtures("wandb_installed")
def test_wandb_is_told_the_same_figures_and_that_the_run_ended_well(tmp_path: Path) -> None:
    heard = Heard()
    with open_curves(tmp_path, run_name="r", use_wandb=True, progress=heard) as curves:
        curves.add(3, {"loss": 1.5})
    assert told(tmp_path / "r") == [["init", "r"], ["log", 3, {"loss": 1.5}], ["finish", 0]]
    assert scalars(tmp_path / "r") == [(3, "loss", 1.5)]
    assert heard.lines == []


@pytest.mark.usefixtures("wandb_installed")
def test_a_training_that_fails_ends_its_run_as_failed_and_raises(tmp_path: Path) -> None:
    def train() -> None:
        with open_curves(tmp_path, run_name="r", use_wandb=True, progress=Silent()) as curves:
            curves.add(1, {"loss": 1.0})
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        train()
    assert told(tmp_path / "r")[-1] == ["finish", 1]


@pytest.mark.usefixtures("wandb_installed")
def test_a_wandb_that_fails_is_said_once_and_the_event_file_goes_on(tmp_path: Path) -> None:
    heard = Heard()
    with open_curves(tmp_path, run_name="r", use_wandb=True, progress=heard) as curves:
        for step, loss in enumerate([1.0, -1.0, -2.0]):
            curves.add(step, {"loss": loss})
    assert heard.lines == ["curves: Weights & Biases left out, the network is down"]
    assert [value for _, _, value in scalars(tmp_path / "r")] == [1.0, -1.0, -2.0]


@pytest.mark.usefixtures("wandb_absent")
def test_a_wandb_that_is_not_installed_is_one_line(tmp_path: Path) -> None:
    heard = Heard()
    with open_curves(tmp_path, run_name="r", use_wandb=True, progress=heard) as curves:
        curves.add(0, {"loss": 1.0})
        curves.add(1, {"loss": 0.5})
    (line,) = heard.lines
    assert "not installed" in line
    assert len(scalars(tmp_path / "r")) == 2


def test_a_folder_that_cannot_be_written_costs_the_curves_only(tmp_path: Path) -> None:
    (tmp_path / "curves").write_text("a file where the folder should be")
    heard, steps = Heard(), []
    with open_curves(tmp_path / "curves", run_name="r", use_wandb=False, progress=heard) as curves:
        for step in range(3):
            curves.add(step, {"loss": 1.0})
            steps.append(step)
    assert steps == [0, 1, 2]
    (line,) = heard.lines
    assert "TensorBoard left out" in line


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"WANDB_API_KEY": "k"}, True),
        ({"WANDB_API_KEY": ""}, False),
        ({"WANDB_MODE": "offline"}, True),
        ({"WANDB_MODE": "online"}, False),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "k"}, False),
    ],
)
def test_wandb_is_asked_for_by_a_key_or_by_being_offline(
    environment: dict[str, str], *, asked: bool
) -> None:
    assert asks_for_wandb(environment) is asked
