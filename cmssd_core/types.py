"""The nouns: every shape, unit and frame of reference of the program is said here, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

# Everything imports this file, the command line's help too: the libraries are named for the type checker alone.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    FloatArray = npt.NDArray[np.float32]
    Uint8Array = npt.NDArray[np.uint8]
    BoolArray = npt.NDArray[np.bool_]
    Affine = npt.NDArray[np.float64]
else:
    FloatArray = Uint8Array = BoolArray = Affine = Any

Level = Literal["info", "warning", "severe"]


class InputError(ValueError):
    """A user's mistake, in one sentence: what came, what was expected, what to do.

    The only exception that is meant for a screen: the command line prints it and exits 2, a page shows it and
    lives on. field: what of the question it is about ("mri", "mpp", "split"), in the core's words; each door adds its
    own name for that, a flag or a control. None = no field of the question, such as a row of a table.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@contextmanager
def about(field: str) -> Iterator[None]:
    """Inside, a user's mistake that names no field is about this one."""
    try:
        yield
    except InputError as mistake:
        mistake.field = mistake.field or field
        raise


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

    voxels: float32 (contrast, z, y, x), read-only. As read: MR in the scanner's units, CT in Hounsfield units, PET in
    SUV. As prepared: z-scores, or [-1, 1] over the contrast's window.
    affine: float64 4x4, maps a voxel index (x, y, z, 1) to RAS+ millimetres.
    contrasts: the name of a row of volume/contrasts.py for each leading index of `voxels`.
    label: what a screen calls the modality.
    """

    label: ClassVar[str] = "MRI"
    voxels: FloatArray
    affine: Affine
    contrasts: tuple[str, ...]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (x, y, z) in mm."""
        import numpy as np

        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True, eq=False)
class Slide:
    """An H&E slide on disk; pixels are read lazily by slide/read.py, in level-0 coordinates (x right, y down).

    level_sizes: (width, height) in pixels of each pyramid level, level 0 first.
    mpp: microns per level-0 pixel, None where neither file nor user says it (it is asked for, never guessed).
    site_mm: where the biopsy was taken, RAS+ mm in the MRI's frame; None = unregistered.
    label: what a screen calls the modality.
    """

    label: ClassVar[str] = "H&E slide"
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


#: On what scale expression stands: counts as measured (read counts, TPM or FPKM), ln(1 + count), a logarithm of unknown
#: base, or standard deviations from the training patients.
ProfileUnit = Literal["counts", "log1p", "log", "zscore"]


@dataclass(frozen=True, eq=False)
class Profile:
    """Gene expression of one patient.

    values: float32 (gene,), read-only. names: tuple[str, ...] (gene,), symbols or identifiers as read, each once.
    unit: as in ProfileUnit; "zscore" once prepared. label: what a screen calls the modality.
    """

    label: ClassVar[str] = "RNA profile"
    values: FloatArray
    names: tuple[str, ...]
    unit: ProfileUnit


@dataclass(frozen=True)
class Survival:
    """Time and event, which travel together: event = it happened at time_months, else followed so long without."""

    time_months: float
    event: bool


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a case beyond its inputs; what is unknown is left out.

    masks: bool (z, y, x) on the Volume's grid by name. "tumour" marks malignant tissue only (a benign lesion has an
    empty mask); "bone" is the affected bone's envelope, its destroyed part included; "lesion" all diseased tissue,
    benign or malignant; "destruction" where the cortex is breached. labels: numbers of the whole case by task:
    "malignant" 0 or 1, "severity_pct" in [0, 100].
    """

    masks: Mapping[str, BoolArray] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)
    survival: Survival | None = None


Input = Volume | Slide | PatchBag | Profile


@dataclass(frozen=True, eq=False)
class Case:
    """One patient's inputs by modality name ("mri": Volume, "he": Slide or, once prepared, PatchBag, "rna": Profile).

    id: sha256 of the bytes of the inputs, so the same scan has the same id; no name of a person anywhere.
    steps: what was done to the inputs so far, in words. findings: quality remarks.
    """

    id: str
    inputs: Mapping[str, Input]
    truth: Truth = field(default_factory=Truth)
    steps: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


Noun = TypeVar("Noun", Volume, Slide, PatchBag, Profile)


@dataclass(frozen=True, eq=False)
class Reading(Generic[Noun]):
    """What a reader gives: the noun, the sha256 of the bytes it came from, quality findings and steps taken."""

    value: Noun
    digest: str
    findings: tuple[Finding, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Cases as tensors, in the form every model takes; case first everywhere.

    inputs: by modality; a modality that no case has is left out. "mri": float32 (case, slice, neighbour, contrast, y,
    x), neighbour = slice before, this, after; "he": float32 (case, patch, 3, y, x), stain-normalised RGB in [0, 1],
    white = 1; "rna": float32 (case, 1, gene), z-scores. valid: bool (case, slice), (case, patch) or (case, 1) by
    modality; False = padding. present: bool (case,) by modality. geometry: where things lie, as a modality's collate
    adds it. "mri.spacing_mm": (case,), in-plane pixel size. "mri.site_voxel": (case, 3), the biopsy site as continuous
    (slice, y, x) index, 0 where "mri.site_known", bool (case,), is False. "he.patch_mm": (case, patch, 2), patch
    centres (x, y) in mm from the centre of the bag.
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    geometry: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelOutput:
    """What a model says of a Batch before any threshold.

    heads: by task, those of its tasks that this batch lets it answer. "tumour", "bone": logits (case, slice, y, x);
    "malignant": logit (case,); "severity_pct": (case,), equation 4 on the soft maps; "risk": log hazard (case,).
    attention: by name; "cross" (case, slice, h, w) is equation 2's gate in [0, 1] (1 = all MRI), "patch" (case, patch)
    sums to 1 over the valid patches of a case. also: what a model was taught and does not promise, by name: "lesion"
    (benign or malignant) and "destruction" (of cortex), logits (case, slice, y, x); what its extra loss reads.
    """

    heads: Mapping[str, Tensor]
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    also: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceArea:
    """Areas in mm2 of one slice; index counts from 0 along the slice axis of the source image."""

    index: int
    tumour_mm2: float
    bone_mm2: float


@dataclass(frozen=True)
class Answer:
    """One number a model says of a case, in `unit`: value, or None with the reason why there is none.

    low, high: its interval, None until calibrated.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """One model's answer on one case, on the case's own grid.

    answers: by task that gives a number of the case: "malignant" (probability), "severity_pct" (equation 4, in [0,
    100]), "risk" (log hazard); a task the model does not answer has no entry. maps: "tumour", "bone" and "attention",
    float32 (z, y, x) in [0, 1] on the source volume's grid and `affine` (voxel (x, y, z) to RAS+ mm); empty without an
    MRI. Masks in all figures are maps >= 0.5. patch_attention: (patch,), with patch_xy (patch, 2) level-0 px and
    patch_size_px, the patch edge in level-0 px. gate_at_site: equation 2's gate in the cell of the biopsy site, None
    where unregistered. tumour_ml counts tumour inside the bone envelope and out; extraosseous_ml the part outside.
    trained: what the weights were trained on, in words. timings_s: wall-clock seconds by step.
    """

    case_id: str
    model_id: str
    trained: str
    answers: Mapping[str, Answer]
    maps: Mapping[str, FloatArray]
    affine: Affine | None
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

    @property
    def p_malignant(self) -> float | None:
        """Probability of malignancy; None where the model does not judge it."""
        answer = self.answers.get("malignant")
        return None if answer is None else answer.value

    @property
    def severity_pct(self) -> float | None:
        """Severity in [0, 100]; None with `severity_reason`."""
        answer = self.answers.get("severity_pct")
        return None if answer is None else answer.value

    @property
    def severity_reason(self) -> str | None:
        """Why there is no severity; None where there is one."""
        answer = self.answers.get("severity_pct")
        return "this model does not answer severity" if answer is None else answer.reason

    @property
    def severity_interval(self) -> tuple[float, float] | None:
        """The calibrated interval of severity, None where there is none."""
        answer = self.answers.get("severity_pct")
        if answer is None or answer.low is None or answer.high is None:
            return None
        return answer.low, answer.high


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


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same array, read-only: nouns are shared between threads."""
    array.setflags(write=False)
    return array
