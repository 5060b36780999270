"""Precision and recall: the curve, and its average precision with an interval over patients."""

from __future__ import annotations

import numpy as np

from cmssd_core.evaluation.figure import Bools, Figure, Patients, Values, absent, bootstrap


def points(malignant: Bools, score: Values) -> list[tuple[float, float]]:
    """(recall, precision) at every distinct score, highest first; [] without a malignant case.

    To be drawn as steps: precision does not run straight between two points (Davis and Goadrich, ICML 2006).
    """
    recall, precision = _curve(malignant, score)
    return [(float(r), float(p)) for r, p in zip(recall, precision, strict=True)]


def average(malignant: Bools, score: Values) -> float | None:
    """Average precision, the sum over steps of precision times the recall won; None without a malignant case.

    Without skill it is the prevalence.
    """
    recall, precision = _curve(malignant, score)
    return float(np.diff(recall, prepend=0.0) @ precision) if len(recall) else None


def average_precision(malignant: Bools, score: Values, patients: Patients = None, *, seed: int = 0) -> Figure:
    """Average precision, bootstrap over patients; no interval at exactly 1, where every draw gives 1 again."""
    if not malignant.any():
        return absent("no malignant case", len(malignant))
    if malignant.all():
        return absent("no benign case: precision is 1 whatever the score", len(malignant))
    value = average(malignant, score)
    if value == 1.0:
        return Figure(1.0, None, None, len(score))
    return bootstrap(lambda rows: average(malignant[rows], score[rows]), len(score), patients, seed=seed)


def _curve(malignant: Bools, score: Values) -> tuple[Values, Values]:
    positive = int(malignant.sum())
    if not positive:
        return np.empty(0), np.empty(0)
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    tp = np.cumsum(malignant[order])[last]
    return tp / positive, tp / (last + 1)
