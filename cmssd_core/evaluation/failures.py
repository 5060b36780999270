"""Where a model fails: calls that are wrong and sure of it, maps that miss, severities far off."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cmssd_core.evaluation.metrics import FIGURES, METRICS, drawn_names, each


def sure_and_wrong(rows: pd.DataFrame, *, threshold: float) -> pd.DataFrame:
    """The rows called wrong at the threshold, the surest first; `given_to_truth` is the probability of the true label.

    rows: columns malignant (1, 0 or missing) and p_malignant; rows without a label are left out.
    """
    known = rows[rows["malignant"].notna() & rows["p_malignant"].notna()]
    malignant, p = known["malignant"] == 1, known["p_malignant"].astype(float)
    summary = known.assign(given_to_truth=np.where(malignant, p, 1 - p))
    return summary[(p >= threshold) != malignant].sort_values(["given_to_truth", "case_id"])


def worst_names() -> tuple[str, ...]:
    """The metrics that a map or a number can be worst in."""
    return (*drawn_names(), *FIGURES["number"])


def worst(rows: pd.DataFrame, name: str, *, most: int = 20) -> pd.DataFrame:
    """The `most` rows that are worst in a metric of worst_names, the worst first; rows without it are left out.

    Raises ValueError for a metric that one case does not have.
    """
    values = each(name, rows)
    if values is None:
        raise ValueError(f"{name} is no figure of one case; expected one of {', '.join(worst_names())}")
    summary = rows.assign(_worst=values)[~np.isnan(values)]
    summary = summary.sort_values(["_worst", "case_id"], ascending=[METRICS[name].better == "higher", True])
    return summary.head(most).drop(columns="_worst")
