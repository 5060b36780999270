"""Calibration: does p mean what it says (table, ECE, slope), and what makes it so (temperature, conformal)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

from cmssd_core.evaluation.figure import (
    FEWEST,
    Z95,
    Bools,
    Figure,
    Patients,
    Values,
    absent,
    bootstrap,
    clusters,
    share,
)

BINS = 10
FURTHEST = 30.0  # logits beyond this are cut: p of 1 - 1e-13 has no finite logit in half precision


@dataclass(frozen=True)
class Bin:
    """Cases with p in [from_p, to_p): their mean p and the share that is malignant."""

    from_p: float
    to_p: float
    mean_p: float
    malignant: Figure


def logit(p: Values) -> Values:
    """log(p / (1 - p)), cut at +-30."""
    edge = 1e-15
    clipped = np.clip(p, edge, 1 - edge)
    return np.clip(np.log(clipped / (1 - clipped)), -FURTHEST, FURTHEST)


def _bins(p: Values) -> npt.NDArray[np.intp]:
    return np.minimum((p * BINS).astype(np.intp), BINS - 1)


def reliability(malignant: Bools, p: Values, patients: Patients = None) -> list[Bin]:
    """The reliability table over ten equal bins of p; empty bins are left out."""
    place = _bins(p)
    who = None if patients is None else np.asarray(patients)
    return [
        Bin(
            b / BINS,
            (b + 1) / BINS,
            float(p[place == b].mean()),
            share(malignant[place == b], None if who is None else who[place == b]),
        )
        for b in np.unique(place)
    ]


def expected_error(malignant: Bools, p: Values) -> float:
    """Expected calibration error: sum over bins of n_b / n |share - mean p|. Biased up for small n."""
    place = _bins(p)
    gaps = np.bincount(place, malignant.astype(float), BINS) - np.bincount(place, p, BINS)
    return float(np.abs(gaps).sum() / len(p))


def ece(malignant: Bools, p: Values, patients: Patients = None, *, seed: int = 0) -> Figure:
    """Expected calibration error, bootstrap over patients."""
    return bootstrap(lambda rows: expected_error(malignant[rows], p[rows]), len(p), patients, seed=seed)


def slope(malignant: Bools, p: Values, patients: Patients = None, *, seed: int = 0) -> tuple[Figure, Figure]:
    """Slope and intercept of the logistic regression of the label on logit p (1 and 0 are perfect).

    Wald intervals; bootstrap over patients where a patient has several rows.
    """
    n = len(p)
    reason = _no_slope(malignant, p)
    if reason is not None:
        return absent(reason, n), absent(reason, n)
    if clusters(patients, n)[1]:

        def drawn(which: int, rows: npt.NDArray[np.intp]) -> float | None:
            none = _no_slope(malignant[rows], p[rows]) is not None
            return None if none else float(_regression(malignant[rows], p[rows])[0][which])

        both = [bootstrap(partial(drawn, which), n, patients, seed=seed) for which in (0, 1)]
        return both[0], both[1]
    beta, errors = _regression(malignant, p)
    value = [Figure(float(b), float(b - e), float(b + e), n) for b, e in zip(beta, Z95 * errors, strict=True)]
    return value[0], value[1]


def _no_slope(malignant: Bools, p: Values) -> str | None:
    """Why the regression of the label on logit p has no finite slope; None where it has one."""
    if len(p) < FEWEST or malignant.all() or not malignant.any():
        return "too few cases, or one label only"
    if np.ptp(logit(p)) < 1e-6:
        return "all cases were given the same probability, so no slope can be fitted"
    positive, negative = p[malignant], p[~malignant]
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return "the probabilities part the classes, so no slope can be fitted"
    return None


def _regression(malignant: Bools, p: Values) -> tuple[Values, Values]:
    """Slope and intercept of the label on logit p, and their standard errors: Newton's method, halving what overshoots.

    Starts from (0, 0) on a standardised logit: from a slope of 1 a full step runs away where a model is too sure.
    """
    x = logit(p)
    middle, spread = x.mean(), x.std()
    x = np.stack([(x - middle) / spread, np.ones(len(x))], axis=1)
    y, beta = malignant.astype(float), np.zeros(2)

    def loss(beta: Values) -> float:
        return float((np.logaddexp(0, x @ beta) - y * (x @ beta)).sum())

    for _ in range(100):
        q = expit(x @ beta)
        inverse = np.linalg.inv(x.T @ (x * (q * (1 - q))[:, None]))
        step = inverse @ (x.T @ (y - q))
        while np.abs(step).max() > 1e-9 and loss(beta + step) > loss(beta):
            step = step / 2
        beta = beta + step
        if np.abs(step).max() <= 1e-9:
            break
    back = np.array([[1 / spread, 0.0], [-middle / spread, 1.0]])  # to the logit as it was
    return back @ beta, np.sqrt(np.diag(back @ inverse @ back.T))


def temperature(malignant: Bools, logits: Values) -> float:
    """The T that makes sigmoid(logit / T) most likely (Guo et al., ICML 2017), in [0.05, 20].

    With Platt's smoothed targets (N + 1) / (N + 2), so a set that is parted without error still gives a finite answer.
    Raises ValueError without both classes.
    """
    positive, negative = int(malignant.sum()), int((~malignant).sum())
    if not positive or not negative:
        raise ValueError("a temperature needs cases of both classes")
    target = np.where(malignant, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        return float((np.logaddexp(0, scaled) - target * scaled).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


def conformal_quantile(scores: Values, *, coverage: float) -> float | None:
    """The ceil((n + 1) coverage)-th smallest score; None where n is too small for that coverage."""
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None
