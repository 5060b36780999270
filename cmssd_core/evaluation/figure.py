"""Figures with intervals: a mean or a share with its value, low, high and n; patients are what is resampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Values = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Patients = Sequence[str] | npt.NDArray[np.object_] | None
FEWEST = 8  # with fewer patients no interval is given
RESAMPLES = 2000
AT_ONCE = 1 << 22  # numbers drawn at once; all resamples of 100,000 patients would take 3 GB
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Figure:
    """A number with its doubt: 95 % interval, None where n is too small for one, or where `reason` says why.

    value is None where there is none; then `reason` says why.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


def absent(reason: str, n: int = 0) -> Figure:
    """A figure that could not be had, and why."""
    return Figure(None, None, None, n, reason)


def clusters(patients: Patients, n: int) -> tuple[npt.NDArray[np.intp], bool]:
    """A number for each row's patient, and whether some patient has several rows. None: each row is a patient."""
    if patients is None:
        return np.arange(n), False
    codes = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1].reshape(-1)
    return codes, len(np.unique(codes)) < n


def mean(values: Values, patients: Patients = None, *, seed: int = 0) -> Figure:
    """Mean of rows with a percentile bootstrap interval over patients."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return absent("no case has this value")
    codes, _ = clusters(patients, len(values))
    count = int(codes.max()) + 1
    value = float(values.mean())
    if count < FEWEST:
        return Figure(value, None, None, len(values))
    sums, rows = np.bincount(codes, values, count), np.bincount(codes, minlength=count)
    draws = np.concatenate([(drawn @ sums) / (drawn @ rows) for drawn in _drawn(count, seed)])
    low, high = np.percentile(draws, (2.5, 97.5))
    return Figure(value, float(low), float(high), len(values))


def _drawn(count: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each of `count` patients is drawn, (resample, patient), some of RESAMPLES at a time."""
    rng, some = np.random.default_rng(seed), max(1, AT_ONCE // count)
    for done in range(0, RESAMPLES, some):
        yield rng.multinomial(count, np.full(count, 1 / count), min(some, RESAMPLES - done))


def share(hits: Bools, patients: Patients = None, *, seed: int = 0) -> Figure:
    """A share with Wilson's interval; with the bootstrap over patients where a patient has several rows.

    A share of 0 or 1 is the same in every draw, so there it is Wilson's interval of as many hits as there are patients.
    """
    hits = np.asarray(hits, dtype=bool)
    if not len(hits):
        return absent("no case to count")
    codes, repeated = clusters(patients, len(hits))
    k, n = int(hits.sum()), len(hits)
    if repeated and 0 < k < n:
        return mean(hits.astype(np.float64), patients, seed=seed)
    count = len(np.unique(codes))
    if count < FEWEST:
        return Figure(k / n, None, None, n)
    interval = binomtest(round(count * k / n), count).proportion_ci(method="wilson")
    return Figure(k / n, float(interval.low), float(interval.high), n)


def loss(before: Bools, after: Bools, patients: Patients = None, *, seed: int = 0) -> Figure:
    """The share of hits lost from `before` to `after`, row by row; what was gained counts against it.

    With the bootstrap over patients. Where no row changed every draw is 0, so there it is Wilson's upper limit of no
    loss among as many patients, and as much the other way.
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if (before != after).any():
        return mean(before.astype(np.float64) - after, patients, seed=seed)
    none = share(np.zeros(len(before), dtype=bool), patients)
    return none if none.high is None else Figure(0.0, -none.high, none.high, none.n)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float | None],
    n: int,
    patients: Patients = None,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Figure:
    """Any statistic of row indices, with a percentile bootstrap over patients; draws where it is None are left out."""
    value = statistic(np.arange(n))
    codes, _ = clusters(patients, n)
    if value is None:
        return absent("it is not defined on these cases", n)
    count = int(codes.max()) + 1
    if count < FEWEST:
        return Figure(value, None, None, n)
    members = [np.flatnonzero(codes == code) for code in range(count)]
    rng = np.random.default_rng(seed)
    draws = (statistic(np.concatenate([members[i] for i in rng.integers(count, size=count)])) for _ in range(resamples))
    defined = [draw for draw in draws if draw is not None]
    if len(defined) < resamples / 2:
        return Figure(value, None, None, n)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Figure(value, float(low), float(high), n)


def format_number(value: float, digits: int = 3) -> str:
    """A number to so many digits; what is short of 1 is never shown as 1, but as e.g. ">0.999"."""
    text = f"{value:.{digits}f}"
    return f">{1 - 10**-digits:.{digits}f}" if value < 1 and float(text) == 1 else text
