"""Where each candidate stands among the other candidates of its request."""

import numpy as np

from features.arrays import Float32Array, Float64Array, Int64Array

LEAST_SPREAD = 1e-6  # values closer together than this are one value


def z_scores(values: Float32Array, offsets: Int64Array) -> Float32Array:
    """(n, k) of each column within each request's rows; NaN stays NaN and counts nowhere.

    Request q owns rows `offsets[q]:offsets[q + 1]`.
    """
    sizes = np.diff(offsets)
    starts = offsets[:-1][sizes > 0]  # reduceat reads one row even where there is none
    sizes = sizes[sizes > 0]
    known = ~np.isnan(values)

    def mean(of: Float64Array) -> Float64Array:
        total = np.add.reduceat(np.where(known, of, 0.0), starts, axis=0)
        return np.asarray(np.repeat(total / np.maximum(count, 1), sizes, axis=0), np.float64)

    count = np.add.reduceat(known, starts, axis=0, dtype=np.float64)
    apart = values - mean(values.astype(np.float64))
    spread = np.sqrt(mean(apart**2))
    return np.asarray(apart / np.maximum(spread, LEAST_SPREAD), np.float32)


def quantiles(values: Float32Array, offsets: Int64Array) -> Float32Array:
    """(n, k) share of the request's known values below each, half of its equals included."""
    sizes = np.diff(offsets)
    if len(sizes) == 1:
        return np.ascontiguousarray(_shares(np.ascontiguousarray(values.T)).T)
    query = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(values)) - offsets[query]
    padded = np.full((len(sizes), values.shape[1], int(sizes.max())), np.nan, np.float32)
    padded[query, :, place] = values
    shares = _shares(padded.reshape(-1, padded.shape[2]))
    return shares.reshape(padded.shape)[query, :, place]


def _shares(values: Float32Array) -> Float32Array:
    """(m, n) of each row's known values below each, half of its equals included; NaN stays NaN."""
    order = np.argsort(values, axis=1)  # NaN last
    order += (np.arange(len(values)) * values.shape[1])[:, None]
    ordered = values.ravel()[order]
    first, last = _runs(ordered)
    is_nan = np.isnan(ordered)
    known = np.maximum(values.shape[1] - np.count_nonzero(is_nan, axis=1, keepdims=True), 1)
    share = np.where(is_nan, np.nan, (first + last + 1) / (2 * known))
    out = np.empty(values.size, np.float32)
    out[order] = share
    return out.reshape(values.shape)


def _runs(ordered: Float32Array) -> tuple[Int64Array, Int64Array]:
    """First and last place of the run of equals that each place is in, along the last axis."""
    at = np.arange(ordered.shape[-1])
    changes = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*ordered.shape[:-1], 1), np.bool_)
    begins = np.concatenate([edge, changes], axis=-1)
    ends = np.concatenate([changes, edge], axis=-1)
    first = np.maximum.accumulate(np.where(begins, at, 0), axis=-1)
    backwards = np.where(ends, at, len(at))[..., ::-1]
    last = np.minimum.accumulate(backwards, axis=-1)[..., ::-1]
    return first, last
