"""Figures with intervals: overlap, severity error, accuracy and ROC area, each as value, low, high and n.

Cases are the unit and there is one case a patient here, so resampling cases is resampling patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from cmssd_core.types import BoolArray

Values = npt.NDArray[np.float64]
FEWEST = 8  # below so many cases no interval is given
RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A number with its doubt: 95 % interval, None where n is too small for one."""

    value: float
    low: float | None
    high: float | None
    n: int


def dice(one: BoolArray, other: BoolArray) -> float:
    """Overlap 2 |A and B| / (|A| + |B|); 1 where both are empty, 0 where only one is."""
    both = int(one.sum()) + int(other.sum())
    return 1.0 if both == 0 else 2.0 * int((one & other).sum()) / both


def mean(values: Values, *, seed: int = 0) -> Figure:
    """Mean with a percentile bootstrap interval over cases."""
    if len(values) < FEWEST:
        return Figure(float(values.mean()), None, None, len(values))
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Figure(float(values.mean()), float(low), float(high), len(values))


def share(hits: npt.NDArray[np.bool_]) -> Figure:
    """A share with Wilson's interval."""
    k, n = int(hits.sum()), len(hits)
    if n < FEWEST:
        return Figure(k / n, None, None, n)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return Figure(k / n, float(interval.low), float(interval.high), n)


def roc_auc(malignant: npt.NDArray[np.bool_], score: Values, *, seed: int = 0) -> Figure | None:
    """Area under the ROC curve, bootstrap within each class; None where a class is missing."""
    if malignant.all() or not malignant.any():
        return None
    value = float(roc_auc_score(malignant, score))
    positive, negative = score[malignant], score[~malignant]
    if min(len(positive), len(negative)) < FEWEST:
        return Figure(value, None, None, len(score))
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    areas = [
        roc_auc_score(
            labels, np.concatenate([rng.choice(positive, len(positive)), rng.choice(negative, len(negative))])
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(areas, (2.5, 97.5))
    return Figure(value, float(low), float(high), len(score))
