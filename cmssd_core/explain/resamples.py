"""Resamples of patients: bootstrap weights, intervals that hold for few cases too, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
ALPHA = 0.05


def weights(n: int, patients: Sequence[str] | None, seed: int) -> Floats:
    """How often each case is drawn in each resample of the patients, (RESAMPLES, n)."""
    codes = np.arange(n)
    if patients is not None:
        codes = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1].reshape(-1)
    count = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return drawn[:, codes].astype(np.float64)


def means(drawn: Floats, values: Floats) -> Floats:
    """Weighted means of the cases' values, one a resample."""
    found: Floats = drawn @ values / drawn.sum(1)
    return found


def between(draws: Floats, n: int, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Percentile interval of the resamples in which a statistic is defined, widened for few cases.

    Expanded percentiles (Hesterberg, Am Stat 2015, section 4.2): as a t interval is wider than a normal one.
    """
    kept = draws[np.isfinite(draws)]
    if not len(kept):
        return float("nan"), float("nan")
    tail = float(norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(alpha / 2, n - 1)))
    low, high = np.percentile(kept, (100 * tail, 100 * (1 - tail)))
    return float(low), float(high)


def chance(draws: Floats, n: int) -> float:
    """One-sided p of a statistic above 0, from the resamples at or below 0, widened likewise."""
    share = float((1 + (draws <= 0).sum()) / (2 + len(draws)))
    return float(t.cdf(norm.ppf(share) * np.sqrt((n - 1) / n), n - 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Scand J Stat 1979), in the order given."""
    order = np.argsort(p)
    adjusted, worst = np.empty(len(p)), 0.0
    for place, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = worst
    return [float(value) for value in adjusted]
