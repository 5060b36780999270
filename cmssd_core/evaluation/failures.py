"""Where a model fails: calls that are wrong and sure of it, maps that miss, severities far off."""

from __future__ import annotations

import numpy as np
import pandas as pd


def sure_and_wrong(rows: pd.DataFrame, *, threshold: float) -> pd.DataFrame:
    """The rows called wrong at the threshold, the surest first; `given_to_truth` is the probability of the true label.

    rows: columns malignant (1, 0 or missing) and p_malignant; rows without a label are left out.
    """
    known = rows[rows["malignant"].notna() & rows["p_malignant"].notna()]
    malignant, p = known["malignant"] == 1, known["p_malignant"].astype(float)
    told = known.assign(given_to_truth=np.where(malignant, p, 1 - p))
    return told[(p >= threshold) != malignant].sort_values(["given_to_truth", "case_id"])


#: What a map or a severity can be worst in: column -> whether a small value is the bad one.
WORST = {"dice": True, "hd95_mm": False, "severity_error": False}


def worst(rows: pd.DataFrame, column: str, *, most: int = 20) -> pd.DataFrame:
    """The `most` rows that are worst in a column of WORST, the worst first; rows without it are left out."""
    return rows[rows[column].notna()].sort_values([column, "case_id"], ascending=[WORST[column], True]).head(most)
