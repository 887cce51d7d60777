"""Where the bench's data come from: sequences, whatever can be imported, or the store."""

from pathlib import Path
from tempfile import TemporaryDirectory

from features.errors import DataError
from features.store import Store
from jobs.benchmark import read_items, read_sequences
from jobs.evaluate import stored_data
from jobs.importing import ColumnMap, Importer, ImportOptions
from jobs.peers.split import Split, sequences_split, time_splits
from recsys.progress import Progress
from recsys.settings import Settings
from recsys.training.recipe import TrainingData


def splits_of(
    data: Path | None, settings: Settings, folds: int, progress: Progress, *, now_us: int
) -> tuple[str, list[Split]]:
    """The data set's name and its folds: by sequences where the folder holds some, else in time."""
    if data is None:
        with Store.open(settings.database_url) as store:
            return "store", time_splits(stored_data(store, settings.event_types()), folds)
    if not data.exists():
        raise DataError(f"found nothing at {data}, expected a file or folder: correct --data")
    name = data.resolve().stem
    sequences = next(iter(sorted(data.glob("sequences.*"))), None)
    if sequences is None:
        return name, time_splits(_imported(data, settings, progress, now_us), folds)
    items = next(iter(sorted(data.glob("items.*"))), None)
    if items is None or folds != 1:
        raise DataError(
            f"found {sequences.name} in {data} and {'no items' if items is None else folds}, "
            "expected items.jsonl.gz beside it and one fold: sequences are cut once"
        )
    return name, [sequences_split(read_items(items), read_sequences(sequences))]


def _imported(path: Path, settings: Settings, progress: Progress, now_us: int) -> TrainingData:
    """In a store of its own, so that the shop's is left alone."""
    with (
        TemporaryDirectory(prefix="peers-") as work,
        Store.open(f"sqlite:///{work}/store.sqlite") as store,
    ):
        importer = Importer(
            store=store,
            rejects_dir=Path(work),
            event_types=settings.event_types(),
            now_us=now_us,
        )
        importer.import_path(path, ImportOptions("auto", ColumnMap({}), None, "view"), progress)
        return stored_data(store, settings.event_types())
