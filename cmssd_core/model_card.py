"""The model card of a training run: what it is, what it saw, what was measured on which cases, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cmssd_core.evaluation.metrics import Figure
from cmssd_core.weights_file import WeightsInfo

TITLES = {
    "accuracy": "accuracy of malignant / benign at threshold 0.5",
    "auc": "area under the ROC curve",
    "dice": "Dice of the tumour map, all cases",
    "severity_mae": "severity, mean absolute error in points, all cases",
    "dice_malignant_only": "Dice of the tumour map, malignant cases",
    "severity_mae_malignant_only": "severity, mean absolute error in points, malignant cases",
}


MEASURED = """On the test split of the cohort it was trained on, patients it never saw, each case read from its files as
a user's would be. 95 % intervals over cases. Severity and probability are not calibrated.

{table}"""
SYNTHETIC = """A synthetic cohort shows that the program works and what the network can learn from it. It says nothing
of patients: anatomy, treatment effects, hardware and most of what makes a real image difficult are not in it."""
REAL = """That it does as well elsewhere: on other scanners, laboratories or patients than those of this cohort."""


def line(figure: Figure) -> str:
    """A figure with its interval and n, e.g. "0.98 (0.95 to 0.99), n = 72"."""
    interval = "too few cases for an interval" if figure.low is None else f"{figure.low:.3g} to {figure.high:.3g}"
    return f"{figure.value:.3g} ({interval}), n = {figure.n}"


def card(info: WeightsInfo, run: Path, figures: Mapping[str, Mapping[str, Figure]]) -> str:
    """Markdown. figures: by what the model was given ("MRI and H&E", "MRI alone", ...), then by name of TITLES."""
    settings = json.loads((run / "config.json").read_text())
    columns = list(figures)
    rows = [
        f"| {title} | " + " | ".join(line(f[name]) if (f := figures[c]).get(name) else "-" for c in columns) + " |"
        for name, title in TITLES.items()
        if any(figures[column].get(name) for column in columns)
    ]
    table = "\n".join(["| figure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|", *rows])
    measured = MEASURED.format(table=table) if columns else "Nothing: the cohort it was trained on has no test split."
    synthetic = "synthetic" in info.trained
    kept = ("seed", "steps", "pretrain_he", "pretrain_mri", "batch", "learning_rate", "weight_decay", "n4")
    return f"""# {info.name}

**Research use only. Not a medical device. Trained on: {info.trained}.**

CM-SSD (Adit and Priya, IJERST 4(2), 2026) in size {info.size}: tumour and bone maps on an MRI, severity by the paper's
equation 4, probability of malignancy, from an MRI and an H&E slide or either alone.

Inputs: MRI contrasts {", ".join(info.spec.contrasts)} (any of them), slices of {info.spec.mri_px} pixels at
{info.spec.mri_spacing_mm} mm; H&E patches of {info.spec.patch_px} pixels at {info.spec.patch_mpp} microns a pixel.

## Measured

{measured}

## Not to be concluded

{SYNTHETIC if synthetic else REAL}

## How it was made

`cmssd train` with {", ".join(f"{name} {settings[name]}" for name in kept)}; the whole of it is in the run's
config.json. AdamW, linear warm-up, cosine annealing; each batch takes {settings["draw"]["slices"]} slices and
{settings["draw"]["patches"]} patches of a case.
"""
