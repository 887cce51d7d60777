"""The whole bench: every arm on every fold, then one judgement."""

import shutil
from collections.abc import Sequence

from jobs.peers.arms import Arms, run_fold
from jobs.peers.judging import PeersReport, judged_arms
from jobs.peers.split import Split
from recsys.progress import Progress


def run_bench(
    arms: Arms, splits: Sequence[Split], dataset: str, progress: Progress, *, fresh: bool = False
) -> PeersReport:
    """`fresh` forgets what arms have done before; else it is reused for equal inputs and code."""
    if fresh:
        shutil.rmtree(arms.work, ignore_errors=True)
    results = [
        run_fold(arms, split, f"fold-{number}", progress) for number, split in enumerate(splits)
    ]
    return judged_arms(splits, results, dataset=dataset, seed=arms.seed, threads=arms.threads)
