"""Files become a Case, a Case is prepared for a model, prepared Cases become a Batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmssd_core.config import Settings
from cmssd_core.modalities import MODALITIES
from cmssd_core.models.base import InputSpec
from cmssd_core.types import Batch, Case, Finding, InputError, PatchBag, Slide, Volume

Site = tuple[float, float, float]


def admit(
    *,
    mri: Path | None = None,
    contrasts: Mapping[str, Path] | None = None,
    he: Path | None = None,
    mpp: float | None = None,
    site_mm: Site | None = None,
    unpacked_limit_mb: int = 4096,
) -> Case:
    """Read one patient's files. Either modality may be left out, not both.

    mri: file, DICOM folder or zip; contrasts: name -> such a path. he: slide or tile; mpp: its microns per level-0
    pixel where the file does not say. site_mm: where the biopsy was taken, RAS+ mm. Raises InputError.
    """
    inputs: dict[str, Volume | Slide | PatchBag] = {}
    digests: list[str] = []
    findings: list[Finding] = []
    steps: list[str] = []
    if mri is not None or contrasts:
        volume = MODALITIES["mri"].read(mri, contrasts=contrasts or None, unpacked_limit_mb=unpacked_limit_mb)
        inputs["mri"] = volume.value
        digests.append(f"mri:{volume.digest}")
        findings += volume.findings
        steps += volume.steps
    if he is not None:
        slide = MODALITIES["he"].read(he, mpp=mpp, site_mm=site_mm)
        inputs["he"] = slide.value
        digests.append(f"he:{slide.digest}")
        findings += slide.findings
        steps += slide.steps
    if not inputs:
        raise InputError("neither an MRI nor an H&E slide came; expected at least one of them; add --mri or --he")
    if he is None and not (mpp is None and site_mm is None):
        raise InputError("microns per pixel or a biopsy site came without a slide; add --he, or leave them out")
    identity = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    case = Case(identity, inputs, steps=tuple(steps))
    return replace(case, findings=(*findings, *_check_site(case)))


def site_voxel(volume: Volume, site_mm: Site) -> tuple[float, float, float]:
    """The biopsy site, RAS+ mm, as a continuous (z, y, x) index of the volume."""
    x, y, z = np.linalg.solve(volume.affine[:3, :3], np.asarray(site_mm) - volume.affine[:3, 3])
    return float(z), float(y), float(x)


def registered(case: Case) -> bool:
    """Whether the slide has a place on the MRI: a biopsy site that lies inside the scan as it came."""
    volume, slide = case.inputs.get("mri"), case.inputs.get("he")
    if not isinstance(volume, Volume) or not isinstance(slide, Slide) or slide.site_mm is None:
        return False
    voxel = site_voxel(volume, slide.site_mm)
    return all(-0.5 <= v <= n - 0.5 for v, n in zip(voxel, volume.voxels.shape[1:], strict=True))


def _check_site(case: Case) -> list[Finding]:
    slide = case.inputs.get("he")
    if not isinstance(slide, Slide) or slide.site_mm is None or registered(case):
        return []
    if "mri" not in case.inputs:
        return [Finding("warning", "a biopsy site came without an MRI and is not used", "site")]
    return [Finding("severe", "the biopsy site lies outside the MRI; the slide is treated as unregistered", "site")]


def prepare(case: Case, *, spec: InputSpec, settings: Settings) -> Case:
    """The case with its inputs as a model of this spec wants them: a z-scored Volume, a stain-normalised PatchBag.

    What was done is added to steps, what was noticed to findings. Raises InputError where an input cannot be used.
    """
    inputs: dict[str, Volume | Slide | PatchBag] = {}
    steps, findings = list(case.steps), list(case.findings)
    for name, value in case.inputs.items():
        prepared, noticed, done = MODALITIES[name].prepare(value, spec, settings)
        if isinstance(prepared, PatchBag) and not registered(case):
            prepared = replace(prepared, site_mm=None)
        inputs[name] = prepared
        findings += [finding for finding in noticed if finding not in findings]
        steps += done
    return replace(case, inputs=inputs, steps=tuple(steps), findings=tuple(findings))


def collate(cases: Sequence[Case], spec: InputSpec) -> Batch:
    """Prepared cases as one Batch; slices and patches are padded to the longest, a missing modality is all padding."""
    volumes = [case.inputs.get("mri") for case in cases]
    bags = [case.inputs.get("he") for case in cases]
    inputs: dict[str, Tensor] = {}
    valid: dict[str, Tensor] = {}
    site = torch.zeros(len(cases), 3)
    spacing = torch.ones(len(cases))
    placed = torch.zeros(len(cases), dtype=torch.bool)
    slices = [v.voxels.shape[1] if isinstance(v, Volume) else 0 for v in volumes]
    patches = [len(b.patches) if isinstance(b, PatchBag) else 0 for b in bags]
    valid["mri"] = torch.arange(max(1, *slices, 1))[None] < torch.tensor(slices)[:, None]
    valid["he"] = torch.arange(max(1, *patches, 1))[None] < torch.tensor(patches)[:, None]
    if any(slices):
        stack = torch.zeros(len(cases), max(slices), len(spec.contrasts), spec.mri_px, spec.mri_px)
        for row, volume in enumerate(volumes):
            if isinstance(volume, Volume):
                stack[row, : slices[row]] = channels(volume, spec)
                spacing[row] = volume.spacing_mm[0]
        inputs["mri"] = neighbours(stack, valid["mri"])
    patch_mm = torch.zeros(len(cases), valid["he"].shape[1], 2)
    if any(patches):
        pixels = torch.ones(len(cases), max(patches), 3, spec.patch_px, spec.patch_px)
        for row, bag in enumerate(bags):
            if not isinstance(bag, PatchBag):
                continue
            pixels[row, : patches[row]] = torch.tensor(bag.patches).permute(0, 3, 1, 2).float() / 255
            patch_mm[row, : patches[row]] = offsets_mm(bag)
            volume = volumes[row]
            if bag.site_mm is not None and isinstance(volume, Volume):
                site[row] = torch.tensor(site_voxel(volume, bag.site_mm))
                placed[row] = True
        inputs["he"] = pixels
    present = {"mri": torch.tensor(slices) > 0, "he": torch.tensor(patches) > 0, "site": placed}
    return Batch(tuple(case.id for case in cases), inputs, valid, present, patch_mm, site, spacing)


def channels(volume: Volume, spec: InputSpec) -> Tensor:
    """A prepared volume as (slice, contrast, y, x) in the model's order; a contrast that is not there is zeros."""
    out = torch.zeros(volume.voxels.shape[1], len(spec.contrasts), *volume.voxels.shape[2:])
    for channel, name in enumerate(spec.contrasts):
        if name in volume.contrasts:
            out[:, channel] = torch.tensor(volume.voxels[volume.contrasts.index(name)])
    return out


def neighbours(stack: Tensor, valid: Tensor) -> Tensor:
    """(case, slice, contrast, y, x) -> (case, slice, 3, contrast, y, x): the slice before, this one, the one after.

    At the ends of a volume the slice itself stands in for the missing neighbour; padding never leaks in.
    """
    index = torch.arange(stack.shape[1])
    last = (valid.sum(1) - 1).clamp(min=0)
    rows = torch.arange(len(stack))[:, None]
    before = stack[rows, (index - 1).clamp(min=0)[None].expand(len(stack), -1)]
    after = stack[rows, torch.minimum((index + 1)[None], last[:, None]).clamp(min=0)]
    return torch.stack([before, stack, after], dim=2)


def offsets_mm(bag: PatchBag) -> Tensor:
    """Patch centres in mm from the centre of the bag, (patch, 2) as x right, y down on the slide."""
    xy = torch.tensor(bag.xy, dtype=torch.float32)
    return (xy - xy.mean(dim=0)) * bag.slide_mpp / 1000.0
