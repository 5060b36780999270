"""The model card of a training run: what it is, what it saw, what was measured on which cases, and how."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cmssd_core import cohort as cohorts
from cmssd_core.calibrate import calibrate
from cmssd_core.calibration_file import load as calibration_of
from cmssd_core.cohort_run import RunSettings
from cmssd_core.evaluate import evaluate
from cmssd_core.evaluation.metrics import shown
from cmssd_core.models import MODELS
from cmssd_core.report.evaluation import words
from cmssd_core.types import InputError
from cmssd_core.weights_file import WeightsInfo, load

TITLES = {
    "accuracy": "accuracy of malignant / benign at threshold 0.5",
    "auc": "area under the ROC curve",
    "dice": "Dice of the tumour map, all cases",
    "severity_mae": "severity, mean absolute error in points, all cases",
    "malignant_only.dice": "Dice of the tumour map, malignant cases",
    "malignant_only.severity_mae": "severity, mean absolute error in points, malignant cases",
}
GIVEN = {"MRI and H&E": None, "MRI alone": "mri_only", "H&E alone": "he_only"}

PAPER = "Adit and Priya, IJERST 4(2), 2026"

MEASURED = """On the test split of the cohort it was trained on, patients it never saw, each case read from its files as
a user's would be. 95 % intervals over patients.

{table}"""
CALIBRATED = """Probability and severity interval are calibrated on {on}; their measured coverage stands in the run's
evaluation/metrics.json under `uncertainty`."""
SYNTHETIC = """A synthetic cohort shows that the program works and what the network can learn from it. It says nothing
of patients: anatomy, treatment effects, hardware and most of what makes a real image difficult are not in it."""
REAL = """That it does as well elsewhere: on other scanners, laboratories or patients than those of this cohort."""


def write(
    cohort: Path, run: Path, *, workers: int | None = None, progress: Callable[[int, int, str], None] | None = None
) -> Path:
    """Calibrate a run's weights on the val split, evaluate them on the test split, write model_card.md into the run.

    Where the val split is too small the weights stay without a calibration, and the card says so.
    """
    weights = run / "weights.safetensors"
    measured = None
    split = cohorts.read(cohort)["split"]
    if (split == "val").any():
        with contextlib.suppress(InputError):
            calibrate(cohort, run / "calibration", weights=weights, workers=workers, progress=progress)
    if (split == "test").any():
        chosen = RunSettings(workers=workers)
        measured = evaluate(cohort, run / "evaluation", weights=weights, chosen=chosen, progress=progress)
    path = run / "model_card.md"
    _, info, model_id = load(weights)
    found = calibration_of(weights, model_id)
    path.write_text(card(info, run, measured, calibrated_on=found.fitted_on if found else None), encoding="utf-8")
    return path


def line(figure: Mapping[str, Any]) -> str:
    """A figure with its interval and n, e.g. "0.980 (0.950 to 0.990), n = 72"; "-" where there is none."""
    if figure["value"] is not None and figure["low"] is None:
        why = figure.get("reason") or "too few cases for an interval"
        return f"{shown(figure['value'])} ({why}), n = {figure['n']}"
    return words(figure)


def card(info: WeightsInfo, run: Path, measured: Mapping[str, Any] | None, *, calibrated_on: str | None = None) -> str:
    """Markdown. measured: what metrics.json holds, None where there was no test split."""
    settings = json.loads((run / "config.json").read_text(encoding="utf-8"))
    table = _table(measured) if measured else ""
    told = MEASURED.format(table=table) if table else "Nothing: the cohort it was trained on has no test split."
    synthetic = "synthetic" in info.trained
    plain = [f"{name} {value}" for name, value in settings.items() if not isinstance(value, dict | list)]
    return f"""# {info.name}

**Research use only. Not a medical device. Trained on: {info.trained}.**

{_what(info)}

{_inputs(info)}

## Measured

{told}

{CALIBRATED.format(on=calibrated_on) if calibrated_on else "Probability and severity are not calibrated."}

## Not to be concluded

{SYNTHETIC if synthetic else REAL}

## How it was made

`cmssd train` with {", ".join(plain)}; the whole of it is in the run's config.json.
"""


def _what(info: WeightsInfo) -> str:
    """The first line of the model's own file, and what it gives."""
    kind = MODELS[info.model]
    said = (sys.modules[kind.__module__].__doc__ or info.model).splitlines()[0].replace("seed paper 000", PAPER)
    maps = "tumour_logits" in kind.produces
    gives = "tumour and bone maps on the MRI, severity by the paper's equation 4 and the" if maps else "the"
    return f"{said}\n\nIt gives {gives} probability of malignancy."


def _inputs(info: WeightsInfo) -> str:
    spec = info.spec
    told = {
        "mri": f"MRI contrasts {', '.join(spec.contrasts)} (any of them), slices of {spec.mri_px} pixels at "
        f"{spec.mri_spacing_mm} mm",
        "he": f"H&E patches of {spec.patch_px} pixels at {spec.patch_mpp} microns a pixel",
    }
    return f"Inputs: {'; '.join(told[name] for name in MODELS[info.model].needs)}."


def _table(measured: Mapping[str, Any]) -> str:
    columns = {title: measured["by_modality"][key] if key else measured for title, key in GIVEN.items()}
    columns = {title: part for title, part in columns.items() if part["accuracy"]["n"] or part["dice"]["n"]}
    rows = []
    for name, title in TITLES.items():
        figures = [part[name.split(".")[0]] for part in columns.values()]
        figures = [figure[name.split(".")[1]] if "." in name else figure for figure in figures]
        if any(figure["value"] is not None for figure in figures):
            rows.append(f"| {title} | " + " | ".join(map(line, figures)) + " |")
    return "\n".join(["| figure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|", *rows])
