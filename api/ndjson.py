"""One JSON document a line: read from a body of any length, never more than a chunk in memory."""

from collections.abc import AsyncIterable, AsyncIterator

MAX_LINE_BYTES = 1_000_000  # an item of the longest texts that are accepted has a fifth of it
ROWS_AT_ONCE = 1_000  # a transaction of some 20 ms: events wait no longer behind an upload

MEDIA_TYPE = "application/x-ndjson"
MEDIA_TYPES = (MEDIA_TYPE, "application/ndjson", "application/jsonl")

Line = tuple[int, bytes | None]  # its number from 1; None: it was longer than MAX_LINE_BYTES


class LineSplitter:
    """Cuts pieces of any size into lines; of a line that is too long nothing is kept."""

    def __init__(self) -> None:
        self._number = 0
        self._begun: list[bytes] = []
        self._n_begun = 0

    def lines(self, piece: bytes) -> list[Line]:
        """Whole lines that end in this piece; empty ones are counted and left out."""
        *ends, rest = piece.split(b"\n")
        found = [self._ended(end) for end in ends]
        self._begin(rest)
        return [line for line in found if line[1] is None or line[1].strip()]

    def last(self) -> list[Line]:
        """The line that no newline ended."""
        return self.lines(b"\n")

    def _begin(self, part: bytes) -> None:
        self._n_begun += len(part)
        if self._n_begun <= MAX_LINE_BYTES:
            self._begun.append(part)
        else:
            self._begun.clear()

    def _ended(self, end: bytes) -> Line:
        self._begin(end)
        self._number += 1
        line = b"".join(self._begun) if self._n_begun <= MAX_LINE_BYTES else None
        self._begun, self._n_begun = [], 0
        return self._number, line


async def chunks(
    pieces: AsyncIterable[bytes], size: int = ROWS_AT_ONCE
) -> AsyncIterator[list[Line]]:
    """Lines in lists of `size`, the last one shorter."""
    splitter = LineSplitter()
    waiting: list[Line] = []
    async for piece in pieces:
        waiting += splitter.lines(piece)
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    waiting += splitter.last()
    for start in range(0, len(waiting), size):
        yield waiting[start : start + size]
