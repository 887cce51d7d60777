"""Steps whose results are kept by what went into them: done once, resumed after a kill, skipped.

A step writes into a folder named by a hash of its inputs. The folder appears under that name by
one rename, after the step has finished; so it is whole or absent, and doing a step again for equal
inputs is finding its folder.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from recsys.progress import Progress

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step: its folder, the digest of its inputs, its report, and whether it ran now."""

    folder: Path
    digest: str
    report: dict[str, Any]
    ran: bool

    @property
    def name(self) -> str:
        return self.folder.name.rpartition("-")[0]


class Workshop:
    """The folder where steps keep their results."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = root
        self._progress = progress
        self.used: set[str] = set()

    def step(
        self,
        name: str,
        inputs: Mapping[str, object],
        work: Callable[[Path], dict[str, object]],
    ) -> Done:
        """`inputs` is everything the result depends on, as JSON values."""
        digest = digest_of({"step": name, **inputs})
        folder = self.root / f"{name}-{digest[:16]}"
        self.used.add(folder.name)
        ran = not folder.exists()
        if ran:
            self._progress.say(f"{name}: working")
            draft = self.root / f".{folder.name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            report = work(draft)
            (draft / REPORT).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
            os.sync()  # or a power cut could leave the name with half of the files
            os.replace(draft, folder)
        else:
            self._progress.say(f"{name}: nothing new, skipped")
        report = orjson.loads((folder / REPORT).read_bytes())
        return Done(folder, digest, report, ran)

    def kept(self, name: str) -> Path:
        """A folder of the caller's own, for what is only worth keeping while somebody asks."""
        self.used.add(name)
        return self.root / name

    def forget_unused(self) -> int:
        """Remove results and leftovers that this run did not use; returns how many."""
        old = [f for f in self.root.iterdir() if f.is_dir() and f.name not in self.used]
        for folder in old:
            shutil.rmtree(folder)
        return len(old)


def digest_of(value: object) -> str:
    """sha256 of the value's canonical JSON."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(text).hexdigest()


def link_tree(source: Path, target: Path) -> None:
    """Copy a step's files, but its report, as hard links where the disk allows, or as copies."""
    shutil.copytree(
        source,
        target,
        copy_function=_link,
        ignore=shutil.ignore_patterns(REPORT),
        dirs_exist_ok=True,
    )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:  # a copy would write through the link into another step's file
        raise
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
