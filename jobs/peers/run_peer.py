"""One peer in a process of its own: fits, answers, and measures itself.

Started as `python -m jobs.peers.run_peer` by the peers' environment, which has none of this
system's libraries but NumPy and SciPy.
"""

import argparse
import json
import platform
import resource
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

import numpy as np

from jobs.peers.answers import answers, chosen_window, popularity_ranks
from jobs.peers.matrix_peers import MATRIX_PEERS
from jobs.peers.peer import Fit, Machine
from jobs.peers.world import World, last_round, validation_round

LISTS, FIGURES = "lists.npy", "figures.json"
VALIDATION_USERS = 3_000  # ±.01 of nDCG at .05 is enough to choose between settings
PACKAGES = ("rectools", "pm-implicit", "rectools-lightfm", "catboost", "torch", "numpy", "scipy")


def run_peer(world: World, fit: Fit, machine: Machine, out: Path) -> None:
    """Writes the lists of the asked and what they cost into `out`."""
    start = perf_counter()
    validation = validation_round(world, VALIDATION_USERS, machine.seed)
    window = chosen_window(world, validation)
    fitted = fit(world, validation, popularity_ranks(world, validation, window), machine)
    fitting_s = perf_counter() - start
    start = perf_counter()
    questions = last_round(world)
    lists = answers(world, questions, fitted.scorer, popularity_ranks(world, questions, window))
    figures = {
        "fit_s": fitted.fit_s,
        "tune_s": fitting_s - fitted.fit_s,
        "recommend_s": perf_counter() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings": {**fitted.settings, "popularity_days": window},
        "tried": [asdict(tried) for tried in fitted.tried],
        "versions": _versions(),
    }
    np.save(out / LISTS, lists, allow_pickle=False)
    (out / FIGURES).write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _fit_of(peer: str) -> Fit:
    if peer in MATRIX_PEERS:
        return MATRIX_PEERS[peer]
    from jobs.peers.rectools_peers import RECTOOLS_PEERS  # torch and lightning: only for them

    return RECTOOLS_PEERS[peer]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    told = parser.parse_args()
    machine = Machine(told.threads, told.seed)
    run_peer(World.load(told.world), _fit_of(told.peer), machine, told.out)


if __name__ == "__main__":
    main()
