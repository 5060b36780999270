"""Segmentation alone: a folder of image and mask pairs becomes a cohort, and a model's tumour map is scored on it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.stats import t as student

from cmssd_core import adapted, inference, weights_file
from cmssd_core import cohort as cohorts
from cmssd_core.adapted import Adapted
from cmssd_core.cases import collate, prepare
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.evaluation.metrics import Figure
from cmssd_core.evaluation.overlap import dice, hd95, iou
from cmssd_core.models.base import Model
from cmssd_core.mri.prepare import onto
from cmssd_core.types import Batch, BoolArray, Case, FloatArray, InputError, ModelOutput, Volume

#: Weights that were adapted to real sarcomas; where they are not there, the predictor's usual ones serve.
ADAPTED = weights_file.SHIPPED / "cmssd-compact.sarcoma-mri.safetensors"
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
MASK_WORDS = {"mask", "masks", "label", "labels", "labelstr", "labelsts", "seg", "segmentation", "gtv", "roi"}
OTHER_MASKS = {"bone", "osteoid", "destruction"}  # of something that is no tumour
IMAGE_WORDS = {"image", "images", "img", "imagestr", "imagests", "scan", "mr", "mri", "0000"}
COLUMN_OF = {"t1": "mri_t1", "t1w": "mri_t1", "t2": "mri_t2", "t2w": "mri_t2", "t2fs": "mri_t2", "stir": "mri_stir"}
COLUMN_OF |= {"adc": "mri_adc", "ct": "ct", "pet": "pet", "pt": "pet", "suv": "pet"}
ALONE = "dice_image_alone"
LAYOUT = "NAME_image.nii.gz beside NAME_mask.nii.gz, one folder a patient or all in one, or imagesTr and labelsTr"


def pairs(folder: Path, *, contrast: str = "t1") -> pd.DataFrame:
    """A cohort (all columns of `cohort.COLUMNS`) of the MRI and mask pairs under a folder; paths relative to it.

    A file is a mask or an image by the words in its name and in its folder's, and of a contrast by its name; `contrast`
    is for images that do not say theirs. A patient is a folder, or what is left of a name without these words. CT and
    PET are passed over, and so is an image without a mask. The mask is the tumour's. Raises InputError where no pair
    is found.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name} is no folder; expected one with {LAYOUT}; check the path")
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        if not path.name.lower().endswith(SUFFIXES) or not path.is_file():
            continue
        place = path.relative_to(folder)
        words = [word for part in (*place.parts[:-1], _stem(path)) for word in re.split(r"[_\s.]+", part) if word]
        plain = [word.lower() for word in words]
        column = next((COLUMN_OF[word] for word in reversed(plain) if word in COLUMN_OF), f"mri_{contrast}")
        if column not in cohorts.MRI_COLUMNS or not column.startswith("mri_"):
            continue
        if MASK_WORDS & set(plain) and OTHER_MASKS & set(plain):
            continue
        role = "tumour_mask" if MASK_WORDS & set(plain) else column
        known = MASK_WORDS | IMAGE_WORDS | set(COLUMN_OF)
        name = cohorts.name_of("_".join(w for w in words if w.lower() not in known) + "." or folder.name)
        found[name].setdefault(role, place)
    rows = [
        {"case_id": name, "patient_id": name, **{role: str(path) for role, path in files.items()}}
        for name, files in sorted(found.items())
        if "tumour_mask" in files and len(files) > 1
    ]
    if not rows:
        raise InputError(f"{folder.name} holds no MRI with a mask; expected {LAYOUT}; rename the files")
    return pd.DataFrame(rows, columns=list(cohorts.COLUMNS))


def are_pairs(source: Path) -> bool:
    """Whether a source is a folder of image and mask pairs, and no cohort."""
    if not source.is_dir() or (source / "cohort.csv").is_file():
        return False
    try:
        return len(pairs(source)) > 0
    except InputError:
        return False


def in_words(told: dict[str, Any]) -> list[str]:
    """The figures of `evaluate` as lines for a terminal."""
    lines = [f"{case['case_id']}: Dice {case['dice']:.3f}, HD95 {case['hd95_mm']:.0f} mm" for case in told["cases"]]
    titles = {"dice": "Dice", ALONE: "Dice, image alone", "iou": "IoU", "hd95_mm": "HD95 mm"}
    for name, label in titles.items():
        if name not in told:
            continue
        found = told[name]
        doubt = (
            "too few patients for an interval" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        )
        lines.append(f"{label}: {found['value']:.3f} ({doubt}; {found['n']} patients)")
    lines += [f"refused {row['case_id']}: {row['why']}" for row in told["refused"]]
    return [*lines, *told["remarks"], f"{told['model_id']}, trained on {told['trained']}"]


def _stem(path: Path) -> str:
    ending = next(s for s in SUFFIXES if path.name.lower().endswith(s))
    return path.name[: -len(ending)]


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
    image = batch.inputs["mri"]
    axes: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)] if mirrored else [()]
    total = torch.zeros(image.shape[1], *image.shape[-2:])
    with inference.precision(predictor.device):
        for flip in axes:
            turned = inference.moved(_with(batch, image.flip(flip)), predictor.device)
            total += disease(predictor.model(turned))[0].float().sigmoid().flip(flip).cpu()
    return onto((total / len(axes)).numpy(), grid.affine, like=volume)


def disease(output: ModelOutput) -> torch.Tensor:
    """Logits (case, slice, y, x) of what a segmentation is scored on: all diseased tissue where a model draws it.

    That a lesion is malignant is known of such a cohort; a model's own doubt about it must not thin the map out.
    """
    lesion = output.auxiliary.get("lesion")
    logits = output.tumour_logits if lesion is None else lesion
    if logits is None:
        raise InputError("the model draws no map of the tumour; expected one that does; choose other weights")
    return logits


def drawer(model: Model, *, contrast: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's map of disease from slices (case, slice, 3, y, x) of one contrast, without a slide: to be fine-tuned.

    Gives logits (case, slice, y, x). Raises InputError for a contrast the model does not read.
    """
    if contrast not in model.spec.contrasts:
        raise InputError(f"{contrast} came, the model reads {', '.join(model.spec.contrasts)}; choose one of these")
    channel = model.spec.contrasts.index(contrast)

    def draw(slices: torch.Tensor) -> torch.Tensor:
        cases, count = slices.shape[:2]
        stack = slices.new_zeros(cases, count, 3, len(model.spec.contrasts), *slices.shape[-2:])
        stack[:, :, :, channel] = slices
        there = torch.ones(cases, count, dtype=torch.bool, device=slices.device)
        none = torch.zeros(cases, 1, dtype=torch.bool, device=slices.device)
        batch = Batch(
            tuple(str(i) for i in range(cases)),
            {"mri": stack},
            {"mri": there, "he": none},
            {"mri": there[:, 0], "he": none[:, 0], "site": none[:, 0]},
            slices.new_zeros(cases, 1, 2),
            slices.new_zeros(cases, 3),
            slices.new_full((cases,), model.spec.mri_spacing_mm),
        )
        return disease(model(batch))

    return draw


def _with(batch: Batch, image: torch.Tensor) -> Batch:
    return replace(batch, inputs={**batch.inputs, "mri": image})


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


def patient_mean(values: list[float], *, low: float = 0.0, high: float = 1.0) -> Figure:
    """Mean over patients with Student's 95 % interval, within [low, high]: few patients flatter a bootstrap."""
    n = len(values)
    middle = float(np.mean(values))
    if n < 3:
        return Figure(middle, None, None, n)
    reach = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Figure(middle, max(low, middle - reach), min(high, middle + reach), n)


def overlap(found: BoolArray, truth: BoolArray, volume: Volume) -> dict[str, float]:
    """Figures of one case on its own grid: dice, iou, hd95_mm, ml_found, ml_true."""
    ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    return {
        "dice": dice(found, truth),
        "iou": iou(found, truth),
        "hd95_mm": hd95(found, truth, volume.spacing_mm[::-1]),
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
    """Dice, IoU and HD95 of a model's tumour mask on image and mask pairs: a folder (see `pairs`), or a cohort.

    Gives JSON-able {"kind", "model_id", "trained", "dice", "iou", "hd95_mm": {value, low, high, n}, "remarks", "cases":
    [{case_id, patient_id, ...}], "refused": [{case_id, why}]}; intervals are Student's over patients. Beside adapted
    weights (adapted.py) the frame of a scan cut around its tumour is used, and the Dice without it stands beside.
    weights: None = those of the settings, else ADAPTED where it is there, else the shipped ones. split: of a cohort,
    see `cohort.of_split`. Raises InputError where there is nothing to score.
    """
    has_table = not source.is_dir() or (source / "cohort.csv").is_file()
    table, root = (cohorts.read(source), source if source.is_dir() else source.parent) if has_table else (None, source)
    table = pairs(source) if table is None else table[table["tumour_mask"].notna() | table["lesion_mask"].notna()]
    table = cohorts.of_split(table, split)
    if table.empty:
        raise InputError(f"{source.name} has no row with a tumour_mask or lesion_mask; expected a mask; add the column")
    program = program or default_settings()
    chosen = weights or program.weights or (ADAPTED if ADAPTED.is_file() else weights_file.DEFAULT)
    predictor = inference.load(chosen, settings=program)
    left = adapted.load(adapted.path_of(chosen), model_id=predictor.model_id)
    settings = settings or SegmentSettings()
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for done, (_, row) in enumerate(table.iterrows(), start=1):
        try:
            figures = _scored(row, root, predictor, left, settings=settings, program=program)
            rows.append({"case_id": str(row["case_id"]), "patient_id": str(row["patient_id"]), **figures})
        except InputError as problem:
            refused.append({"case_id": str(row["case_id"]), "why": str(problem)})
        if progress:
            progress(done, len(table))
    if not rows:
        raise InputError(f"no case could be scored; of {refused[0]['case_id']} it was said: {refused[0]['why']}")
    names = [name for name in ("dice", "iou", "hd95_mm", ALONE) if name in rows[0]]
    by_patient = pd.DataFrame(rows).groupby("patient_id")[names].mean()
    told: dict[str, Any] = {
        name: asdict(patient_mean(by_patient[name].tolist(), high=np.inf if name == "hd95_mm" else 1.0))
        for name in names
    }
    return told | {
        "kind": "segmentation",
        "model_id": predictor.model_id,
        "trained": predictor.trained,
        "remarks": _remarks(rows, left),
        "cases": rows,
        "refused": refused,
    }


def _remarks(rows: list[dict[str, Any]], left: Adapted | None) -> list[str]:
    """What a reader of the figures must know of these scans, in sentences."""
    if left is None:
        return []
    n, said = len(rows), []
    cut, known, others = (sum(bool(row[name]) for row in rows) for name in ("cut", "learned_from", "other_contrast"))
    if known:
        said.append(f"{known} of {n} scans are among those the weights learned from: figures that hold them flatter")
    if cut:
        said.append(
            f"{cut} of {n} scans look cut around the tumour (a small field over a joint looks the same); where "
            f"their edges lie was taken as a reader's box, which by itself overlaps with much of a tumour; {ALONE} is "
            "without it"
        )
    if others:
        said.append(f"{others} of {n} scans have no {left.contrast}, the one contrast these weights learned")
    return said


def _scored(
    row: pd.Series[Any],
    root: Path,
    predictor: inference.Predictor,
    left: Adapted | None,
    *,
    settings: SegmentSettings,
    program: Settings,
) -> dict[str, Any]:
    case = cohorts.admit_row(row, root)
    truth = case.truth.tumour if case.truth.tumour is not None else case.truth.lesion
    volume = case.inputs.get("mri")
    if truth is None or not isinstance(volume, Volume):
        raise InputError(f"case {row['case_id']} has a mask and no MRI; expected both; fill in an mri_ column")
    if left is None:
        found = tumour_map(case, predictor, program=program, mirrored=settings.mirrored)
        return overlap(mask_of(found, settings=settings), truth, volume)
    other = left.contrast not in volume.contrasts
    volume = volume if other else _one_contrast(volume, left.contrast)
    found = tumour_map(Case(case.id, {"mri": volume}), predictor, program=program, mirrored=settings.mirrored)
    alone = mask_of(found, settings=settings)
    cut = adapted.is_cut(volume)
    mask = mask_of(adapted.joined(found, left.known(truth.shape)), settings=settings) if cut else alone
    return overlap(mask, truth, volume) | {
        ALONE: dice(alone, truth),
        "cut": cut,
        "learned_from": adapted.fingerprint(truth) in left.learned_from,
        "other_contrast": other,
    }


def _one_contrast(volume: Volume, contrast: str) -> Volume:
    index = volume.contrasts.index(contrast)
    return replace(volume, voxels=volume.voxels[index : index + 1], contrasts=(contrast,))
