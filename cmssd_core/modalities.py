"""THE table of modalities: name -> file suffixes, how to read and how to prepare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmssd_core.config import Settings
from cmssd_core.models.base import InputSpec
from cmssd_core.mri import prepare as mri_prepare
from cmssd_core.mri import qc as mri_qc
from cmssd_core.mri import read as mri_read
from cmssd_core.slide import patches as slide_patches
from cmssd_core.slide import prepare as slide_prepare
from cmssd_core.slide import read as slide_read
from cmssd_core.types import Finding, PatchBag, Reading, Slide, Volume

Prepared = tuple[Volume | PatchBag, tuple[Finding, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Modality:
    """One kind of input. read gives a Reading; prepare takes its noun, the model's InputSpec and the settings."""

    label: str
    suffixes: tuple[str, ...]
    read: Callable[..., Reading[Any]]
    describe: Callable[[Path], dict[str, Any]]
    prepare: Callable[[Any, InputSpec, Settings], Prepared]


def _prepare_mri(volume: Volume, spec: InputSpec, settings: Settings) -> Prepared:
    wanted = mri_prepare.MriSettings(size_px=spec.mri_px, spacing_mm=spec.mri_spacing_mm, n4=settings.n4)
    prepared, findings, steps = mri_prepare.prepare(volume, settings=wanted)
    return prepared, (*mri_qc.check(volume), *findings), steps


def _prepare_he(slide: Slide, spec: InputSpec, settings: Settings) -> Prepared:
    wanted = slide_patches.PatchSettings(patch_px=spec.patch_px, mpp=spec.patch_mpp, max_patches=settings.max_patches)
    return slide_prepare.prepare(slide, patch_settings=wanted, backend=settings.stain_backend)


MODALITIES = {
    "mri": Modality(
        label="MRI",
        suffixes=(".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm", ".zip"),
        read=mri_read.read,
        describe=mri_read.describe,
        prepare=_prepare_mri,
    ),
    "he": Modality(
        label="H&E slide",
        suffixes=(".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".dcm", ".png", ".jpg", ".jpeg"),
        read=slide_read.read,
        describe=slide_read.describe,
        prepare=_prepare_he,
    ),
}
