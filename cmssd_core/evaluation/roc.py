"""ROC: the area with DeLong's interval, two areas on the same cases compared, the curve, and McNemar's test.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by midranks (Sun and Xu, IEEE SPL 21, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata

from cmssd_core.evaluation.metrics import FEWEST, Z95, Bools, Figure, Patients, Values, absent, clusters, resampled


@dataclass(frozen=True)
class Difference:
    """One figure less another on the same cases, with its interval and the two-sided p of no difference."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    reason: str | None = None


@dataclass(frozen=True)
class McNemar:
    """Cases only the first got right, cases only the second got right, and the exact two-sided p."""

    only_first: int
    only_second: int
    n: int
    p: float


def area(malignant: Bools, score: Values) -> float | None:
    """Area under the ROC curve, ties counted half; None where a class is missing."""
    positive = int(malignant.sum())
    negative = len(malignant) - positive
    if not positive or not negative:
        return None
    ranks = rankdata(score)[malignant].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def auc(malignant: Bools, score: Values, patients: Patients = None, *, seed: int = 0) -> Figure:
    """Area under the ROC curve with DeLong's interval on the logit scale; bootstrap where a patient has several rows.

    At an area of 1 DeLong's variance is 0; the low end is then Clopper and Pearson's for as many hits of as many tries
    as the smaller class has cases.
    """
    value = area(malignant, score)
    if value is None:
        return absent("all cases have one label; an ROC curve needs both", len(malignant))
    positive, negative = int(malignant.sum()), int((~malignant).sum())
    if min(positive, negative) < FEWEST:
        return Figure(value, None, None, len(score))
    if clusters(patients, len(score))[1]:
        return resampled(lambda rows: area(malignant[rows], score[rows]), len(score), patients, seed=seed)
    v10, v01 = _placements(malignant, score)
    error = float(np.sqrt(v10.var(ddof=1) / positive + v01.var(ddof=1) / negative))
    if value in (0.0, 1.0) or error == 0:
        bound = 0.025 ** (1 / min(positive, negative))
        return Figure(value, bound, 1.0, len(score)) if value > 0.5 else Figure(value, 0.0, 1 - bound, len(score))
    logit, width = np.log(value / (1 - value)), Z95 * error / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(logit - width))), 1 / (1 + np.exp(-(logit + width)))
    return Figure(value, float(low), float(high), len(score))


def difference(malignant: Bools, one: Values, other: Values, patients: Patients = None, *, seed: int = 0) -> Difference:
    """Area of `one` less area of `other` on the same cases, DeLong's paired test (bootstrap with repeated patients)."""
    first, second = area(malignant, one), area(malignant, other)
    n = len(malignant)
    if first is None or second is None:
        return Difference(None, None, None, n, None, "all cases have one label; an ROC curve needs both")
    gap = first - second
    if min(int(malignant.sum()), int((~malignant).sum())) < FEWEST:
        return Difference(gap, None, None, n, None, "too few cases of a class for a test")
    if clusters(patients, n)[1]:

        def apart(rows: npt.NDArray[np.intp]) -> float | None:
            a, b = area(malignant[rows], one[rows]), area(malignant[rows], other[rows])
            return None if a is None or b is None else a - b

        found = resampled(apart, n, patients, seed=seed)
        return Difference(gap, found.low, found.high, n, None, "patients with several cases: interval, no test")
    v10, v01 = (np.stack(pair) for pair in zip(_placements(malignant, one), _placements(malignant, other), strict=True))
    spread = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    error = float(np.sqrt(max(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1], 0.0)))
    if error == 0:
        return Difference(gap, gap, gap, n, 1.0 if gap == 0 else 0.0)
    p = float(2 * norm.sf(abs(gap) / error))
    return Difference(gap, gap - Z95 * error, gap + Z95 * error, n, p)


def _placements(malignant: Bools, score: Values) -> tuple[Values, Values]:
    """Share of the other class that each positive beats (V10), and that beats each negative (V01)."""
    positive, negative = score[malignant], score[~malignant]
    together = rankdata(np.concatenate([positive, negative]))
    v10 = (together[: len(positive)] - rankdata(positive)) / len(negative)
    v01 = 1 - (together[len(positive) :] - rankdata(negative)) / len(positive)
    return np.asarray(v10), np.asarray(v01)


def curve(malignant: Bools, score: Values) -> list[tuple[float, float]]:
    """Corners (false positive rate, true positive rate), from (0, 0) to (1, 1); [] without both classes."""
    if area(malignant, score) is None:
        return []
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))  # one point for each distinct score
    tpr = np.cumsum(malignant[order])[last] / malignant.sum()
    fpr = np.cumsum(~malignant[order])[last] / (~malignant).sum()
    points = np.concatenate([[[0.0, 0.0]], np.stack([fpr, tpr], axis=1)])
    before, after = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-12
    return [(float(x), float(y)) for x, y in points[np.concatenate([[True], turns, [True]])]]


def mcnemar(one_right: Bools, other_right: Bools) -> McNemar:
    """McNemar's exact test of two classifiers on the same cases, on those where just one is right."""
    first, second = int((one_right & ~other_right).sum()), int((~one_right & other_right).sum())
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return McNemar(first, second, len(one_right), p)
