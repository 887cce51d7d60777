"""How sure a measured mean or difference is: resampling over users, never over impressions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float64Array
from features.errors import DataError

N_RESAMPLES = 2_000  # the ends of a 95 % interval then rest on 50 resamples each
FLIPS = 5  # for each resample: eight comparisons then can reach an adjusted p below .001
_CHUNK = 2_000_000  # numbers drawn at a time: 16 MB of indices, 16 MB of values


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the percentile interval that covers it at the level asked for."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of a - b by user; `p_value` is two-sided, from flipping the signs of the pairs."""

    interval: Interval
    p_value: float
    at_least: float  # lower end of the one-sided interval of the same level


def bootstrap(
    values: Float64Array, *, seed: int, n_resamples: int = N_RESAMPLES, level: float = 0.95
) -> Interval:
    """Percentile interval of the mean of `values` (n,), one number a user (Efron 1979)."""
    (found,) = bootstrap_columns(_column(values), seed=seed, n_resamples=n_resamples, level=level)
    return found


def bootstrap_columns(
    values: Float64Array, *, seed: int, n_resamples: int = N_RESAMPLES, level: float = 0.95
) -> tuple[Interval, ...]:
    """The same for each column of `values` (n, m); all are resampled with the same users."""
    tail = (1 - level) / 2
    means, low, high = _means(_checked(values), [tail, 1 - tail], seed, n_resamples)
    return tuple(map(Interval, means.tolist(), low.tolist(), high.tolist()))


def paired_bootstrap(
    a: Float64Array,
    b: Float64Array,
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    level: float = 0.95,
) -> PairedDifference:
    """Compare two systems on the same users: `a` and `b` (n,) are aligned."""
    (found,) = paired_columns(
        _column(a), _column(b), seed=seed, n_resamples=n_resamples, level=level
    )
    return found


def paired_columns(
    a: Float64Array,
    b: Float64Array,
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    level: float = 0.95,
) -> tuple[PairedDifference, ...]:
    """The same for each column of `a` and `b` (n, m)."""
    if len(a) != len(b):
        raise DataError(
            f"Found {len(a)} and {len(b)} users, expected the same users on both sides. "
            "Score users without an answer 0 instead of leaving them out."
        )
    differences = _checked(a) - _checked(b)
    tail = (1 - level) / 2
    ends = _means(differences, [tail, 1 - tail, 1 - level], seed, n_resamples)
    p_values = _sign_flip_p(differences, seed=seed, n_flips=FLIPS * n_resamples)
    return tuple(
        PairedDifference(Interval(mean, low, high), p_value, at_least)
        for mean, low, high, at_least, p_value in zip(
            *(end.tolist() for end in ends), p_values.tolist(), strict=True
        )
    )


def holm(p_values: Sequence[float]) -> Float64Array:
    """P-values adjusted for being several (Holm 1979), in the order given."""
    p = np.asarray(p_values, np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise DataError(f"Found p-values {p.tolist()}, expected numbers from 0 to 1.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


def _means(
    values: Float64Array, quantiles: Sequence[float], seed: int, n_resamples: int
) -> list[Float64Array]:
    """Of each column the mean, then these quantiles of its means over resampled users."""
    n = len(values)
    rng = np.random.default_rng(seed)

    def resampled(size: int) -> Float64Array:
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        # How often each user was drawn: one product then serves every column.
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        return np.asarray(times.astype(np.float64) @ values / n, np.float64)

    means = _in_chunks(resampled, n_resamples, n)
    return [values.mean(axis=0), *np.quantile(means, quantiles, axis=0)]


def _sign_flip_p(differences: Float64Array, *, seed: int, n_flips: int) -> Float64Array:
    """Fisher's randomisation test: under no difference each pair could as well be swapped."""
    changed = differences[(differences != 0).any(axis=1)]
    if not len(changed):
        return np.ones(differences.shape[1])
    rng = np.random.default_rng([seed, 1])  # not the stream that drew the users

    def sums(size: int) -> Float64Array:
        kept = rng.integers(0, 2, size=(size, len(changed)), dtype=np.int8)
        return np.asarray(2 * (kept @ changed) - changed.sum(axis=0), np.float64)

    observed = np.abs(changed.sum(axis=0))
    # Sums of the same numbers in another order differ by rounding; a tie counts as extreme.
    bound = observed - 1e-12 * np.abs(changed).sum(axis=0)
    extreme = (np.abs(_in_chunks(sums, n_flips, len(changed))) >= bound).sum(axis=0)
    return np.asarray((1 + extreme) / (1 + n_flips), np.float64)


def _in_chunks(
    draw: Callable[[int], Float64Array], n_resamples: int, n_values: int
) -> Float64Array:
    """All resamples, a few at a time, so that memory does not grow with their number."""
    size = max(1, _CHUNK // n_values)
    starts = range(0, n_resamples, size)
    return np.concatenate([draw(min(size, n_resamples - start)) for start in starts])


def _column(values: Float64Array) -> Float64Array:
    return np.asarray(values, np.float64)[..., None]


def _checked(values: Float64Array) -> Float64Array:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise DataError(
            f"Found an array of shape {array.shape} with {np.count_nonzero(~np.isfinite(array))} "
            "values that are not finite, expected one finite number for each of at least one user. "
            "Leave out users for whom the metric is undefined, on both sides."
        )
    return array
