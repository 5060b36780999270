"""A threshold on p: what it gives on these cases, and how one is chosen from them.

A threshold chosen on the cases it is then judged on looks better than it is; `held_out` judges the rule instead, each
patient called by a threshold chosen without that patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from cmssd_core.evaluation.figure import Bools, Figure, Patients, Values, absent, clusters, share

FOLDS = 5
Rule = Callable[[Bools, Values], float]


@dataclass(frozen=True)
class Judged:
    """The four cells of a confusion matrix in cases, and the shares they give, over patients.

    Positive = called malignant. ppv and npv hold for the prevalence of these cases only.
    """

    tp: int
    fn: int
    fp: int
    tn: int
    sensitivity: Figure
    specificity: Figure
    ppv: Figure
    npv: Figure
    accuracy: Figure


def call_malignant(p: Values, threshold: float) -> Bools:
    """Which cases are called malignant: p at the threshold or above."""
    return np.asarray(p >= threshold)


def judge(malignant: Bools, positive: Bools, patients: Patients = None) -> Judged:
    """Cells and shares of calls `positive` against the truth; a share of nothing is absent, not 0."""
    who = None if patients is None else np.asarray(patients)

    def part(rows: Bools, right: Bools, nothing: str) -> Figure:
        return share(right[rows], None if who is None else who[rows]) if rows.any() else absent(nothing)

    return Judged(
        tp=int((malignant & positive).sum()),
        fn=int((malignant & ~positive).sum()),
        fp=int((~malignant & positive).sum()),
        tn=int((~malignant & ~positive).sum()),
        sensitivity=part(malignant, positive, "no malignant case"),
        specificity=part(~malignant, ~positive, "no benign case"),
        ppv=part(positive, malignant, "no case is called malignant"),
        npv=part(~positive, ~malignant, "no case is called benign"),
        accuracy=part(np.ones(len(malignant), dtype=bool), malignant == positive, "no case has a label"),
    )


def youden(malignant: Bools, p: Values) -> float:
    """Largest sensitivity + specificity (Youden, Cancer 1950); of several such thresholds the highest."""
    edges, tp, fp = _steps(malignant, p)
    gain = tp / malignant.sum() - fp / (~malignant).sum()
    return float(edges[np.argmax(gain > gain.max() - 1e-12)])


def for_sensitivity(malignant: Bools, p: Values, *, wanted: float) -> float:
    """The highest threshold at which at least the share `wanted` of malignant cases is called so."""
    edges, tp, _ = _steps(malignant, p)
    return float(edges[np.argmax(tp / malignant.sum() >= wanted - 1e-12)])


def for_cost(malignant: Bools, p: Values, *, ratio: float) -> float:
    """Least cost where a missed malignant case costs `ratio` false alarms; of several such thresholds the highest."""
    edges, tp, fp = _steps(malignant, p)
    cost = fp + ratio * (malignant.sum() - tp)
    return float(edges[np.argmax(cost < cost.min() + 1e-9)])


def held_out(
    malignant: Bools, p: Values, rule: Rule, patients: Patients = None, *, seed: int = 0
) -> tuple[Judged, tuple[float, float]] | None:
    """The rule judged on patients it was not chosen on (5 folds), and the range of its thresholds over the folds.

    None where a class has fewer patients than there are folds.
    """
    codes, _ = clusters(patients, len(p))
    if min(len(np.unique(codes[malignant])), len(np.unique(codes[~malignant]))) < FOLDS:
        return None
    positive = np.zeros(len(p), dtype=bool)
    found = []
    folds = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=seed)
    for chosen, judged in folds.split(p, malignant, groups=codes):
        threshold = rule(malignant[chosen], p[chosen])
        positive[judged] = call_malignant(p[judged], threshold)
        found.append(threshold)
    return judge(malignant, positive, patients), (min(found), max(found))


def _steps(malignant: Bools, p: Values) -> tuple[Values, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Every threshold that makes a difference, from none called to all, with true and false positives at each.

    Thresholds lie midway between neighbouring p, so that a rounded p falls on the same side. Raises ValueError without
    both classes.
    """
    if malignant.all() or not malignant.any():
        raise ValueError("a threshold is chosen on cases of both classes")
    order = np.argsort(-p, kind="stable")
    falling = p[order]
    last = np.flatnonzero(np.diff(falling, append=-np.inf))  # one step for each distinct p
    values = falling[last]
    lower = np.append(values[1:], 0.0)
    middle = (values + lower) / 2
    edges = np.where(middle > lower, middle, values)  # neighbours in floating point have no middle
    above = (values[0] + 1) / 2 if values[0] < 1 else np.nextafter(1.0, 2.0)
    tp, fp = np.cumsum(malignant[order])[last], np.cumsum(~malignant[order])[last]
    return np.append(above, edges), np.append(0, tp), np.append(0, fp)
