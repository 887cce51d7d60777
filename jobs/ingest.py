"""The night's first step: what happened goes into the lake, who was erased comes out of it.

Run under the night's lock. Users are forgotten before anything new is brought in, so that what
somebody does after they were erased is theirs again.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from features.erasures import Erasure
from features.lake import ClosedDays, Lake
from features.store import Store
from jobs.forgetting import forget_in_files
from jobs.plan import Places
from recsys.progress import Progress


@dataclass(frozen=True, slots=True)
class Ingested:
    """What came into the lake, and whose receipts are complete now."""

    events: ClosedDays
    forgotten: tuple[Erasure, ...]


def ingest(store: Store, places: Places, now_us: int, progress: Progress) -> Ingested:
    lake = Lake(places.lake)
    forgotten = _forget(store, lake, places, now_us)
    closed = lake.close_events(store)
    lake.close_exposures(store)
    lake.close_assignments(store)
    lake.close_links(store)
    progress.say(f"ingest: {closed.rows:,} new events closed into {len(closed.days)} days")
    if forgotten:
        rows = sum(erasure.lake_rows or 0 for erasure in forgotten)
        progress.say(f"ingest: {len(forgotten):,} users forgotten, {rows:,} rows of theirs")
    return Ingested(closed, forgotten)


def _forget(store: Store, lake: Lake, places: Places, now_us: int) -> tuple[Erasure, ...]:
    """Killed anywhere, the next call does the rest; a receipt is complete when nothing is left."""
    people = store.people
    pending = people.pending_erasures()
    if not pending:
        return ()
    user_ids = sorted({e.user_id for e in pending if e.user_id is not None})
    owner_of = {s: e.user_id for e in pending for s in e.session_ids if e.user_id is not None}
    rows = lake.rows_by_user(owner_of, user_ids)
    for erasure in pending:
        people.note_lake_rows(erasure.receipt_id, rows.pop(erasure.user_id or "", 0))
    noted = [e for e in people.pending_erasures() if e.lake_rows is not None]
    lake.forget(owner_of, user_ids, marks=[erasure.receipt_id for erasure in pending])
    lake.close_links(store)
    if any(erasure.lake_rows for erasure in noted):
        _forget_steps(places.work)
    for erasure in noted:
        refused = forget_in_files(erasure, places.rejects, places.reports)
        people.finish_erasure(
            erasure.receipt_id, erasure.lake_rows or 0, now_us, reject_rows=refused
        )
    found = (people.erasure(erasure.receipt_id) for erasure in noted)
    return tuple(erasure for erasure in found if erasure is not None)


def _forget_steps(work: Path) -> None:
    """Results kept of the lake as it was: no night would use them again, and they name users."""
    for folder in work.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
