"""Sarcoma MRI: what the weights draw on real scans, beside what cropping around the tumour gives away.

Arms: prior (the mean mask of the other patients, stretched over the image: it sees no voxel of it, only its edges) and
untouched (the weights as they are). Each is scored on the scan as it came; untouched also on one cut off-centre.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.pairs import find_pairs
from cmssd_core.config import Settings
from cmssd_core.evaluation.overlap import dice
from cmssd_core.inference import predict as inference
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.studies import segmentation as segment
from cmssd_core.types import BoolArray, Case, FloatArray, Volume, frozen

ARMS = ("prior", "untouched")
CUT_MM = 8.0  # what an off-centre cut leaves beside the tumour
GRID = (16, 32, 32)  # of the mean mask, (slice, y, x)


def mean_mask(masks: list[BoolArray]) -> FloatArray:
    """The mean of masks (z, y, x) stretched over GRID, and of their mirror images: how a scan is stored is chance."""
    mean = np.mean([stretched(mask.astype(np.float32), GRID) for mask in masks], axis=0)
    for axis in range(mean.ndim):
        mean = (mean + np.flip(mean, axis)) / 2
    return mean.astype(np.float32)


def stretched(share: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """A mean mask stretched to another shape, linear, edge to edge."""
    zoom = [new / old for new, old in zip(shape, share.shape, strict=True)]
    return ndimage.zoom(share, zoom, order=1, grid_mode=True, mode="nearest")


def cases_of(folder: Path) -> dict[str, Case]:
    """The patients of a folder of image and mask pairs, by name."""
    table = find_pairs(folder)
    return {str(row["case_id"]): cohorts.admit_row(row, folder) for _, row in table.iterrows()}


def off_centre(case: Case) -> Case:
    """The case with its image cut close to the tumour on two sides, so that the tumour no longer lies in the middle."""
    volume, truth = case.inputs["mri"], case.truth.masks.get("tumour")
    assert isinstance(volume, Volume)
    assert truth is not None
    _, ys, xs = np.nonzero(truth)
    y = max(0, int(ys.min() - CUT_MM / volume.spacing_mm[1]))
    x = max(0, int(xs.min() - CUT_MM / volume.spacing_mm[0]))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([x, y, 0])
    cut = Volume(frozen(volume.voxels[:, :, y:, x:].copy()), frozen(affine), volume.contrasts)
    mask = frozen(truth[:, y:, x:].copy())
    return replace(case, id=f"{case.id}-cut", inputs={"mri": cut}, truth=replace(case.truth, masks={"tumour": mask}))


def one_patient(
    arm: str, held: str, cases: dict[str, Case], predictor: inference.Predictor, program: Settings
) -> dict[str, Any]:
    """An arm scored on one patient; prior knows the masks of the others alone."""
    began = time.perf_counter()
    case = cases[held]
    scored: dict[str, tuple[Case, FloatArray]]
    if arm == "prior":
        others = [other.truth.masks["tumour"] for name, other in cases.items() if name != held]
        best = max(np.arange(0.2, 0.8, 0.1), key=lambda t: np.mean([_prior_dice(o, others, t) for o in others]))
        scored = {"": (case, stretched(mean_mask(others), case.truth.masks["tumour"].shape) / (2 * best))}
    else:
        scored = {
            suffix: (each, segment.tumour_map(each, predictor, program=program, mirrored=True))
            for suffix, each in (("", case), ("_off_centre", off_centre(case)))
        }
    found: dict[str, Any] = {"arm": arm, "patient": held}
    for suffix, (target, probability) in scored.items():
        mask = segment.mask_of(probability, settings=segment.SegmentSettings())
        scores = segment.overlap(mask, target.truth.masks["tumour"], target.inputs["mri"])
        found |= {f"{name}{suffix}": value for name, value in scores.items()}
    return found | {"seconds": time.perf_counter() - began}


def _prior_dice(own: BoolArray, others: list[BoolArray], threshold: float) -> float:
    mean = mean_mask([other for other in others if other is not own])
    return dice(stretched(mean, own.shape) >= threshold, own)


def run(data: Path, weights: Path, out: Path, *, arms: list[str], patients: list[str]) -> None:
    """Every patient that has no result yet; one JSON a patient and arm."""
    program = Settings(device="cpu")
    cases = cases_of(data)
    predictor = inference.load(weights, settings=program)
    for arm in arms:
        start = "mirrored" if arm == "prior" else predictor.model_id
        for held in patients or list(cases):
            path = out / "mri" / f"{arm}-{start}" / f"{held}.json"
            if path.exists():
                continue
            found = one_patient(arm, held, cases, predictor, program)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found, indent=1, allow_nan=False)
            write_atomic(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
            print(f"{arm:<11}{held:<9} Dice {found['dice']:.3f}  {found['seconds']:.0f} s", flush=True)


def table(out: Path) -> str:
    """Every arm with a result, patient by patient."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(out.glob("mri/*/*.json")):
        found.setdefault(path.parent.name, {})[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    if not found:
        return "no patient is there yet"
    patients = sorted({name for arm in found.values() for name in arm})
    lines = [
        "| arm | " + " | ".join(patients) + " | mean Dice | cut off-centre | HD95 mm |",
        "|---" * (len(patients) + 4) + "|",
    ]
    for name, arm in found.items():
        cells = [f"{arm[p]['dice']:.2f}" if p in arm else "" for p in patients]
        means = [_mean([f[key] for f in arm.values() if key in f]) for key in ("dice", "dice_off_centre")]
        distance = np.mean([f["hd95_mm"] for f in arm.values()])
        lines.append(f"| {name} | " + " | ".join([*cells, *means, f"{distance:.0f}"]) + " |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    figure = segment.patient_mean(values)
    interval = "" if figure.low is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.2f}{interval}"
