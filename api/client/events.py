"""Events on their way: gathered into batches, kept until the server has them on disk."""

import atexit
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from api.answers_told import EventsAnswer
from api.client.connection import Call, Connection, RecommenderError, given

log = logging.getLogger(__name__)

MAX_BATCH = 1_000  # what the server takes at once

Event = Mapping[str, object]


class Events:
    """`track` returns at once, a thread sends; an event leaves only when the server has it.

    Order is kept. What the server rejects goes to `on_rejected`, which logs it by default.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        batch_size: int = 100,
        interval_s: float = 1.0,
        max_waiting: int = 10_000,
        on_rejected: Callable[[Event, str], None] | None = None,
    ) -> None:
        self._connection = connection
        self._batch_size = batch_size
        self._interval_s = interval_s
        self._max_waiting = max_waiting
        self._on_rejected = on_rejected or _log_rejected
        self._waiting: deque[Event] = deque()
        self._changing = threading.Lock()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def unsent(self) -> list[Event]:
        """What the server has not acknowledged yet, to be kept elsewhere if it cannot be sent."""
        with self._changing:
            return list(self._waiting)

    def send(self, events: Sequence[Event]) -> EventsAnswer:
        """At most 1,000, on disk when this returns; safe to repeat, by `event_id`."""
        return self._connection.ask(
            EventsAnswer, Call("POST", "/v1/events", json={"events": [dict(e) for e in events]})
        )

    def track(
        self,
        event_type: str,
        item_id: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        value: float | None = None,
        event_time: datetime | None = None,
        event_id: str | None = None,
    ) -> str:
        """The event's id. RecommenderError `queue_full` or `closed`: then it was not taken."""
        at = event_time or datetime.now(UTC)
        event_id = event_id or uuid.uuid4().hex
        event = given(
            event_id=event_id,
            event_type=event_type,
            item_id=item_id,
            user_id=user_id,
            session_id=session_id,
            request_id=request_id,
            value=value,
            event_time=at.isoformat(),
        )
        with self._changing:
            self._take(event)
            is_batch = len(self._waiting) >= self._batch_size
        if is_batch:
            self._wake.set()
        return event_id

    def _take(self, event: Event) -> None:
        if self._closed:
            raise RecommenderError("closed", "the client is closed; this event was not taken")
        if len(self._waiting) >= self._max_waiting:
            raise RecommenderError(
                "queue_full",
                f"{len(self._waiting):,} events wait for the server; this one was not taken. "
                "Call flush() to see why they cannot be sent.",
            )
        self._waiting.append(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="events", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def flush(self) -> None:
        """Send everything that waits; RecommenderError if that fails, and the rest stays."""
        while True:
            with self._sending:
                with self._changing:
                    batch = list(islice(self._waiting, MAX_BATCH))
                if not batch:
                    return
                answer = self.send(batch)
                with self._changing:
                    for _ in batch:
                        self._waiting.popleft()
            for verdict in answer.verdicts:
                if verdict.verdict == "rejected":
                    self._on_rejected(batch[verdict.index], verdict.reason or "")

    def close(self) -> None:
        """Send what waits. RecommenderError if that fails: `unsent` has what is left."""
        with self._changing:
            self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self.close)
        self.flush()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            try:
                self.flush()
            except RecommenderError as error:  # they wait for the next round; `close` says so
                log.warning("%d events wait: %s", len(self._waiting), error)


def _log_rejected(event: Event, reason: str) -> None:
    log.error("event %s was rejected: %s", event.get("event_id"), reason)
