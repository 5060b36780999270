"""The nouns: every shape, unit and frame of reference of the program is said here, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

FloatArray = npt.NDArray[np.float32]
Uint8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
Affine = npt.NDArray[np.float64]

#: Image contrasts a Volume may carry. The models read the first four; ct and pet are admitted, not read by CM-SSD.
CONTRASTS = ("t1", "t2", "stir", "adc", "ct", "pet")

Level = Literal["info", "warning", "severe"]


class InputError(ValueError):
    """A user's mistake, in one sentence: what came, what was expected, what to do.

    The only exception that is meant for a screen: the command line prints it and exits 2, a page shows it and
    lives on.
    """


@dataclass(frozen=True)
class Finding:
    """One remark on the quality of an input; it travels with the result to every screen and export.

    `what` is a plain sentence; `where` names the modality and the place ("mri t1, slice 7 to 9", "slide").
    """

    level: Level
    what: str
    where: str


@dataclass(frozen=True, eq=False)
class Volume:
    """An MRI (or CT, PET) examination on one grid.

    voxels: float32 (contrast, z, y, x), read-only. Raw scanner units after reading, z-scores after preparing.
    affine: float64 4x4, maps a voxel index (x, y, z, 1) to RAS+ millimetres.
    contrasts: one of CONTRASTS for each leading index of `voxels`.
    """

    voxels: FloatArray
    affine: Affine
    contrasts: tuple[str, ...]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (x, y, z) in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True, eq=False)
class Slide:
    """An H&E slide on disk; pixels are read lazily by slide/read.py, in level-0 coordinates (x right, y down).

    level_sizes: (width, height) in pixels of each pyramid level, level 0 first.
    mpp: microns per level-0 pixel, None where neither file nor user says it (it is asked for, never guessed).
    site_mm: where the biopsy was taken, RAS+ mm in the MRI's frame; None = unregistered.
    """

    path: Path
    level_sizes: tuple[tuple[int, int], ...]
    mpp: float | None
    site_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class PatchBag:
    """Tissue patches of one slide at one resolution.

    patches: uint8 (patch, y, x, 3) RGB. xy: int64 (patch, 2), top-left corner in level-0 px.
    mpp: microns per pixel of the patches. slide_mpp: microns per level-0 pixel. site_mm: as in Slide.
    """

    patches: Uint8Array
    xy: npt.NDArray[np.int64]
    mpp: float
    slide_mpp: float
    site_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a case beyond its images; None = unknown. Masks: bool (z, y, x) on the Volume's grid.

    tumour marks malignant tissue only (a benign lesion has an empty mask); bone is the affected bone's envelope,
    its destroyed part included; lesion all diseased tissue, benign or malignant; destruction where the cortex is
    breached. severity_pct in [0, 100]. event with time_months is survival.
    """

    tumour: BoolArray | None = None
    bone: BoolArray | None = None
    lesion: BoolArray | None = None
    destruction: BoolArray | None = None
    malignant: bool | None = None
    severity_pct: float | None = None
    event: bool | None = None
    time_months: float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One patient's inputs by modality name ("mri": Volume, "he": Slide or, once prepared, PatchBag).

    id: sha256 of the bytes of the inputs, so the same scan has the same id; no name of a person anywhere.
    steps: what was done to the inputs so far, in words. findings: quality remarks.
    """

    id: str
    inputs: Mapping[str, Volume | Slide | PatchBag]
    truth: Truth = field(default_factory=Truth)
    steps: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def _repr_html_(self) -> str:
        return _in_notebook(self)


Noun = TypeVar("Noun", Volume, Slide, PatchBag)


@dataclass(frozen=True, eq=False)
class Reading(Generic[Noun]):
    """What a reader gives: the noun, the sha256 of the bytes it came from, quality findings and steps taken."""

    value: Noun
    digest: str
    findings: tuple[Finding, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases as tensors, in the form every model takes.

    inputs["mri"]: float32 (case, slice, neighbour, contrast, y, x), z-scores; neighbour = slice before, this, after.
    inputs["he"]: float32 (case, patch, 3, y, x), stain-normalised RGB in [0, 1], white = 1.
    valid["mri"]: bool (case, slice); valid["he"]: bool (case, patch); False = padding.
    present["mri"], present["he"], present["site"]: bool (case,).
    patch_mm: float32 (case, patch, 2), patch centres (x, y) in mm from the centre of the bag.
    site_voxel: float32 (case, 3), the biopsy site as continuous (slice, y, x) index in inputs["mri"]; 0 where absent.
    spacing_mm: float32 (case,), in-plane pixel size of inputs["mri"].
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    patch_mm: Tensor
    site_voxel: Tensor
    spacing_mm: Tensor


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """What a model says of a Batch before any threshold; None where the head is absent or its modality missing.

    tumour_logits, bone_logits: (case, slice, y, x). malignant_logit: (case,). severity_pct: (case,), equation 4 on
    the soft maps. log_hazard: (case,). attention: by name; "cross" (case, slice, h, w) is equation 2's gate in
    [0, 1] (1 = all MRI), "patch" (case, patch) sums to 1 over the valid patches of a case. auxiliary: further maps a
    model was taught, as logits (case, slice, y, x) by name: "lesion" (benign or malignant), "destruction" (of cortex).
    damage_logits: (case, 2), how damaged the MRI and the slide look, where the model judges that.
    """

    tumour_logits: Tensor | None
    bone_logits: Tensor | None
    malignant_logit: Tensor
    severity_pct: Tensor | None
    log_hazard: Tensor | None = None
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    damage_logits: Tensor | None = None


@dataclass(frozen=True)
class SliceArea:
    """Areas in mm2 of one slice; index counts from 0 along the slice axis of the source image."""

    index: int
    tumour_mm2: float
    bone_mm2: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """One model's answer on one case, on the case's own grid.

    maps: "tumour", "bone" and "attention", float32 (z, y, x) in [0, 1] on the source volume's grid and `affine`
    (voxel (x, y, z) to RAS+ mm); empty without an MRI. Masks in all figures are maps >= 0.5.
    severity_pct: equation 4, in [0, 100], or None with `severity_reason`. severity_interval: None until calibrated.
    patch_attention: (patch,), with patch_xy (patch, 2) level-0 px and patch_size_px, the patch edge in level-0 px.
    gate_at_site: equation 2's gate in the cell of the biopsy site, None where unregistered.
    tumour_ml counts tumour inside the bone envelope and out; extraosseous_ml the part outside.
    trained: what the weights were trained on, in words. timings_s: wall-clock seconds by step.
    """

    case_id: str
    model_id: str
    trained: str
    maps: Mapping[str, FloatArray]
    affine: Affine | None
    severity_pct: float | None
    severity_reason: str | None
    severity_interval: tuple[float, float] | None
    p_malignant: float
    tier: str | None
    uncertainty: Mapping[str, float] | None
    tumour_ml: float | None
    bone_ml: float | None
    extraosseous_ml: float | None
    slices: tuple[SliceArea, ...]
    patch_attention: FloatArray | None
    patch_xy: npt.NDArray[np.int64] | None
    patch_size_px: float | None
    gate_at_site: float | None
    gate_mean: float | None
    quality: tuple[Finding, ...]
    steps: tuple[str, ...]
    timings_s: Mapping[str, float]

    def _repr_html_(self) -> str:
        return _in_notebook(self)


@dataclass(frozen=True)
class Share:
    """What one part of a case contributes to a target: a modality, a contrast or a criterion, in the target's unit.

    value: its contribution; low, high: interval where there is one, with n what it was taken over; meaning: in words.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    meaning: str = ""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Where one target of one model's answer on one case comes from, by one method: maps, or shares of parts, or both.

    maps: by modality, put back where the images lie: "mri" float32 (z, y, x) on the source volume's grid and `affine`
    (voxel (x, y, z) to RAS+ mm), summed over contrasts; "he" float32 (patch, y, x), summed over colours, with patch_xy
    (patch, 2) and patch_size_px, corner and edge of the patches in level-0 px. Values are per prepared pixel.
    inputs: with the explained inputs' shapes: "mri" (slice, contrast, y, x) on the prepared grid, one contrast where
    the method knows no contrasts, "he" as in maps. A Batch instead of a Case leaves maps["mri"] (slice, y, x) on the
    prepared grid, affine and patch_xy None.
    method: its name in METHODS; label: what to call it on a screen. signed: whether values below 0 speak against the
    target. value: the target f(x), in `unit`. baseline: what "nothing there" was, in words; baseline_value: f of it.
    gap: |sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)|, None where the method promises no completeness
    or the difference is too small to divide by. effort: what was computed; notes: what else a reader must know.
    """

    case_id: str
    model_id: str
    trained: str
    method: str
    label: str
    target: str
    unit: str
    maps: Mapping[str, FloatArray]
    inputs: Mapping[str, FloatArray]
    affine: Affine | None
    patch_xy: npt.NDArray[np.int64] | None
    patch_size_px: float | None
    signed: bool
    value: float
    baseline: str | None
    baseline_value: float | None
    gap: float | None
    shares: tuple[Share, ...]
    effort: str
    notes: tuple[str, ...]
    seconds: float


def _in_notebook(noun: Case | Prediction) -> str:
    # By name: a noun knows no picture. Jupyter asks for its look, and only then is the drawing loaded.
    return str(import_module("cmssd_core.report.notebook").shown(noun))


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same array, read-only: nouns are shared between threads."""
    array.setflags(write=False)
    return array
