"""Keeps a training's curves where people watch them: TensorBoard's files, and W&B if asked for."""

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from recsys.progress import Progress

FLUSH_S = 2.0  # a flush waits for the disk, which a training should not do at every step


class Board(Protocol):
    """One place where figures are drawn."""

    def add(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class CurveLog:
    """`recsys.training.curves.Curves` on several boards; one that fails is said and left out.

    Boards open with the first figure, so a training that was skipped leaves no empty run.
    """

    def __init__(self, boards: Mapping[str, Callable[[], Board]], progress: Progress) -> None:
        self._unopened = dict(boards)
        self._open: dict[str, Board] = {}
        self._progress = progress

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        while self._unopened:
            name, make = self._unopened.popitem()
            with self._spared(name):
                self._open[name] = make()
        for name, board in tuple(self._open.items()):
            with self._spared(name):
                board.add(step, figures)

    def close(self, *, failed: bool = False) -> None:
        for name, board in tuple(self._open.items()):
            with self._spared(name):
                board.close(failed=failed)
        self._open = {}

    @contextmanager
    def _spared(self, name: str) -> Iterator[None]:
        """A full disk or a network that is down costs a board, not the night."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, watching must not end a training
            self._open.pop(name, None)
            self._progress.say(f"curves: {name} left out, {str(error) or type(error).__name__}")


@contextmanager
def open_curves(
    folder: Path,
    *,
    run_name: str,
    use_wandb: bool,
    progress: Progress,
    clock: Callable[[], float] = time.time,
) -> Iterator[CurveLog]:
    """Event files go to `folder`/`run_name`; `tensorboard --logdir folder` compares the runs."""
    run_folder = folder / run_name
    boards: dict[str, Callable[[], Board]] = {
        "TensorBoard": lambda: EventFile(run_folder, clock),
    }
    if use_wandb:
        boards["Weights & Biases"] = lambda: WandbRun(run_folder, run_name)
    log = CurveLog(boards, progress)
    try:
        yield log
    except BaseException:
        log.close(failed=True)
        raise
    log.close()


def asks_for_wandb(environment: Mapping[str, str]) -> bool:
    """Whether somebody set W&B up: with a key, or to write files that are sent later."""
    mode = environment.get("WANDB_MODE", "")
    return mode == "offline" or (bool(environment.get("WANDB_API_KEY")) and mode != "disabled")


class EventFile:
    """TensorBoard's format; figures are on disk within FLUSH_S.

    Not tensorboardX's SummaryWriter: it writes in a thread behind a queue of ten, and where that
    thread dies, of a full disk for one, the eleventh figure waits for ever.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # 1.6 s, and only trainings need it

        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._flushed_s = 0.0
        self._writer = EventsWriter(str(folder / "events"))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        now_s = self._clock()
        for name, value in figures.items():
            event = Event(wall_time=now_s, step=step, summary=scalar(name, float(value)))
            self._writer.write_event(event)
        if now_s - self._flushed_s >= FLUSH_S:
            self._writer.flush()
            self._flushed_s = now_s

    def close(self, *, failed: bool) -> None:
        del failed
        self._writer.close()


class WandbRun:
    """A run of W&B, which reads its own environment for the project, the key and the mode."""

    def __init__(self, folder: Path, name: str) -> None:
        try:
            wandb: Any = importlib.import_module("wandb")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "its variables are set but it is not installed: pip install wandb, or unset them"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(name=name, dir=str(folder))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
