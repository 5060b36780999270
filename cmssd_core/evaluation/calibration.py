"""Calibration: does p mean what it says (table, ECE, slope), and what makes it so (temperature, conformal)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

from cmssd_core.evaluation.metrics import FEWEST, Z95, Bools, Figure, Patients, Values, absent, resampled, share

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
    return resampled(lambda rows: expected_error(malignant[rows], p[rows]), len(p), patients, seed=seed)


def slope(malignant: Bools, p: Values) -> tuple[Figure, Figure]:
    """Slope and intercept of the logistic regression of the label on logit p (1 and 0 are perfect), Wald intervals."""
    n = len(p)
    if n < FEWEST or malignant.all() or not malignant.any():
        none = absent("too few cases, or one label only", n)
        return none, none
    x = np.stack([logit(p), np.ones(n)], axis=1)
    y, beta = malignant.astype(float), np.array([1.0, 0.0])
    for _ in range(50):
        q = expit(x @ beta)
        hessian = x.T @ (x * (q * (1 - q))[:, None])
        if np.linalg.cond(hessian) > 1e10:
            break
        step = np.linalg.solve(hessian, x.T @ (y - q))
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            errors = Z95 * np.sqrt(np.diag(np.linalg.inv(hessian)))
            value = [Figure(float(b), float(b - e), float(b + e), n) for b, e in zip(beta, errors, strict=True)]
            return value[0], value[1]
    none = absent("the probabilities part the classes without error, so no slope can be fitted", n)
    return none, none


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
