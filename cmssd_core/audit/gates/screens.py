"""Screens for shortcuts nobody named: a spot where all maps of a cohort agree, and answers that know the hospital."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]
Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HotSpot:
    """Where a cohort's maps agree. ratio: peak over mean of their mean. y, x: of the peak; mask: the spot, (y, x)."""

    ratio: float
    y: int
    x: int
    mask: Mask
    mean: Floats


def hot_spot(maps: Sequence[Map]) -> HotSpot | None:
    """Maps (image, y, x) of several cases, non-negative -> where they agree; None where all are empty.

    Each case counts the same: its map is summed over its slices and divided by its sum. Slightly smoothed, so that a
    single pixel is no spot. The spot is what lies above half the peak.
    """
    flat = [np.asarray(a, dtype=np.float64).sum(0) for a in maps]
    kept = [a / a.sum() for a in flat if a.sum() > 0]
    if not kept:
        return None
    mean: Floats = gaussian_filter(np.mean(kept, axis=0), 0.7)
    y, x = (int(i) for i in np.unravel_index(int(mean.argmax()), mean.shape))
    return HotSpot(float(mean.max() / mean.mean()), y, x, mean > 0.5 * mean.max(), mean)


def told_apart(answers: Floats, group: Mask, label: npt.NDArray[Any]) -> float | None:
    """Probability that a case of the group has the higher answer than one outside it of the same label.

    0.5 = the answers know nothing of the group beyond the label (van Elteren: labels weighted by their pairs). None
    where no label has both.
    """
    pairs = wins = 0.0
    for value in np.unique(label):
        here = label == value
        inside, outside = int((group & here).sum()), int((~group & here).sum())
        if not inside or not outside:
            continue
        ranks = rankdata(answers[here])
        wins += float(ranks[group[here]].sum()) - inside * (inside + 1) / 2
        pairs += inside * outside
    return wins / pairs if pairs else None


def reversal(clean: Floats, trapped: Floats, malignant: Mask) -> float | None:
    """How far the AUC moves when a trap changes sides: on the malignant cases alone, minus on the benign ones alone."""
    present = np.where(malignant, trapped, clean)
    turned = np.where(malignant, clean, trapped)
    with_it, against = auc(present, malignant), auc(turned, malignant)
    return None if with_it is None or against is None else with_it - against


def auc(answers: Floats, malignant: Mask) -> float | None:
    """Area under the ROC curve; None with one class only."""
    ones = int(malignant.sum())
    zeros = len(malignant) - ones
    if not ones or not zeros:
        return None
    return float((rankdata(answers)[malignant].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def pairwise(answers: Floats, group: Mask, label: npt.NDArray[Any] | None, weights: Floats) -> Floats:
    """`told_apart` (`auc` without labels) on many resamples at once: weights (resample, case) -> (resample,).

    NaN where a resample has no pair.
    """
    label = np.zeros(len(answers)) if label is None else label
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for value in np.unique(label):
        inside, outside = (np.flatnonzero((label == value) & side) for side in (group, ~group))
        difference = answers[inside, None] - answers[None, outside]
        won = (difference > 0) + 0.5 * (difference == 0)
        wins += np.einsum("ri,ij,rj->r", weights[:, inside], won, weights[:, outside], optimize=True)
        pairs += weights[:, inside].sum(1) * weights[:, outside].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = wins / pairs
    return found
