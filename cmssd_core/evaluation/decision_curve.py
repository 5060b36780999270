"""Decision curves: the net benefit of acting on p at each threshold, against acting on all and on none.

Vickers and Elkin, Medical Decision Making 26 (2006): NB(t) = TP / n - FP / n * t / (1 - t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmssd_core.evaluation.figure import FEWEST, Bools, Patients, Values, clusters

RESAMPLES = 500


@dataclass(frozen=True)
class Curve:
    """Net benefit, in true positives a patient, at `thresholds`; acting on none has 0 everywhere.

    low, high: pointwise 95 % bootstrap over patients; None with too few of them. prevalence: of these cases, which
    `treat_all` hangs on.
    """

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    treat_all: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    prevalence: float
    n: int


def net_benefit(malignant: Bools, p: Values, thresholds: Values, weight: Values | None = None) -> Values:
    """NB at each of thresholds in [0, 1); weight counts a case several times, None = once."""
    weight = np.ones(len(p)) if weight is None else weight
    order = np.argsort(p, kind="stable")
    start = np.searchsorted(p[order], thresholds, side="left")  # p at the threshold is acted on

    def above(counted: Values) -> Values:
        return np.asarray(np.append(np.cumsum(counted[order][::-1])[::-1], 0.0)[start])

    odds = thresholds / (1 - thresholds)
    return np.asarray((above(weight * malignant) - above(weight * ~malignant) * odds) / weight.sum())


def curve(
    malignant: Bools,
    p: Values,
    patients: Patients = None,
    *,
    thresholds: Values | None = None,
    seed: int = 0,
) -> Curve | None:
    """The decision curve; thresholds default to 0.01 to 0.99. None where no case has a label."""
    if not len(p):
        return None
    at = np.arange(1, 100) / 100 if thresholds is None else thresholds
    prevalence = float(malignant.mean())
    everyone = prevalence - (1 - prevalence) * at / (1 - at)
    codes, _ = clusters(patients, len(p))
    count = int(codes.max()) + 1
    low = high = None
    if count >= FEWEST:
        rng = np.random.default_rng(seed)
        drawn = (rng.multinomial(count, np.full(count, 1 / count))[codes].astype(float) for _ in range(RESAMPLES))
        draws = np.stack([net_benefit(malignant, p, at, weight) for weight in drawn if weight.any()])
        low, high = (tuple(edge.tolist()) for edge in np.percentile(draws, (2.5, 97.5), axis=0))
    return Curve(
        tuple(at.tolist()),
        tuple(net_benefit(malignant, p, at).tolist()),
        tuple(everyone.tolist()),
        low,
        high,
        prevalence,
        len(p),
    )
