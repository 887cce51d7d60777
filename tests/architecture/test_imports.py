"""What an import may cost: serving stays light, and importing does no work."""

import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("features", "recsys", "jobs", "api")
TRAINING_ONLY = {"torch", "transformers", "lightfm", "pandas", "sklearn", "sentence_transformers"}


def _run(script: str, *arguments: str) -> set[str]:
    """The words that a fresh interpreter prints."""
    found = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return set(found.stdout.split())


LOADED = """
import importlib, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


@pytest.mark.parametrize("module", ["api.app", "recsys.recommender", "recsys.releases"])
def test_serving_loads_no_training_library(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} does not exist")
    assert not _run(LOADED, module) & TRAINING_ONLY


@pytest.mark.parametrize("room", ROOMS)
def test_naming_a_room_loads_no_library(room: str) -> None:
    assert _run(LOADED, room) - sys.stdlib_module_names <= {room}


# Work done while importing shows up as one of these events, or as a thread that was started.
WORK = """
import importlib, sys, threading
EVENTS = {"socket.connect", "socket.bind", "sqlite3.connect", "os.mkdir", "os.rename", "os.remove"}
importing = ""

def watch(event, arguments):
    mode = arguments[1] if event == "open" else ""
    if event in EVENTS or (isinstance(mode, str) and set(mode) & set("wax+")):
        print(f"{importing}:{event}:{arguments[0]}".replace(" ", "_"))

sys.addaudithook(watch)
for importing in sys.argv[1:]:
    importlib.import_module(importing)
    if threading.active_count() > 1:
        print(f"{importing}:thread")
"""


def _serving_modules() -> list[str]:
    """Every module that a server may import; trainers load libraries that do as they please."""
    names = []
    for room in ("features", "recsys", "api"):
        walk = pkgutil.walk_packages([str(REPOSITORY / room)], f"{room}.")
        names += [module.name for module in walk if not module.name.endswith("__main__")]
    heavy = ("recsys.training", "recsys.evaluation", "recsys.notebook")
    return [name for name in names if not name.startswith(heavy)]


def test_importing_serving_code_writes_nothing_connects_nowhere_and_starts_no_thread() -> None:
    assert _run(WORK, *_serving_modules()) == set()
