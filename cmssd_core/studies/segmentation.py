"""Segmentation alone: a model's tumour map scored on image and mask pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.stats import t as student

from cmssd_core.batches import move_batch, with_inputs
from cmssd_core.cases.collate import collate
from cmssd_core.cases.modalities import VOLUME
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.pairs import find_pairs
from cmssd_core.cohort.split import of_split
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.evaluation.figure import Figure
from cmssd_core.evaluation.metrics import METRICS, drawn_names, score_map
from cmssd_core.inference import predict as inference
from cmssd_core.types import BoolArray, Case, FloatArray, InputError, ModelOutput, Volume
from cmssd_core.volume.prepare import onto


def in_words(summary: dict[str, Any]) -> list[str]:
    """The figures of `evaluate` as lines for a terminal."""
    lines = [f"{case['case_id']}: {', '.join(_one(name, case) for name in drawn_names())}" for case in summary["cases"]]
    for name in drawn_names():
        found = summary[name]
        doubt = (
            "too few patients for an interval" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        )
        lines.append(f"{METRICS[name].heading}: {found['value']:.3f} ({doubt}; {found['n']} patients)")
    lines += [f"refused {row['case_id']}: {row['why']}" for row in summary["refused"]]
    return [*lines, f"{summary['model_id']}, trained on {summary['trained']}"]


def _one(name: str, case: dict[str, Any]) -> str:
    metric = METRICS[name]
    value = f"{metric.short} {case[name]:.{metric.digits.line}f}"
    return value if metric.unit is None else f"{value} {metric.unit}"


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How a map becomes a mask: averaged over mirrored images, cut at the threshold, the largest piece kept."""

    mirrored: bool = True
    threshold: float = 0.5
    largest: bool = True


def tumour_map(case: Case, predictor: inference.Predictor, *, program: Settings, mirrored: bool) -> FloatArray:
    """The probability of diseased tissue, float32 (z, y, x), on the case's own MRI, from the MRI alone.

    mirrored: the mean over the image and its mirror images left-right, up-down and both.
    """
    volume = case.inputs.get("mri")
    if not isinstance(volume, Volume):
        raise InputError("a case came without an MRI; expected an image to segment; leave the row out")
    alone = Case(case.id, {"mri": volume})
    prepared = prepare(alone, spec=predictor.spec, settings=program)
    grid = prepared.inputs["mri"]
    assert isinstance(grid, Volume)  # prepare gives the kinds it was given
    batch = collate([prepared], predictor.spec)
    image = batch.inputs[VOLUME]
    axes: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)] if mirrored else [()]
    total = torch.zeros(image.shape[1], *image.shape[-2:])
    with inference.precision(predictor.device):
        for flip in axes:
            turned = move_batch(with_inputs(batch, {VOLUME: image.flip(flip)}), predictor.device)
            total += disease(predictor.model(turned))[0].float().sigmoid().flip(flip).cpu()
    return onto((total / len(axes)).numpy(), grid.affine, like=volume)


def disease(output: ModelOutput) -> torch.Tensor:
    """Logits (case, slice, y, x) of what a segmentation is scored on: all diseased tissue where a model draws it.

    That a lesion is malignant is known of such a cohort; a model's own doubt about it must not thin the map out.
    """
    logits = output.also.get("lesion", output.heads.get("tumour"))
    if logits is None:
        raise InputError("the model draws no map of the tumour; expected one that does; choose other weights")
    return logits


def mask_of(probability: FloatArray, *, settings: SegmentSettings) -> BoolArray:
    """The mask of a map: at or above the threshold, of that the largest piece (26 neighbours), its holes filled."""
    mask: BoolArray = probability >= settings.threshold
    if not settings.largest or not mask.any():
        return mask
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count > 1:
        mask = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    filled: BoolArray = ndimage.binary_fill_holes(mask)
    return filled


def patient_mean(values: list[float], *, bounds: tuple[float, float] = (0.0, 1.0)) -> Figure:
    """Mean over patients with Student's 95 % interval, within the bounds: few patients flatter a bootstrap."""
    n = len(values)
    middle = float(np.mean(values))
    if n < 3:
        return Figure(middle, None, None, n)
    reach = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Figure(middle, max(bounds[0], middle - reach), min(bounds[1], middle + reach), n)


def overlap(found: BoolArray, truth: BoolArray, volume: Volume) -> dict[str, float]:
    """Figures of one case on its own grid: every metric of a tumour map, ml_found, ml_true."""
    ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    return {
        **score_map(found, truth, volume.spacing_mm[::-1]),
        "ml_found": float(found.sum()) * ml,
        "ml_true": float(truth.sum()) * ml,
    }


def evaluate(
    source: Path,
    weights: Path | None = None,
    *,
    split: str = "all",
    settings: SegmentSettings | None = None,
    program: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The metrics of a model's tumour mask on image and mask pairs: a folder (see `find_pairs`), or a cohort.

    Gives JSON-able {"kind", "model_id", "trained", each metric: {value, low, high, n}, "remarks", "cases": [{case_id,
    patient_id, ...}], "refused": [{case_id, why}]}; intervals are Student's over patients. weights: None =
    those of the settings; the shipped ones, trained on synthetic images, are never taken unasked. split: of a cohort,
    see `cohort.of_split`. Raises InputError without weights, and where there is nothing to score.
    """
    program = program or default_settings()
    chosen = weights or program.weights
    if chosen is None:
        raise InputError(
            "no weights came for scans with tumour masks; none of the shipped ones was trained on real scans, so none "
            "is taken unasked; pass the weights to score (for example weights.safetensors of cmssd train)",
            "weights",
        )
    has_table = not source.is_dir() or (source / "cohort.csv").is_file()
    table, root = (cohorts.read(source), source if source.is_dir() else source.parent) if has_table else (None, source)
    table = find_pairs(source) if table is None else table[table["tumour_mask"].notna() | table["lesion_mask"].notna()]
    table = of_split(table, split)
    if table.empty:
        raise InputError(f"{source.name} has no row with a tumour_mask or lesion_mask; expected a mask; add the column")
    predictor = inference.load(chosen, settings=program)
    settings = settings or SegmentSettings()
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for done, (_, row) in enumerate(table.iterrows(), start=1):
        try:
            figures = _scored(row, root, predictor, settings=settings, program=program)
            rows.append({"case_id": str(row["case_id"]), "patient_id": str(row["patient_id"]), **figures})
        except InputError as problem:
            refused.append({"case_id": str(row["case_id"]), "why": str(problem)})
        if progress:
            progress(done, len(table))
    if not rows:
        raise InputError(f"no case could be scored; of {refused[0]['case_id']} it was said: {refused[0]['why']}")
    names = list(drawn_names())
    by_patient = pd.DataFrame(rows).groupby("patient_id")[names].mean()
    summary: dict[str, Any] = {
        name: asdict(patient_mean(by_patient[name].tolist(), bounds=METRICS[name].bounds)) for name in names
    }
    return summary | {
        "kind": "segmentation",
        "model_id": predictor.model_id,
        "trained": predictor.trained,
        "remarks": [],  # a key others read; today nothing need be remarked
        "cases": rows,
        "refused": refused,
    }


def _scored(
    row: pd.Series[Any],
    root: Path,
    predictor: inference.Predictor,
    *,
    settings: SegmentSettings,
    program: Settings,
) -> dict[str, float]:
    case = cohorts.admit_row(row, root)
    truth = case.truth.masks.get("tumour", case.truth.masks.get("lesion"))
    volume = case.inputs.get("mri")
    if truth is None or not isinstance(volume, Volume):
        raise InputError(f"case {row['case_id']} has a mask and no MRI; expected both; fill in an mri_ column")
    found = tumour_map(case, predictor, program=program, mirrored=settings.mirrored)
    return overlap(mask_of(found, settings=settings), truth, volume)
