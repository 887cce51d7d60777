"""Shows people at a terminal what the night and the imports are doing."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

T = TypeVar("T")


class Terminal:
    """`recsys.progress.Progress` on a terminal; without one, a line when each step is done."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bars: Progress | None = None

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        """Bars nest: a loop inside a loop gets a line below."""
        outermost = self._bars is None
        bars = self._bars or self._new_bars()
        self._bars = bars
        task = bars.add_task(label, total=total)
        try:
            for item in items:
                yield item
                bars.advance(task)
        finally:
            bars.stop_task(task)
            if outermost:
                bars.stop()
                self._bars = None
            else:
                bars.remove_task(task)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Numbers stand to the right, with thousands apart."""
        kept = [list(row) for row in rows]
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            numeric = all(isinstance(row[number], int | float) for row in kept)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in kept:
            table.add_row(*(_cell(value) for value in row))
        self.console.print(table)

    def _new_bars(self) -> Progress:
        bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        bars.start()
        return bars


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
