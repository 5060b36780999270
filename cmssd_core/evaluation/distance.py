"""How far a feature vector lies from those seen in calibration: Mahalanobis's distance, the nearest class counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from cmssd_core.evaluation.figure import Patients, Values, clusters

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Cloud:
    """means (class, feature), precision (feature, feature) of the classes' common shrunk covariance.

    limit: the distance that 99 of 100 cases of the calibration set stay below when they are left out of the fit.
    """

    means: Values
    precision: Values
    limit: float


def fit(features: Values, labels: npt.NDArray[np.bool_], patients: Patients = None, *, share: float = 0.99) -> Cloud:
    """A Cloud of features (case, feature); the limit is cross-fitted, as a fit flatters the patients it has seen."""
    fold = clusters(patients, len(features))[0] % FOLDS
    left_out = [
        distance(features[fold == k], *_moments(features[fold != k], labels[fold != k]))
        for k in range(FOLDS)
        if (fold == k).any() and (fold != k).sum() > 1
    ]
    means, precision = _moments(features, labels)
    return Cloud(means, precision, float(np.quantile(np.concatenate(left_out), share)))


def distance(features: Values, means: Values, precision: Values) -> Values:
    """Mahalanobis's distance of features (case, feature) to the nearest of the means."""
    apart = features[:, None, :] - means[None]
    squared = np.einsum("ckf,fg,ckg->ck", apart, precision, apart)
    return np.asarray(np.sqrt(np.maximum(squared.min(axis=1), 0.0)))


def _moments(features: Values, labels: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    groups = [features[labels == label] for label in np.unique(labels)]
    means = np.stack([group.mean(0) for group in groups])
    centred = np.concatenate([group - group.mean(0) for group in groups])
    return means, np.asarray(LedoitWolf(assume_centered=True).fit(centred).precision_)
