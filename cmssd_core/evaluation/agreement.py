"""Agreement of a measured number with the truth: Bland and Altman's limits and the intraclass correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmssd_core.evaluation.figure import FEWEST, Z95, Figure, Patients, Values, absent, bootstrap, clusters, mean


@dataclass(frozen=True)
class BlandAltman:
    """bias: mean of found - truth. lower, upper: bias -+ 1.96 SD, with their own intervals.

    slope: of the difference on the mean of both, points a point; None where that does not vary.
    """

    bias: Figure
    lower: Figure
    upper: Figure
    slope: float | None


def bland_altman(found: Values, truth: Values, patients: Patients = None) -> BlandAltman:
    """Bias and limits of agreement (Bland and Altman, Lancet 1986); the standard error of a limit is sqrt(3 / n) SD.

    Where a patient has several rows, the limits' intervals are a bootstrap over patients.
    """
    apart, middle = found - truth, (found + truth) / 2
    n = len(apart)
    if n < FEWEST:
        few = absent(f"fewer than {FEWEST} cases", n)
        return BlandAltman(mean(apart, patients) if n else few, few, few, None)
    limits = [_limit(apart, side * Z95, patients) for side in (-1, 1)]
    spread = middle - middle.mean()
    slope = float((spread @ apart) / (spread @ spread)) if (spread @ spread) > 0 else None
    return BlandAltman(mean(apart, patients), limits[0], limits[1], slope)


def _limit(apart: Values, deviations: float, patients: Patients) -> Figure:
    """Mean of the differences and so many of their standard deviations."""

    def limit(rows: npt.NDArray[np.intp]) -> float:
        return float(apart[rows].mean() + deviations * apart[rows].std(ddof=1))

    n = len(apart)
    if clusters(patients, n)[1]:
        return bootstrap(limit, n, patients)
    value, error = limit(np.arange(n)), Z95 * np.sqrt(3 / n) * float(apart.std(ddof=1))
    return Figure(value, float(value - error), float(value + error), n)


def icc_a1(ratings: Values) -> float | None:
    """ICC(A,1), two-way, absolute agreement, single rater (McGraw and Wong 1996), of ratings (subject, rater).

    (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n); None for one subject or where nothing varies.
    """
    n, k = ratings.shape
    if n < 2:
        return None
    grand = ratings.mean()
    rows, columns = ratings.mean(1, keepdims=True), ratings.mean(0, keepdims=True)
    between_rows = k * ((rows - grand) ** 2).sum() / (n - 1)
    between_columns = n * ((columns - grand) ** 2).sum() / (k - 1)
    rest = ((ratings - rows - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    below = between_rows + (k - 1) * rest + k * (between_columns - rest) / n
    return float((between_rows - rest) / below) if below > 0 else None


def icc(found: Values, truth: Values, patients: Patients = None, *, seed: int = 0) -> Figure:
    """ICC(A,1) of found against truth, bootstrap over patients."""
    pairs = np.stack([found, truth], axis=1)

    def statistic(rows: npt.NDArray[np.intp]) -> float | None:
        return icc_a1(pairs[rows])

    return bootstrap(statistic, len(pairs), patients, seed=seed) if len(pairs) else absent("no case has both")
