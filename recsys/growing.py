"""Arrays that grow while they are read: a new item must not copy the whole catalogue."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


class GrowingArray(Generic[Scalar]):
    """Rows in one array with spare capacity; `rows` is a view of those in use."""

    def __init__(self, rows: NDArray[Scalar]) -> None:
        self._store = rows
        self._n = len(rows)

    @property
    def rows(self) -> NDArray[Scalar]:
        return self._store[: self._n]

    def append(self, rows: NDArray[Scalar]) -> None:
        needed = self._n + len(rows)
        if needed > len(self._store):
            grown = np.empty((max(needed, 2 * self._n, 16), *self._store.shape[1:]), rows.dtype)
            grown[: self._n] = self.rows
            self._store = grown
        self._store[self._n : needed] = rows
        self._n = needed
