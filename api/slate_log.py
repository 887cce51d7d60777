"""Slates are written down behind the shopper's back: no answer ever waits for the disk."""

import logging
import queue
import threading
import time

from api.errors import STORE_ERRORS
from api.logs import line
from features.pages import PageRecord
from features.slates import SlateRecord
from features.store import Store

log = logging.getLogger(__name__)

CAPACITY = 10_000  # 20 s at 500 requests/s; about 300 MB of slates of 10 items, far less usually
MAX_WAITING_CHARS = 200_000_000  # of questions, which callers can make long; usually 100 each
BATCH = 500  # slates a commit
GATHER_S = 0.05  # one commit each 50 ms costs nothing, and a crash loses no more than that
RETRY_AFTER_S = (0.1, 0.5, 2.0, 5.0)  # a locked store frees itself in seconds; a full disk does not


Entry = tuple[SlateRecord, PageRecord | None]


class SlateLog:
    """A bounded queue in front of `Store.append_slates`, emptied by one thread."""

    def __init__(self, store: Store, *, capacity: int = CAPACITY) -> None:
        self.written = 0
        self.dropped = 0  # the queue was full
        self.lost = 0  # the store refused, again and again
        self._store = store
        self._queue: queue.Queue[Entry | None] = queue.Queue(capacity)
        self._offered = self._taken = 0  # characters of questions; each has one thread that counts
        self._unwritten: dict[str, SlateRecord] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_until_closed, name="slate-log")
        self._thread.start()

    def offer(self, slate: SlateRecord, page: PageRecord | None = None) -> bool:
        """Never blocks; False, counted and logged if the queue is full."""
        self._unwritten[slate.request_id] = slate
        n_chars = len(page.asked) if page else 0
        try:
            if self._offered + n_chars - self._taken > MAX_WAITING_CHARS:
                raise queue.Full
            self._queue.put_nowait((slate, page))
        except queue.Full:
            del self._unwritten[slate.request_id]
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th …: a flood is not logged
                log.error(line("slates_dropped", total=self.dropped, waiting=self._queue.qsize()))
            return False
        self._offered += n_chars
        return True

    def unwritten(self, request_id: str) -> SlateRecord | None:
        """A slate that is not in the store yet; ask here first, then there."""
        return self._unwritten.get(request_id)

    def flush(self) -> None:
        """Return when everything offered before is in the store, or is counted as lost."""
        waiting = list(self._unwritten)
        while any(request_id in self._unwritten for request_id in waiting):
            time.sleep(GATHER_S / 5)

    @property
    def is_full(self) -> bool:
        return self._queue.full()

    def counts(self) -> dict[str, int]:
        return {
            "waiting": self._queue.qsize(),
            "written": self.written,
            "dropped": self.dropped,
            "lost": self.lost,
        }

    def close(self) -> None:
        """Return when everything offered before is in the store, or is counted as lost."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
        log.info(line("slate_log_closed", **self.counts()))

    def _write_until_closed(self) -> None:
        while (first := self._queue.get()) is not None:
            self._closing.wait(GATHER_S)
            batch, closed = self._gather(first)
            self._write(batch)
            if closed:
                return

    def _gather(self, first: Entry) -> tuple[list[Entry], bool]:
        batch = [first]
        while len(batch) < BATCH:
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
        return batch, False

    def _write(self, batch: list[Entry]) -> None:
        try:
            self._store_or_lose(batch)
        finally:
            for slate, _ in batch:
                self._unwritten.pop(slate.request_id, None)

    def _store_or_lose(self, batch: list[Entry]) -> None:
        slates = [slate for slate, _ in batch]
        pages = [page for _, page in batch if page is not None]
        self._taken += sum(len(page.asked) for page in pages)
        for wait_s in (*RETRY_AFTER_S, None):
            try:
                self._store.append_slates(slates, pages)
            except STORE_ERRORS as error:
                log.error(line("slates_not_written", n=len(batch), cause=repr(error), again=wait_s))
                if wait_s is None:
                    self.lost += len(batch)
                else:
                    time.sleep(wait_s)
            except Exception:  # a batch may be lost; the thread must go on, or closing waits for it
                self.lost += len(batch)
                log.exception(line("slates_lost", n=len(batch)))
                return
            else:
                self.written += len(batch)
                return
