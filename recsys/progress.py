"""How long work tells the person who waits for it how far it is."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Where progress goes: a terminal at night, nowhere in tests."""

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]: ...

    def say(self, text: str) -> None: ...


class Silent:
    """Progress nobody watches."""

    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        del total, label
        return iter(items)

    def say(self, text: str) -> None:
        del text
