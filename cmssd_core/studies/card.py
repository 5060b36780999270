"""The model card of a training run: what it is, what it saw, what was measured on which cases, and how."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cmssd_core.cases.modalities import describe_given
from cmssd_core.cohort import table as cohorts
from cmssd_core.evaluation.figure import format_number
from cmssd_core.evaluation.metrics import THRESHOLD, parts_at
from cmssd_core.evaluation.summary import plain
from cmssd_core.inference.calibration import load as calibration_of
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models import MODELS
from cmssd_core.models.spec import InputSpec, PatchSpec, VolumeSpec
from cmssd_core.models.weights import WeightsInfo, load
from cmssd_core.report import curves
from cmssd_core.report.evaluation import words
from cmssd_core.studies.calibrate import calibrate
from cmssd_core.studies.evaluate import evaluate
from cmssd_core.studies.run import RunSettings
from cmssd_core.types import InputError

#: What a model of these tasks gives, in words.
GIVES = {
    "tumour": "a tumour map on the MRI",
    "bone": "a bone map",
    "severity_pct": "severity by the paper's equation 4",
    "malignant": "the probability of malignancy",
    "risk": "a log hazard (who is at higher risk than whom)",
}

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

    The run's curves.html is drawn too. Where the val split is too small the weights stay without a calibration, and the
    card says so.
    """
    weights = run / "weights.safetensors"
    curves.write(run)
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
    text = card(info, run, measured, calibrated_on=found.fitted_on if found else None)
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def line(figure: Mapping[str, Any]) -> str:
    """A figure with its interval and n, e.g. "0.980 (0.950 to 0.990), n = 72"; "-" where there is none."""
    if figure["value"] is not None and figure["low"] is None:
        why = figure.get("reason") or "too few cases for an interval"
        return f"{format_number(figure['value'])} ({why}), n = {figure['n']}"
    return words(figure)


def card(info: WeightsInfo, run: Path, measured: Mapping[str, Any] | None, *, calibrated_on: str | None = None) -> str:
    """Markdown. measured: what metrics.json holds, None where there was no test split."""
    settings = json.loads((run / "config.json").read_text(encoding="utf-8"))
    table = _table(measured) if measured else ""
    summary = MEASURED.format(table=table) if table else "Nothing: the cohort it was trained on has no test split."
    synthetic = "synthetic" in info.trained
    plain = [f"{name} {value}" for name, value in settings.items() if not isinstance(value, dict | list)]
    return f"""# {info.name}

**Research use only. Not a medical device. Trained on: {info.trained}.**

{_what(info)}

{_inputs(info)}

## Measured

{summary}

{CALIBRATED.format(on=calibrated_on) if calibrated_on else "Probability and severity are not calibrated."}

## Not to be concluded

{SYNTHETIC if synthetic else REAL}

## How it was made

`cmssd train` with {", ".join(plain)}; the whole of it is in the run's config.json.
"""


def _what(info: WeightsInfo) -> str:
    """The first line of the model's own file, and what it gives."""
    kind = MODELS[info.model]
    text = (sys.modules[kind.__module__].__doc__ or info.model).splitlines()[0].replace("seed paper 000", PAPER)
    gives = [words for name, words in GIVES.items() if name in kind.tasks]
    listed = " and ".join([", ".join(gives[:-1]), gives[-1]] if len(gives) > 1 else gives)
    return f"{text}\n\nIt gives {listed}."


def _inputs(info: WeightsInfo) -> str:
    return f"Inputs: {'; '.join(_input(one) for one in info.spec.values())}."


def _input(spec: InputSpec) -> str:
    if isinstance(spec, VolumeSpec):
        names = ", ".join(spec.contrasts)
        return f"MRI contrasts {names} (any of them), slices of {spec.px} pixels at {spec.spacing_mm} mm"
    if isinstance(spec, PatchSpec):
        return f"H&E patches of {spec.px} pixels at {spec.mpp} microns a pixel"
    return f"an RNA profile of {len(spec.genes)} genes"


def _table(measured: Mapping[str, Any]) -> str:
    columns = {"all there is": measured}
    columns |= {describe_given(key.removesuffix("_only")): part for key, part in measured["by_modality"].items()}
    parts = parts_at("main")
    columns = {title: part for title, part in columns.items() if any(one.read(part).n for one in parts)}
    rows = []
    for part in parts:
        figures = [plain(part.read(column)) for column in columns.values()]
        if any(figure["value"] is not None for figure in figures):
            title = f"{part.title} at threshold {THRESHOLD}" if part.metric.at_threshold else part.title
            rows.append(f"| {title} | " + " | ".join(map(line, figures)) + " |")
    return "\n".join(["| figure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|", *rows])
