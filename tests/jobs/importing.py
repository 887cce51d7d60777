"""Imports into a store in memory's place: a file in the test's own folder."""

import gzip
import json
from pathlib import Path

import polars as pl

from features.events import DEFAULT_EVENT_TYPES
from features.store import Store
from jobs.importing import ColumnMap, Importer, ImportOptions, PartReport
from recsys.progress import Silent

NOW_US = 1_800_000_000_000_000  # 2027


def import_into(folder: Path, path: Path, options: ImportOptions | None = None) -> list[PartReport]:
    with Store.open(f"sqlite:///{folder / 'store.sqlite'}") as store:
        importer = Importer(
            store=store,
            rejects_dir=folder / "rejects",
            event_types=DEFAULT_EVENT_TYPES,
            now_us=NOW_US,
        )
        return importer.import_path(path, options or ImportOptions(), Silent())


def stored_events(folder: Path) -> pl.DataFrame:
    with Store.open(f"sqlite:///{folder / 'store.sqlite'}") as store:
        frames = list(store.events_after(0))
    return pl.concat(frames) if frames else pl.DataFrame()


def rejects(report: PartReport) -> list[dict[str, object]]:
    assert report.rejects is not None
    return [json.loads(line) for line in report.rejects.read_text().splitlines()]


def write(path: Path, text: str) -> Path:
    """Packed if the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def mapped(*texts: str) -> ImportOptions:
    return ImportOptions(columns=ColumnMap.parse(list(texts)))
