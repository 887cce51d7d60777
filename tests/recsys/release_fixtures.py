"""Small releases to publish, damage and interrupt."""

from pathlib import Path

from features.events import DEFAULT_EVENT_TYPES
from recsys.releases import Manifest, Releases


def manifest(release_id: str, created_at_us: int = 0) -> Manifest:
    return Manifest(
        release_id=release_id,
        created_at_us=created_at_us,
        data_start_us=1,
        data_end_us=2,
        feature_views_hash="f" * 8,
        event_types=DEFAULT_EVENT_TYPES,
        metrics={"ranker.ndcg@10": 0.125},
        versions={"numpy": "2.4.6"},
    )


def built(releases: Releases, release_id: str, text: str = "weights") -> Path:
    folder = releases.draft(release_id)
    (folder / "ranker").mkdir(exist_ok=True)
    (folder / "ranker" / "model.npy").write_text(text)
    (folder / "items.parquet").write_text("items")
    return folder


def published(releases: Releases, *release_ids: str) -> None:
    for age, release_id in enumerate(release_ids):
        releases.publish(built(releases, release_id, release_id), manifest(release_id, age))
