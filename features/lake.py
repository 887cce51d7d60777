"""Closed history as Parquet files by day, written once and read in streaming by the night.

The rule: after `close_events` the lake holds exactly the events up to the store's cursor, each in
the folder of the UTC day it happened on. It asks for no `until`: the newest day is simply not
finished yet and gets another part next time, as every day does whose events arrive late; readers
cut by time.

Parts keep who was known when an event arrived. Whose an anonymous session was lies beside them,
in `links.parquet`, and is looked up when they are read, as `features/recent.py` does by day.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import DataError
from features.events import EVENT_SCHEMA, US_PER_DAY
from features.links import LINK_SCHEMA
from features.slates import ASSIGNMENT_SCHEMA, EXPOSURE_SCHEMA, exposures
from features.store import Store

TABLES = ("events", "exposures", "assignments")
LINKS_FILE = "links.parquet"  # LINK_SCHEMA
FORGOTTEN_FILE = "forgotten.txt"  # a line a removal: a part may keep its size and lose a row
ROWS_AT_ONCE = 1_000_000  # rows held in memory while days are written: some hundred MB


@dataclass(frozen=True, slots=True)
class ClosedDays:
    """What one closing added."""

    rows: int
    days: tuple[str, ...]  # YYYY-MM-DD, ascending
    last_seq: int  # everything up to here is in the lake


class Lake:
    """A folder `<table>/day=YYYY-MM-DD/part-<first seq>-<last seq>.parquet` for each table.

    One process writes at a time; the night's lock sees to that.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def close_events(self, store: Store) -> ClosedDays:
        def frames(seq: int, until: int) -> Iterator[pl.DataFrame]:
            return store.events_after(seq, until_seq=until, batch_size=ROWS_AT_ONCE)

        return self._close(store, "events", "event_time_us", store.last_event_seq(), frames)

    def close_exposures(self, store: Store) -> ClosedDays:
        def frames(seq: int, until: int) -> Iterator[pl.DataFrame]:
            for batch in store.slates_after(seq, until_seq=until):
                sizes = [len(slate.item_ids) for _, slate in batch]
                seqs = np.repeat(np.array([seq for seq, _ in batch], np.int64), sizes)
                rows = exposures([slate for _, slate in batch])
                yield rows.with_columns(pl.Series("seq", seqs))

        return self._close(store, "exposures", "shown_at_us", store.last_slate_seq(), frames)

    def close_assignments(self, store: Store) -> ClosedDays:
        def frames(seq: int, until: int) -> Iterator[pl.DataFrame]:
            return store.assignments_after(seq, until_seq=until, batch_size=ROWS_AT_ONCE)

        return self._close(store, "assignments", "shown_at_us", store.last_assignment_seq(), frames)

    def close_links(self, store: Store) -> bool:
        """Whether a login has given history a user, or an erasure taken it, since the last time."""
        path, links = self.root / LINKS_FILE, store.people.links()
        known = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=LINK_SCHEMA)
        if links.equals(known):
            return False
        _write_whole(links, path)
        return True

    def scan_events(
        self, *, start_us: int | None = None, end_us: int | None = None
    ) -> pl.LazyFrame:
        """EVENT_SCHEMA rows with start_us ≤ event_time_us < end_us, each event once.

        What a session did without a user carries the user it is linked to.
        """
        return self._scan("events", EVENT_SCHEMA, "event_time_us", start_us, end_us)

    def scan_exposures(
        self, *, start_us: int | None = None, end_us: int | None = None
    ) -> pl.LazyFrame:
        """EXPOSURE_SCHEMA rows with start_us ≤ shown_at_us < end_us; their users as for events."""
        return self._scan("exposures", EXPOSURE_SCHEMA, "shown_at_us", start_us, end_us)

    def scan_assignments(
        self, *, start_us: int | None = None, end_us: int | None = None
    ) -> pl.LazyFrame:
        """ASSIGNMENT_SCHEMA rows with start_us ≤ shown_at_us < end_us; users as for events."""
        return self._scan("assignments", ASSIGNMENT_SCHEMA, "shown_at_us", start_us, end_us)

    def digest(self, tables: Sequence[str] = TABLES, *, end_us: int | None = None) -> str:
        """Equal as long as no part of a day that starts before `end_us` is new or rewritten.

        And as long as every row has the user that it had.
        """
        found = hashlib.sha256()
        for beside in (self.root / LINKS_FILE, self.root / FORGOTTEN_FILE):
            found.update(beside.read_bytes() if beside.exists() else b"")
        for table in tables:
            for part in self._parts(table, None, end_us):
                name = part.relative_to(self.root).as_posix()
                found.update(f"{name} {part.stat().st_size}\n".encode())
        return found.hexdigest()

    def rows_by_user(self, owner_of: Mapping[str, str], user_ids: Sequence[str]) -> dict[str, int]:
        """How many rows are the users' own or of the anonymous sessions `owner_of` gives them."""
        found = dict.fromkeys(user_ids, 0)
        theirs = _belongs_to(owner_of)
        for table in TABLES:
            parts = self._parts(table)
            if parts:
                rows = pl.scan_parquet(parts, hive_partitioning=False).select(theirs.alias("whose"))
                counts = rows.filter(pl.col("whose").is_in(user_ids)).group_by("whose").len()
                for user_id, count in counts.collect(engine="streaming").iter_rows():
                    found[user_id] += count
        return found

    def forget(
        self, owner_of: Mapping[str, str], user_ids: Sequence[str], *, marks: Iterable[str]
    ) -> None:
        """Rewrite the parts that hold such rows; killed anywhere, doing it again finishes it.

        Erase the users from the store first, or the next closing may bring rows back. `marks`
        are lines that tell this removal from others.
        """
        for spool in self.root.glob(".spool-*"):  # of a closing that was killed
            shutil.rmtree(spool)
        for unfinished in self.root.glob("*/day=*/.part-*.unfinished"):
            unfinished.unlink()
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / FORGOTTEN_FILE).open("a") as file:
            file.writelines(f"{mark}\n" for mark in marks)
        is_theirs = _belongs_to(owner_of).is_in(user_ids).fill_null(value=False)
        for table in TABLES:
            for part in self._parts(table):
                if not pl.scan_parquet(part).select(is_theirs.any()).collect().item():
                    continue
                kept = pl.read_parquet(part, hive_partitioning=False).filter(~is_theirs)
                if kept.is_empty():
                    part.unlink()
                else:
                    _write_whole(kept, part)

    def _close(
        self,
        store: Store,
        table: str,
        time: str,
        last_seq: int,
        frames: Callable[[int, int], Iterable[pl.DataFrame]],
    ) -> ClosedDays:
        """Move the table's cursor to `last_seq`; killed anywhere, the next call starts clean."""
        done, target = f"lake.{table}", f"lake.{table}.target"
        spool = self.root / f".spool-{table}"
        shutil.rmtree(spool, ignore_errors=True)
        if not self._parts(table):
            store.set_cursor(done, 0)  # a lake that was removed is written again from the store
        seq = store.cursor(done)
        last_seq = max(last_seq, seq)
        self._drop_unfinished(table, seq, store.cursor(target))
        if last_seq == seq:
            return ClosedDays(0, (), seq)
        store.set_cursor(target, last_seq)
        spool.mkdir(parents=True)
        for number, frame in enumerate(frames(seq, last_seq)):
            day = (pl.col(time) // US_PER_DAY).alias("day")
            rows = frame.with_columns(day).sort("day", "seq")
            rows.write_parquet(spool / f"{number:06}.parquet", row_group_size=50_000)
        rows_written, days = self._write_days(table, spool)
        os.sync()  # one call for thousands of files; only then may the cursor move
        store.set_cursor(done, last_seq)
        shutil.rmtree(spool)
        return ClosedDays(rows_written, days, last_seq)

    def _write_days(self, table: str, spool: Path) -> tuple[int, tuple[str, ...]]:
        """One part a day, however many batches it came in."""
        if not any(spool.iterdir()):
            return 0, ()
        spooled = pl.scan_parquet(spool / "*.parquet")
        sizes = spooled.group_by("day").len().sort("day").collect(engine="streaming")
        group = ((sizes["len"].cum_sum() - 1) // ROWS_AT_ONCE).alias("group")
        for days in sizes.with_columns(group).partition_by("group", maintain_order=True):
            first, last = days["day"][0], days["day"][-1]
            rows = spooled.filter(pl.col("day").is_between(first, last)).collect()
            for part in rows.sort("day", "seq").partition_by("day", maintain_order=True):
                name = f"part-{part['seq'][0]:012}-{part['seq'][-1]:012}.parquet"
                folder = self.root / table / f"day={_day_name(part['day'][0])}"
                _write_whole(part.drop("day"), folder / name)
        return int(sizes["len"].sum()), tuple(_day_name(day) for day in sizes["day"])

    def _drop_unfinished(self, table: str, seq: int, target: int) -> None:
        """Parts after the cursor come from a closing that was killed: they are written again."""
        for unfinished in (self.root / table).glob("day=*/.part-*.unfinished"):
            unfinished.unlink()
        for part in self._parts(table):
            first, last = (int(number) for number in part.stem.split("-")[1:])
            if last > max(seq, target):
                raise DataError(
                    f"{part} holds rows up to seq {last}, but this store closed only up to "
                    f"{max(seq, target)}; the lake belongs to another store: give each its own"
                )
            if first > seq:
                part.unlink()

    def _scan(
        self,
        table: str,
        schema: dict[str, pl.DataType],
        time: str,
        start_us: int | None,
        end_us: int | None,
    ) -> pl.LazyFrame:
        parts = self._parts(table, start_us, end_us)
        if not parts:
            return pl.LazyFrame(schema=schema)
        # parts of an earlier version also say experiment and variant, a column each
        rows = pl.scan_parquet(
            parts, hive_partitioning=False, extra_columns="ignore", schema=schema
        )
        if start_us is not None:
            rows = rows.filter(pl.col(time) >= start_us)
        if end_us is not None:
            rows = rows.filter(pl.col(time) < end_us)
        return self._with_owners(rows.select(*schema))

    def _with_owners(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        path = self.root / LINKS_FILE
        if not path.exists():
            return rows
        owners = pl.scan_parquet(path).select("session_id", owner="user_id")
        known = rows.join(owners, on="session_id", how="left", maintain_order="left")
        return known.with_columns(user_id=pl.coalesce("user_id", "owner")).drop("owner")

    def _parts(
        self, table: str, start_us: int | None = None, end_us: int | None = None
    ) -> list[Path]:
        """Files of the days that touch [start_us, end_us), in a fixed order."""
        folders = sorted((self.root / table).glob("day=*"))
        if start_us is not None:
            first = f"day={_day_name(start_us // US_PER_DAY)}"
            folders = [folder for folder in folders if folder.name >= first]
        if end_us is not None:
            last = f"day={_day_name((end_us - 1) // US_PER_DAY)}"
            folders = [folder for folder in folders if folder.name <= last]
        return [part for folder in folders for part in sorted(folder.glob("part-*.parquet"))]


def _belongs_to(owner_of: Mapping[str, str]) -> pl.Expr:
    """The row's user; without one, that of its session."""
    owner = pl.col("session_id").replace_strict(
        list(owner_of), list(owner_of.values()), default=None, return_dtype=pl.String
    )
    return pl.coalesce("user_id", owner)


def _day_name(day: int) -> str:
    """YYYY-MM-DD of the day so many days after 1970-01-01; of the last day known if beyond."""
    epoch = date(1970, 1, 1).toordinal()
    return date.fromordinal(min(max(day + epoch, 1), date.max.toordinal())).isoformat()


def _write_whole(frame: pl.DataFrame, path: Path) -> None:
    """The file appears whole or not at all; after a power cut only once the disk was synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    frame.write_parquet(unfinished, compression="zstd")
    if path.exists():  # what is replaced cannot be written again, so the new bytes come first
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
    unfinished.replace(path)
