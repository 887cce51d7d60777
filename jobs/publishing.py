"""What a draft must show before it is published, and the figures its manifest gives."""

from pathlib import Path

from features.errors import ReleaseError
from recsys.evaluation.trial import TrialResult
from recsys.recommender import Recommender
from recsys.types import Ask


def probe(folder: Path, release_id: str, now_us: int) -> None:
    """A release that cannot answer a stranger must not be offered to servers."""
    recommender = Recommender.load(folder, release_id=release_id)
    ask = Ask(request_id="probe", now_us=now_us, k=10)
    if not recommender.recommend(ask).item_ids and recommender.catalog.n_available:
        raise ReleaseError(f"{release_id} answers a stranger with nothing: look at its steps")


def metrics_of(trial: TrialResult | None) -> dict[str, float]:
    """`ranker.ndcg@10` and so on, by who ranked; nothing without a trial."""
    if trial is None:
        return {}
    named = {f"{who}.{m}": v for who, found in trial.metrics.items() for m, v in found.items()}
    return {**named, "candidate_recall": trial.candidate_recall, "users": float(trial.users)}
