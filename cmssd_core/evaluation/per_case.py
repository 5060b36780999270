"""What each case adds to a figure, in the order of the rows: NaN where the case does not count for it.

rows: one a case, as a run over a cohort gives them: label (1, 0 or missing), probability, severity found and true.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cmssd_core.evaluation.figure import Bools, Values


def select_labelled(rows: pd.DataFrame) -> tuple[Bools, Values, np.ndarray]:
    """Label, probability and patient of the rows that have a label and a probability."""
    label, p = _label_and_p(rows)
    known = ~np.isnan(label) & ~np.isnan(p)
    return label[known] == 1, p[known], rows["patient_id"].to_numpy()[known]


def right(rows: pd.DataFrame, threshold: float) -> Values:
    """1 where the call at the threshold is that of the label, else 0; NaN without a label or a probability."""
    label, p = _label_and_p(rows)
    return np.where(np.isnan(p) | np.isnan(label), np.nan, (p >= threshold) == (label == 1))


def right_of_malignant(rows: pd.DataFrame, threshold: float) -> Values:
    """`right` of malignant cases alone."""
    return np.where(_label_and_p(rows)[0] == 1, right(rows, threshold), np.nan)


def right_of_benign(rows: pd.DataFrame, threshold: float) -> Values:
    """`right` of benign cases alone."""
    return np.where(_label_and_p(rows)[0] == 0, right(rows, threshold), np.nan)


def squared_error(rows: pd.DataFrame) -> Values:
    """(p - label)^2; NaN without a label or a probability."""
    label, p = _label_and_p(rows)
    return np.asarray((p - label) ** 2)


def severity_error(rows: pd.DataFrame) -> Values:
    """Points off; an answer that is missing although there are maps counts as the worst there could be."""
    found, truth = rows["severity_pct"].astype(float), rows["severity_true"].astype(float)
    worst = np.maximum(truth, 100.0 - truth)
    error = (found - truth).abs().where(found.notna(), worst).where(rows["maps"].fillna(False).astype(bool))
    return np.asarray(error, dtype=np.float64)


def _label_and_p(rows: pd.DataFrame) -> tuple[Values, Values]:
    return rows["malignant"].to_numpy(dtype=np.float64), rows["p_malignant"].to_numpy(dtype=np.float64)
