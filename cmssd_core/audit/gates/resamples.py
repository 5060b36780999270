"""Resamples of patients: bootstrap weights, intervals that hold for few cases too, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
ALPHA = 0.05


def people(n: int, patients: Sequence[str] | None, among: npt.NDArray[np.bool_] | None = None) -> int:
    """How many patients n cases come from, or those of them that `among` marks; None = each from another."""
    who = np.arange(n) if patients is None else np.asarray(patients, dtype=str)
    return len(np.unique(who if among is None else who[among]))


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
    """Percentile interval of the resamples in which a statistic is defined, widened for few patients: n of them.

    Expanded percentiles (Hesterberg, Am Stat 2015, section 4.2): as a t interval is wider than a normal one.
    """
    kept = draws[np.isfinite(draws)]
    if not len(kept):
        return float("nan"), float("nan")
    tail = float(norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(alpha / 2, n - 1)))
    low, high = np.percentile(kept, (100 * tail, 100 * (1 - tail)))
    return float(low), float(high)


def chance(value: float, draws: Floats, n: int) -> float:
    """One-sided p of a statistic above 0: Student's t of it over its bootstrap error, with n patients.

    For a mean of independent patients that is the t test. A share of resamples could not fall below what their number
    allows, which for six patients is more than Holm grants four tests. Simulated under the null it keeps its level for
    symmetric and heavy-tailed values from six patients on; like every t test it errs where values are strongly skewed
    to the left (docs/explainability.md).
    """
    error = float(draws.std()) * np.sqrt(n / (n - 1))
    return float(t.sf(value / error, n - 1)) if error > 0 else float(value <= 0)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Scand J Stat 1979), in the order given."""
    order = np.argsort(p)
    adjusted, worst = np.empty(len(p)), 0.0
    for place, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = worst
    return [float(value) for value in adjusted]
