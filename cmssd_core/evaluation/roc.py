"""ROC: the area with DeLong's interval, two areas on the same cases compared, the curve, and McNemar's test.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by midranks (Sun and Xu, IEEE SPL 21, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata

from cmssd_core.evaluation.figure import FEWEST, Z95, Bools, Figure, Patients, Values, absent, bootstrap, clusters

NO_SPREAD = "no interval, no test: every case adds the same to the difference"


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
    """Cases only the first got right, cases only the second got right, and the exact two-sided p; None: `reason`."""

    only_first: int
    only_second: int
    n: int
    p: float | None
    reason: str | None = None


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

    At an area of 0 or 1 DeLong's variance is 0, and every draw gives it again; the other end is then Clopper and
    Pearson's for as many hits of as many tries as the smaller class has patients. A constant score has no interval.
    """
    value = area(malignant, score)
    if value is None:
        return absent("all cases have one label; an ROC curve needs both", len(malignant))
    positive, negative = int(malignant.sum()), int((~malignant).sum())
    if min(positive, negative) < FEWEST:
        return Figure(value, None, None, len(score))
    if np.ptp(score) == 0:
        return Figure(value, None, None, len(score), "no interval: all cases have the same score")
    codes, repeated = clusters(patients, len(score))
    if value in (0.0, 1.0):
        fewest = min(len(np.unique(codes[rows])) for rows in (malignant, ~malignant))
        if fewest < FEWEST:
            return Figure(value, None, None, len(score))
        return Figure(value, *at_the_edge(value, fewest), len(score))
    if repeated:
        return bootstrap(lambda rows: area(malignant[rows], score[rows]), len(score), patients, seed=seed)
    error = _error(*_placements(malignant, score))
    logit, width = np.log(value / (1 - value)), Z95 * error / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(logit - width))), 1 / (1 + np.exp(-(logit + width)))
    return Figure(value, float(low), float(high), len(score))


def at_the_edge(value: float, fewest: int) -> tuple[float, float]:
    """95 % interval of an area of 0 or 1; fewest: patients of the smaller class."""
    bound = 0.025 ** (1 / fewest)
    return (bound, 1.0) if value > 0.5 else (0.0, 1 - bound)


def difference(malignant: Bools, one: Values, other: Values, patients: Patients = None, *, seed: int = 0) -> Difference:
    """Area of `one` less area of `other` on the same cases, DeLong's paired test (bootstrap with repeated patients).

    Where each case adds the same to a gap (one parts the classes, the other is constant) nothing tells its doubt: no
    interval and no p.
    """
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

        found = bootstrap(apart, n, patients, seed=seed)
        if gap and found.low is not None and found.low == found.high:
            return Difference(gap, None, None, n, None, NO_SPREAD)
        return Difference(gap, found.low, found.high, n, None, "patients with several cases: interval, no test")
    v10, v01 = (a - b for a, b in zip(_placements(malignant, one), _placements(malignant, other), strict=True))
    error = _error(v10, v01)
    if error < 1e-9:  # 0, but for rounding
        return Difference(gap, None, None, n, None, NO_SPREAD) if gap else Difference(0.0, 0.0, 0.0, n, 1.0)
    p = float(2 * norm.sf(abs(gap) / error))
    return Difference(gap, gap - Z95 * error, gap + Z95 * error, n, p)


def _error(v10: Values, v01: Values) -> float:
    """DeLong's standard error of the mean of such placements."""
    return float(np.sqrt(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)))


def _placements(malignant: Bools, score: Values) -> tuple[Values, Values]:
    """Share of the other class that each positive beats (V10), and that beats each negative (V01)."""
    positive, negative = score[malignant], score[~malignant]
    together = rankdata(np.concatenate([positive, negative]))
    v10 = (together[: len(positive)] - rankdata(positive)) / len(negative)
    v01 = 1 - (together[len(positive) :] - rankdata(negative)) / len(positive)
    return np.asarray(v10), np.asarray(v01)


@dataclass(frozen=True)
class Band:
    """Between which sensitivities, `low` to `high`, the curve lies at each false positive rate of `fpr`, pointwise."""

    fpr: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def band(
    malignant: Bools, score: Values, patients: Patients = None, *, resamples: int = 1000, seed: int = 0
) -> Band | None:
    """95 % band of the sensitivity at 101 false positive rates, bootstrap over patients; None with too few of a class.

    Nowhere narrower than Wilson's interval of the sensitivity itself: where the classes are (nearly) parted every draw
    gives the same curve, and the bootstrap alone would claim to be sure.
    """
    codes, _ = clusters(patients, len(score))
    of_class = [len(np.unique(codes[rows])) for rows in (malignant, ~malignant)]
    if min(of_class) < FEWEST:
        return None
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    label, who = malignant[order], codes[order]
    grid = np.linspace(0, 1, 101)

    def sensitivity(weight: Values) -> Values | None:
        tpr, fpr = np.cumsum(weight * label)[last], np.cumsum(weight * ~label)[last]
        if not tpr[-1] or not fpr[-1]:
            return None
        tpr, fpr = np.append(0.0, tpr / tpr[-1]), np.append(0.0, fpr / fpr[-1])
        top = np.flatnonzero(np.diff(fpr, append=2.0))  # the upper end of each upright
        return np.interp(grid, fpr[top], tpr[top])

    found = sensitivity(np.ones(len(score)))
    count = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(count, np.full(count, 1 / count))[who].astype(float) for _ in range(resamples))
    draws = np.stack([draw for draw in map(sensitivity, drawn) if draw is not None])
    assert found is not None
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    wilson = _wilson(found, of_class[0])
    low, high = np.minimum(low, wilson[0]), np.maximum(high, wilson[1])
    return Band(tuple(grid.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def _wilson(rate: Values, n: int) -> tuple[Values, Values]:
    """Wilson's interval of shares of n, also between whole counts."""
    centre, below = rate + Z95**2 / (2 * n), 1 + Z95**2 / n
    half = Z95 * np.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    return np.maximum((centre - half) / below, 0.0), np.minimum((centre + half) / below, 1.0)


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


def mcnemar(one_right: Bools, other_right: Bools, patients: Patients = None) -> McNemar:
    """McNemar's exact test of two classifiers on the same cases, on those where just one is right.

    No p where a patient has several cases: the test counts each as if it were a patient of its own.
    """
    first, second = int((one_right & ~other_right).sum()), int((~one_right & other_right).sum())
    if clusters(patients, len(one_right))[1]:
        return McNemar(first, second, len(one_right), None, "patients have several cases: no test")
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return McNemar(first, second, len(one_right), p)
