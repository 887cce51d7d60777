"""What was shown: one record a slate in the store, one exposure row an item in the lake."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import polars as pl

from features.arrays import Float32Array
from features.errors import DataError

EXPOSURE_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "position": pl.Int32(),  # from 0
    "user_id": pl.String(),
    "session_id": pl.String(),
    "placement": pl.String(),
    "shown_at_us": pl.Int64(),
    "release_id": pl.String(),
    "item_id": pl.String(),
    "propensity": pl.Float32(),  # null where nothing was drawn, or the chance is not known
    "score": pl.Float32(),
    "source_scores": pl.List(pl.Float32()),
    "features": pl.List(pl.Float32()),
}

ASSIGNMENT_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "experiment": pl.String(),
    "phase": pl.Int32(),
    "variant": pl.String(),
    "how": pl.String(),
    "unit_id": pl.String(),
    "user_id": pl.String(),
    "session_id": pl.String(),
    "placement": pl.String(),
    "shown_at_us": pl.Int64(),
    "n_items": pl.Int32(),
    "teams": pl.String(),
}

_STORED_DTYPE = np.dtype("<f4")  # bytes mean the same on every machine


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one experiment gave a unit when a slate was answered."""

    experiment: str
    phase: int
    variant: str
    how: Literal["hash", "override", "holdout"]
    unit_id: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlateRecord:
    """One answer as it was given, in the order shown: the arrays have one row an item."""

    request_id: str
    user_id: str | None
    session_id: str | None
    placement: str
    shown_at_us: int
    release_id: str
    item_ids: tuple[str, ...]
    propensities: Float32Array  # (k,) NaN where nothing was drawn, or the chance is not known
    scores: Float32Array  # (k,)
    source_scores: Float32Array  # (k, n_sources), NaN where a source did not return the item
    features: Float32Array  # (k, n_features)
    first_position: int = 0  # where on the page it began: not 0 for a second page, or a part of one
    assignments: tuple[Assignment, ...] = ()
    teams: str | None = None  # interleaved: "A", "B" or "-" (common) for each position

    def __post_init__(self) -> None:
        k = len(self.item_ids)
        flat = self.propensities.shape == self.scores.shape == (k,)
        wide = all(a.ndim == 2 and len(a) == k for a in (self.source_scores, self.features))
        if not (flat and wide):
            shapes = [getattr(self, name).shape for name in _ARRAYS]
            raise DataError(
                f"slate {self.request_id}: arrays {', '.join(_ARRAYS)} have shapes {shapes}; "
                f"expected one row for each of its {k} items"
            )


_ARRAYS = ("propensities", "scores", "source_scores", "features")
_BESIDE = ("assignments", "teams")  # in a table of their own: most slates have none


def packed(slate: SlateRecord) -> dict[str, Any]:
    """The slate as one database row: ids as JSON, arrays as little-endian float32."""
    apart = (*_ARRAYS, *_BESIDE)
    row = {name: getattr(slate, name) for name in SlateRecord.__slots__ if name not in apart}
    row["item_ids"] = json.dumps(slate.item_ids, ensure_ascii=False)
    for name in _ARRAYS:
        row[name] = np.ascontiguousarray(getattr(slate, name), _STORED_DTYPE).tobytes()
    return row


def packed_assignments(slate: SlateRecord) -> list[dict[str, Any]]:
    """One ASSIGNMENT_SCHEMA row for each experiment the slate is part of."""
    shared = {
        **{name: getattr(slate, name) for name in ("request_id", "user_id", "session_id")},
        "placement": slate.placement,
        "shown_at_us": slate.shown_at_us,
        "n_items": len(slate.item_ids),
        "teams": slate.teams,
    }
    return [{**shared, **asdict(assignment)} for assignment in slate.assignments]


def unpacked(row: Mapping[str, Any], assigned: Sequence[Mapping[str, Any]] = ()) -> SlateRecord:
    """The reverse; an empty slate forgets how many sources and features it had."""
    values = {name: row[name] for name in SlateRecord.__slots__ if name not in _BESIDE}
    item_ids = tuple(json.loads(row["item_ids"]))
    arrays = {name: np.frombuffer(row[name], _STORED_DTYPE) for name in _ARRAYS}
    for name in ("source_scores", "features"):
        width = len(arrays[name]) // max(len(item_ids), 1)
        arrays[name] = arrays[name].reshape(len(item_ids), width)
    beside = {
        "assignments": tuple(
            Assignment(**{name: of[name] for name in Assignment.__slots__}) for of in assigned
        ),
        "teams": assigned[0]["teams"] if assigned else None,
    }
    return SlateRecord(**(values | arrays | beside | {"item_ids": item_ids}))


def exposures(slates: Sequence[SlateRecord]) -> pl.DataFrame:
    """One EXPOSURE_SCHEMA row for each item of each slate, in order."""
    # releases differ in how many sources and features they have; a block of equals is one array
    blocks = groupby(slates, key=lambda s: (s.source_scores.shape[1], s.features.shape[1]))
    frames = [_exposure_block(list(block)) for _, block in blocks]
    return pl.concat([pl.DataFrame(schema=EXPOSURE_SCHEMA), *frames])


def _exposure_block(slates: Sequence[SlateRecord]) -> pl.DataFrame:
    sizes = np.array([len(slate.item_ids) for slate in slates])
    n_rows = int(sizes.sum())
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    single = ("request_id", "user_id", "session_id", "placement", "shown_at_us", "release_id")
    repeated = {
        name: pl.Series(name, [getattr(s, name) for s in slates], EXPOSURE_SCHEMA[name])
        for name in single
    }
    slate_rows = np.repeat(np.arange(len(slates)), sizes)
    columns: dict[str, Any] = {name: values[slate_rows] for name, values in repeated.items()}
    first = np.array([slate.first_position for slate in slates])
    columns["position"] = np.arange(n_rows) - starts + first[slate_rows]
    columns["item_id"] = [item_id for slate in slates for item_id in slate.item_ids]
    columns["propensity"] = pl.Series(
        np.concatenate([s.propensities for s in slates]), nan_to_null=True
    )
    columns["score"] = np.concatenate([s.scores for s in slates])
    for name in ("source_scores", "features"):
        columns[name] = _list_column(np.concatenate([getattr(s, name) for s in slates]))
    return pl.DataFrame(
        [pl.Series(name, columns[name]).cast(dtype) for name, dtype in EXPOSURE_SCHEMA.items()]
    )


def _list_column(matrix: Float32Array) -> pl.Series:
    n_rows, width = matrix.shape
    if width == 0:
        return pl.Series([[]] * n_rows, dtype=pl.List(pl.Float32))
    return pl.Series(matrix.astype(np.float32), dtype=pl.Array(pl.Float32, width))
