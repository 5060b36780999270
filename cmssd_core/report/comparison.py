"""A comparison of models as one page: figures, differences, how it was made; no scripts, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cmssd_core.evaluation.repeats import FIGURES
from cmssd_core.report import page

TITLES = {
    "accuracy": "accuracy",
    "auc": "ROC area",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
    "dice": "Dice",
    "dice_malignant_only": "Dice, malignant cases",
    "severity_mae": "severity error, points",
    "severity_mae_malignant_only": "severity error, malignant cases",
}
CONDITIONS = {"both": "all there is", "mri": "the MRI alone", "he": "the slide alone"}


def render(told: Mapping[str, Any], *, made: datetime | None = None) -> str:
    """comparison.html from what comparison.json holds."""
    return page.render(
        "comparison.html.j2",
        told=told,
        figures=FIGURES,
        titles=TITLES,
        conditions=CONDITIONS,
        made=made,
    )
