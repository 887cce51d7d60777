"""Reads, checks and stores every part of an import; what is refused is kept with its reason."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from features.arrays import Int64Array
from features.event_checks import check_events
from features.events import CheckedRows, EventType
from features.items import check_items
from features.store import Store
from jobs.importing.columns import PROBLEM
from jobs.importing.detect import find_parts
from jobs.importing.event_ids import EventIds
from jobs.importing.parts import ImportOptions, Part
from jobs.importing.readers import RawBatch, expected_batches, read_batches
from jobs.importing.slates import check_slates, slate_records
from recsys.progress import Progress


@dataclass(slots=True)
class PartReport:
    """What became of one part; `rejects` is where refused rows are, if there are any."""

    name: str
    target: str
    read: int = 0
    new: int = 0
    known: int = 0  # stored before, with the same content
    rejected: int = 0
    rejects: Path | None = None
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def reject_share(self) -> float:
        return self.rejected / self.read if self.read else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """Where imports go and what counts as acceptable."""

    store: Store
    rejects_dir: Path
    event_types: Sequence[EventType]
    now_us: int

    def import_path(
        self, path: Path, options: ImportOptions, progress: Progress
    ) -> list[PartReport]:
        """Every part of `path`; a file that cannot be read raises DataError.

        What was stored before the error stays: importing again goes on from there.
        """
        return [self._import_part(part, progress) for part in find_parts(path, options)]

    def _import_part(self, part: Part, progress: Progress) -> PartReport:
        report = PartReport(part.name, part.target)
        ids = EventIds()
        rejects = Rejects(self.rejects_dir / f"{_file_name(part)}.jsonl")
        batches = ((path, batch) for path in part.files for batch in read_batches(path))
        total = expected_batches(part.files)
        with rejects:
            for path, batch in progress.track(batches, total=total, label=part.name):
                chosen, numbers = _chosen(part, batch)
                for bad in batch.malformed:
                    rejects.write(path, bad.number, bad.reason, bad.raw)
                converted = part.convert(chosen)
                checked = _split_problems(converted)
                final = self._check(part, ids, checked.accepted)
                rejects.write_rows(path, chosen, numbers, _joined(converted, checked, final))
                new = self._store(part, final.accepted)
                report.read += chosen.height + len(batch.malformed)
                report.new += new
                report.known += final.accepted.height - new
        report.rejected, report.reasons = rejects.count, rejects.reasons
        report.rejects = rejects.path if rejects.count else None
        return report

    def _check(self, part: Part, ids: EventIds, rows: pl.DataFrame) -> CheckedRows:
        if part.target == "events":
            return check_events(ids.filled(rows), now_us=self.now_us, event_types=self.event_types)
        return check_items(rows) if part.target == "items" else check_slates(rows)

    def _store(self, part: Part, rows: pl.DataFrame) -> int:
        if rows.is_empty():
            return 0
        if part.target == "events":
            return int(self.store.append_events(rows, received_at_us=self.now_us).sum())
        if part.target == "slates":
            return self.store.append_slates(list(slate_records(rows)))
        # the last of several rows on one item counts, as if they had come one after the other
        latest = rows.unique("item_id", keep="last", maintain_order=True)
        return self.store.upsert_items(latest, updated_at_us=self.now_us)


class Rejects:
    """One line a refused row: its number in the file, the reason, the row; written at the end.

    The file appears only if a row was refused; the file of an earlier import is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.reasons: dict[str, int] = {}
        self._unfinished = path.with_suffix(".unfinished")
        self._file: IO[str] | None = None

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            self.path.unlink(missing_ok=True)
        else:
            self._file.close()
            os.replace(self._unfinished, self.path)

    def write(self, path: Path, number: int, reason: str, raw: object) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._unfinished.open("w", encoding="utf-8")
        entry = {"file": path.name, "row": number, "reason": reason, "raw": raw}
        self._file.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        self.count += 1
        # values differ from row to row, the kind of reason does not
        kind = re.sub(r"'[^']*'|\"[^\"]*\"|[\d.:+-]{2,}[TZ\d:]*", "…", reason)[:120]
        if kind in self.reasons or len(self.reasons) < 20:
            self.reasons[kind] = self.reasons.get(kind, 0) + 1

    def write_rows(
        self, path: Path, rows: pl.DataFrame, numbers: Int64Array, rejected: pl.DataFrame
    ) -> None:
        """`rejected` has `row`, an index into `rows`, and `reason`."""
        raws = rows[rejected["row"]].to_dicts()
        for index, reason, raw in zip(rejected["row"], rejected["reason"], raws, strict=True):
            self.write(path, int(numbers[index]), reason, raw)


def _chosen(part: Part, batch: RawBatch) -> tuple[pl.DataFrame, Int64Array]:
    if part.only is None:
        return batch.rows, batch.numbers
    keep = batch.rows.select(part.only.fill_null(value=False)).to_series()
    return batch.rows.filter(keep), batch.numbers[keep.to_numpy()]


def _split_problems(converted: pl.DataFrame) -> CheckedRows:
    indexed = converted.with_row_index("row")
    rejected = indexed.filter(pl.col(PROBLEM).is_not_null()).select("row", reason=PROBLEM)
    return CheckedRows(converted.filter(pl.col(PROBLEM).is_null()).drop(PROBLEM), rejected)


def _joined(converted: pl.DataFrame, first: CheckedRows, second: CheckedRows) -> pl.DataFrame:
    """Rejected rows of both checks by their index in `converted`, in order."""
    kept = np.flatnonzero(converted[PROBLEM].is_null().to_numpy())
    rows = pl.Series("row", kept[second.rejected["row"].to_numpy()], pl.UInt32)
    later = second.rejected.with_columns(rows)
    return pl.concat([first.rejected, later], how="vertical_relaxed").sort("row")


def _file_name(part: Part) -> str:
    """The table's name, and where it lies: two folders may each hold an items.csv."""
    where = "\n".join(str(path.resolve()) for path in part.files)
    digest = hashlib.blake2b(where.encode(), digest_size=4).hexdigest()
    name = re.sub(r"[^\w.-]", "_", part.name)
    return f"{name}-{digest}"
