"""A small examination with a known tumour: phantoms for the tests of report, views, pages and browser."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image

from cmssd_core.models import MODELS
from cmssd_core.models.weights import WeightsInfo, save
from cmssd_core.types import Answer, Case, Finding, Prediction, SliceArea, Slide, Volume, frozen

SHAPE = (12, 96, 80)  # z, y, x
SPACING = (1.2, 0.8, 4.0)  # x, y, z in mm: anisotropic in the plane on purpose
SITE_MM = (8.0, -4.0, 2.0)


def affine(*, tilt_deg: float = 8.0) -> np.ndarray:
    """An oblique axial grid in RAS+ mm, x towards the patient's left as most scanners store it."""
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([-1.0, -1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(SPACING)
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2)
    return matrix


def _mm() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
    return x * SPACING[0], y * SPACING[1], z * SPACING[2]


def volume(*, contrasts: tuple[str, ...] = ("t1", "t2")) -> Volume:
    """A leg: fat, muscle, a bone with marrow and a dark lesion that breaks out of it."""
    x, y, z = _mm()
    rng = np.random.default_rng(7)
    leg = x**2 + y**2 < 34**2
    muscle = x**2 + y**2 < 29**2
    bone = (x - 4) ** 2 + (y + 3) ** 2 < 13**2
    marrow = (x - 4) ** 2 + (y + 3) ** 2 < 10.5**2
    lesion = (x - 10) ** 2 + (y + 4) ** 2 + z**2 < 9.5**2
    layers = []
    for fat, flesh, cortex, inside, sick in ((900, 420, 90, 780, 330), (700, 260, 80, 600, 950)):
        image = np.zeros(SHAPE)
        for mask, value in ((leg, fat), (muscle, flesh), (bone, cortex), (marrow, inside), (lesion, sick)):
            image[mask] = value
        layers.append(np.abs(image * (1 + 0.12 * y / 40) + rng.normal(0, 22, SHAPE)))
    voxels = np.stack(layers[: len(contrasts)]).astype(np.float32)
    return Volume(frozen(voxels), frozen(affine()), contrasts)


def tile(*, side: int = 512, seed: int = 3) -> bytes:
    """An H&E-like tile as PNG: pink ground, dark nuclei, some white."""
    rng = np.random.default_rng(seed)
    ground = np.array([228, 165, 200.0]) + rng.normal(0, 9, (side, side, 1))
    y, x = np.mgrid[:side, :side]
    for cy, cx, r in zip(*rng.uniform(0, side, (2, 420)), rng.uniform(3, 7, 420), strict=True):
        box = np.s_[max(0, int(cy - 8)) : int(cy + 9), max(0, int(cx - 8)) : int(cx + 9)]
        ground[box][((y[box] - cy) ** 2 + (x[box] - cx) ** 2) < r**2] = (96, 58, 142)
    ground[(y - side * 0.9) ** 2 + (x - side * 0.1) ** 2 < (side * 0.22) ** 2] = 245
    out = BytesIO()
    Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def weights(folder: Path, *, size: str = "compact") -> Path:
    """Random weights of CM-SSD: they prove that everything runs, and nothing else."""
    torch.manual_seed(0)
    model = MODELS["cmssd"](size)
    info = WeightsInfo(model="cmssd", size=size, trained="nothing: random weights for tests", spec=model.spec)
    save(model, folder / "random.safetensors", info=info)
    return folder / "random.safetensors"


def dicom(folder: Path) -> list[Path]:
    """The phantom's T1 as DICOM slices with a patient's name in each."""
    shown, files = volume(), []
    lps = np.diag([-1, -1, 1]) @ shown.affine[:3]
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, plane in enumerate(shown.voxels[0]):
        image = sitk.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing([1.2, 0.8, 4.0])
        position = lps @ [0, 0, index, 1]
        tags = {
            "0008|0060": "MR", "0008|103e": "T1 TSE tra", "0010|0010": "Mueller^Anna", "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4", "0008|0018": f"1.2.3.4.{index + 1}", "0020|0013": str(index + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position), "0018|0050": "4.0",
            "0020|0037": "\\".join(f"{v:.6f}" for v in (*(lps[:, 0] / 1.2), *(lps[:, 1] / 0.8))),
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        path = folder / f"Mueller_{index}.dcm"
        writer.SetFileName(str(path))
        writer.Execute(image)
        files.append(path)
    return files


def nifti(path: Path, *, contrast: str = "t1") -> Path:
    """Writes one contrast of the phantom as NIfTI."""
    shown = volume()
    layer = shown.voxels[shown.contrasts.index(contrast)]
    nibabel.save(nibabel.Nifti1Image(layer.transpose(2, 1, 0), shown.affine), path)
    return path


def case(folder: Path, *, mri: bool = True, he: bool = True, site: bool = True) -> Case:
    """The phantom as a Case; the slide is a PNG tile in `folder`."""
    inputs: dict[str, Volume | Slide] = {}
    if mri:
        inputs["mri"] = volume()
    if he:
        path = folder / "tile.png"
        path.write_bytes(tile())
        inputs["he"] = Slide(path, ((512, 512),), 0.5, SITE_MM if site else None)
    return Case("3f9a" * 16, inputs, steps=("reads what the phantom is",))


def answers(
    *,
    p_malignant: float | None = 0.8137,
    severity_pct: float | None = 37.25,
    severity_interval: tuple[float, float] | None = None,
    severity_reason: str | None = "no MRI was given, and severity is a share of the bone it shows",
) -> dict[str, Answer]:
    """Malignancy and severity as a model answers them; p_malignant None = not a word about malignancy."""
    low, high = severity_interval or (None, None)
    reason = severity_reason if severity_pct is None else None
    said = {} if p_malignant is None else {"malignant": Answer(p_malignant, "")}
    return said | {"severity_pct": Answer(severity_pct, "%", low=low, high=high, reason=reason)}


def answering(one: Prediction, **changed: Any) -> Prediction:
    """The prediction with other numbers, named as `answers` names them; those that are not named stay."""
    was = {name: getattr(one, name) for name in ("p_malignant", "severity_pct", "severity_interval", "severity_reason")}
    return replace(one, answers={**one.answers, **answers(**(was | changed))})


def prediction(*, mri: bool = True, he: bool = True, site: bool = True) -> Prediction:
    """What a model might say of the phantom."""
    x, y, z = _mm()
    maps, slices = {}, ()
    if mri:
        distance = np.sqrt((x - 10) ** 2 + (y + 4) ** 2 + z**2)
        tumour = 1 / (1 + np.exp((distance - 9.5) / 1.2))
        bone = 1 / (1 + np.exp((np.sqrt((x - 4) ** 2 + (y + 3) ** 2) - 13) / 0.8))
        gate = np.kron(np.random.default_rng(5).uniform(0.2, 0.9, (12, 12, 10)), np.ones((1, 8, 8)))
        maps = {
            name: frozen(grid.astype(np.float32))
            for name, grid in (("tumour", tumour), ("bone", bone), ("attention", gate))
        }
        pixel = SPACING[0] * SPACING[1]
        slices = tuple(
            SliceArea(n, float((t >= 0.5).sum() * pixel), float((b >= 0.5).sum() * pixel))
            for n, (t, b) in enumerate(zip(maps["tumour"], maps["bone"], strict=True))
        )
    xy = np.array([(c, r) for r in range(0, 512, 128) for c in range(0, 512, 128)][:13], np.int64)
    weights = np.random.default_rng(1).dirichlet(np.ones(13)).astype(np.float32)
    return Prediction(
        case_id="3f9a" * 16,
        model_id="gated-compact-0123456789ab",
        trained="a phantom: never trained",
        answers=answers(severity_pct=37.25 if mri else None),
        maps=maps,
        affine=affine() if mri else None,
        tier="moderate" if mri else None,
        uncertainty=None,
        tumour_ml=3.4 if mri else None,
        bone_ml=25.1 if mri else None,
        extraosseous_ml=0.7 if mri else None,
        slices=slices,
        patch_attention=frozen(weights) if he else None,
        patch_xy=frozen(xy) if he else None,
        patch_size_px=128.0 if he else None,
        gate_at_site=0.62 if mri and he and site else None,
        gate_mean=0.55 if mri and he else None,
        quality=(
            Finding("info", "the slide is a single tile", "slide"),
            Finding("warning", "slices are 4 mm thick, in-plane pixels 0.8 mm", "mri t1"),
        ),
        steps=("t1 resampled to 1 mm in plane", "bias field corrected (N4)", "z-score over the foreground"),
        timings_s={"prepare": 0.42, "predict": 0.18},
    )
