"""Arrays that grow while they are read.

Room is doubled, so few new items copy the whole catalogue; who cannot wait for that reserves room
beforehand.
"""

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

    def reserve(self, n: int) -> None:
        """Room for n more rows: appending them copies nothing else.

        Copies all rows where there is none yet: 300,000 x 256 that were mapped from a file took
        .1 to .8 s, and from then on no other worker shares them.
        """
        needed = self._n + n
        if needed > len(self._store):
            shape = (max(needed, 2 * self._n, 16), *self._store.shape[1:])
            grown = np.empty(shape, self._store.dtype)
            grown[: self._n] = self.rows
            self._store = grown

    def append(self, rows: NDArray[Scalar]) -> None:
        self.reserve(len(rows))
        end = self._n + len(rows)
        self._store[self._n : end] = rows
        self._n = end
