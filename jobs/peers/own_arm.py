"""This system in a process of its own, fitted with what it ships, measured like a peer."""

import argparse
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import orjson

from jobs.benchmark import seeded
from jobs.console import Terminal
from jobs.night_config import night_config
from jobs.peers.run_peer import FIGURES, LISTS
from jobs.peers.split import Split
from recsys.bundle import Bundle
from recsys.evaluation.offline import ranked_lists
from recsys.progress import Progress
from recsys.settings import read_settings
from recsys.training.recipe import RecipeConfig, fit_bundle, known_to


def run_own(
    split: Split, config: RecipeConfig, out: Path, progress: Progress, *, threads: int, seed: int
) -> None:
    """Writes the lists of the asked and what they cost into `out`, as `run_peer` does."""
    start = perf_counter()
    with TemporaryDirectory(prefix="own-") as name:
        work = Path(name)
        window = (split.label_us, split.until_us)
        fit_bundle(split.data, window, seeded(config, seed), work, progress)
        fitted = perf_counter()
        bundle = Bundle.load(work, threads=threads)
        past = known_to(bundle.factors, split.questions(), split.data.log.user_ids)
        lists = ranked_lists(bundle, past, config.policy, progress).by_name["ranker"]
    figures = {
        "fit_s": fitted - start,
        "tune_s": 0.0,
        "recommend_s": perf_counter() - fitted,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings": {"defaults": "as shipped"},
        "tried": [],
        "versions": {},
    }
    np.save(out / LISTS, lists, allow_pickle=False)
    (out / FIGURES).write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("split", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    told = parser.parse_args()
    run_own(
        Split.load(told.split),
        night_config(read_settings()).recipe,
        told.out,
        Terminal(),
        threads=told.threads,
        seed=told.seed,
    )


if __name__ == "__main__":
    main()
