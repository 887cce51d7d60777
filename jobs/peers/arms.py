"""Each arm, this system among them, in a process of its own; what is done is kept."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson

from features.arrays import Int32Array
from features.errors import DataError
from jobs.peers.run_peer import FIGURES, LISTS
from jobs.peers.split import Split
from jobs.steps import Workshop
from recsys.progress import Progress

OWN = "this system"
PEERS = ("popularity", "item-knn", "bm25", "als", "lightfm", "ease", "sasrec", "two-stage")
REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
PEER_CODE = (  # what a peer's process reads of this folder
    *("answers.py", "ease.py", "matrix_peers.py", "peer.py", "rectools_peers.py"),
    *("run_peer.py", "world.py", "requirements.txt"),
)
LOG = "log.txt"
ERROR_LINES = 3  # of the log that are shown: a traceback ends with what went wrong

Folder: TypeAlias = Path
Command: TypeAlias = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """How arms are started; `commands` by arm, completed with two folders, threads and seed."""

    work: Path
    commands: Mapping[str, Command]
    environment: Mapping[str, str]
    threads: int = 2
    seed: int = 0
    limit_s: float = 3_600.0  # of one arm on one fold


@dataclass(frozen=True, slots=True)
class Ran:
    """An arm that answered: its lists (n_questions, DEPTH) and what they cost."""

    lists: Int32Array
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """An arm that did not, and why."""

    error: str


class ArmError(Exception):
    """A process ended badly; the message is what it said last."""


def arm_commands(peers_python: Path, peers: Sequence[str]) -> dict[str, Command]:
    own = (sys.executable, "-m", "jobs.peers.own_arm")
    runner = (str(peers_python), "-m", "jobs.peers.run_peer")
    return {OWN: own, **{peer: (*runner, peer) for peer in peers}}


def run_fold(arms: Arms, split: Split, name: str, progress: Progress) -> dict[str, Ran | Failed]:
    """Every arm on one fold, one after the other; what an arm has done for equal inputs is kept."""
    told = arms.work / name
    shutil.rmtree(told, ignore_errors=True)
    split.save(told)
    split.world().save(told)
    workshop = Workshop(arms.work / f"{name}-arms", progress)
    digest = _digest(sorted(told.iterdir()))
    found: dict[str, Ran | Failed] = {}
    for arm, command in arms.commands.items():
        inputs = {
            "split": digest,
            "command": list(command),
            "code": _code_of(arm),
            "threads": arms.threads,
            "seed": arms.seed,
        }

        def work(out: Path, command: Command = command) -> dict[str, object]:
            return _run(arms, [*command, str(told.resolve()), str(out.resolve())], out)

        try:
            done = workshop.step(arm.replace(" ", "_"), inputs, work)
        except ArmError as error:  # one peer's trouble must not hide the others' results
            progress.say(f"{arm} failed: {error}")
            found[arm] = Failed(str(error))
            continue
        lists = np.load(done.folder / LISTS, allow_pickle=False)
        found[arm] = _checked(lists, done.report, len(split.questions()), len(split.data.items))
    return found


def _run(arms: Arms, command: Command, out: Path) -> dict[str, object]:
    """The figures that the process writes; ArmError with the end of its log if it does not."""
    told = [*command, "--threads", str(arms.threads), "--seed", str(arms.seed)]
    environment = {**arms.environment, **_thread_limits(arms.threads)}
    with (out / LOG).open("wb") as log:
        try:
            ended = subprocess.run(
                told,
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=log,
                timeout=arms.limit_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ArmError(str(error)) from error
    if ended.returncode != 0 or not (out / FIGURES).is_file() or not (out / LISTS).is_file():
        lines = (out / LOG).read_text("utf-8", errors="replace").strip().splitlines()
        how = f"exit code {ended.returncode}"
        raise ArmError("; ".join([how, *lines[-ERROR_LINES:]]) + f" ({out / LOG})")
    figures: dict[str, object] = orjson.loads((out / FIGURES).read_bytes())
    return figures


def _checked(
    lists: Int32Array, figures: dict[str, Any], n_asked: int, n_items: int
) -> Ran | Failed:
    if lists.ndim != 2 or len(lists) != n_asked or lists.max(initial=-1) >= n_items:
        return Failed(
            f"found lists of shape {lists.shape} with rows up to {lists.max(initial=-1)}, expected "
            f"{n_asked} lists of rows below {n_items}"
        )
    return Ran(lists, figures)


def _thread_limits(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {"OMP_WAIT_POLICY": "PASSIVE"} | dict.fromkeys(names, str(threads))


def _code_of(arm: str) -> str:
    """Changes when the code behind the arm does."""
    if arm != OWN:
        metrics = REPOSITORY / "recsys" / "evaluation" / "metrics.py"
        return _digest([metrics, *(HERE / name for name in PEER_CODE)])
    rooms = [path for room in ("features", "recsys") for path in (REPOSITORY / room).rglob("*.py")]
    jobs = [HERE / "own_arm.py", HERE.parent / "benchmark.py", HERE.parent / "night_config.py"]
    return _digest([*sorted(rooms), *jobs])


def _digest(files: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.name}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def known_peers(names: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        raise DataError(
            f"found the peers {', '.join(names) or 'none'}; expected some of {', '.join(PEERS)}; "
            "correct --peers"
        )
    return tuple(name for name in PEERS if name in names)
