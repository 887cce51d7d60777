"""What the units of one variant did, as columns: the only thing the statistics see."""

from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array, Int64Array
from features.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class EventValues:
    """Single values and whose they are, for quantiles: the unit was drawn, not the value."""

    values: Float64Array  # (m,)
    unit_rows: Int64Array  # (m,) from 0 to below n


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One entry a unit; `before` is the same number over the days before it saw anything."""

    totals: Float64Array  # (n,)
    denominators: Float64Array | None = None  # (n,) of ratios
    before: Float64Array | None = None  # (n,)
    before_denominators: Float64Array | None = None  # (n,)
    events: EventValues | None = None
    persons: Int64Array | None = None  # (n,) whose unit it is, where one person may be several

    def __post_init__(self) -> None:
        columns = (self.totals, self.denominators, self.before, self.before_denominators)
        shapes = {np.shape(column) for column in columns if column is not None}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise DataError(
                f"found columns of shapes {sorted(shapes)}, expected one number a unit in each"
            )
        for column in columns:
            if column is not None and not np.isfinite(column).all():
                n = int(np.count_nonzero(~np.isfinite(column)))
                raise DataError(
                    f"found {n} numbers that are not finite, expected a finite one for each unit: "
                    "count units without events as 0"
                )

    def __len__(self) -> int:
        return len(self.totals)
