"""Each modality of prepared cases as tensors of a Batch: padding, neighbouring slices, and where things lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cmssd_core.cases.site import site_voxel
from cmssd_core.models.spec import PatchSpec, ProfileSpec, VolumeSpec
from cmssd_core.types import Case, PatchBag, Profile, Volume


@dataclass(frozen=True, eq=False, kw_only=True)
class Collated:
    """One modality of some cases in a Batch's form.

    inputs: (case, item, ...), None where no case has it. valid: bool (case, item). present: bool (case,). geometry:
    under names of its own, as said at Batch.
    """

    inputs: Tensor | None
    valid: Tensor
    present: Tensor
    geometry: Mapping[str, Tensor] = field(default_factory=dict)


def collate_volumes(cases: Sequence[Case], spec: VolumeSpec) -> Collated:
    """The cases' volumes as slices with their neighbours; the biopsy site where a slide says it."""
    volumes = [case.inputs.get("mri") for case in cases]
    slices = [v.voxels.shape[1] if isinstance(v, Volume) else 0 for v in volumes]
    valid = _real(slices)
    site, known = torch.zeros(len(cases), 3), torch.zeros(len(cases), dtype=torch.bool)
    spacing = torch.ones(len(cases))
    stack = torch.zeros(len(cases), max(slices), len(spec.contrasts), spec.px, spec.px)
    for row, volume in enumerate(volumes):
        if not isinstance(volume, Volume):
            continue
        stack[row, : slices[row]] = channels(volume, spec.contrasts)
        spacing[row] = volume.spacing_mm[0]
        bag = cases[row].inputs.get("he")
        if isinstance(bag, PatchBag) and bag.site_mm is not None:
            site[row], known[row] = torch.tensor(site_voxel(volume, bag.site_mm)), True
    return Collated(
        inputs=neighbours(stack, valid) if any(slices) else None,
        valid=valid,
        present=torch.tensor(slices) > 0,
        geometry={"mri.spacing_mm": spacing, "mri.site_voxel": site, "mri.site_known": known},
    )


def collate_patches(cases: Sequence[Case], spec: PatchSpec) -> Collated:
    """The cases' patches as RGB in [0, 1], white where there is padding."""
    bags = [case.inputs.get("he") for case in cases]
    patches = [len(bag.patches) if isinstance(bag, PatchBag) else 0 for bag in bags]
    valid = _real(patches)
    patch_mm = torch.zeros(len(cases), valid.shape[1], 2)
    pixels = torch.ones(len(cases), max(patches), 3, spec.px, spec.px)
    for row, bag in enumerate(bags):
        if isinstance(bag, PatchBag):
            pixels[row, : patches[row]] = torch.tensor(bag.patches).permute(0, 3, 1, 2).float() / 255
            patch_mm[row, : patches[row]] = offsets_mm(bag)
    return Collated(
        inputs=pixels if any(patches) else None,
        valid=valid,
        present=torch.tensor(patches) > 0,
        geometry={"he.patch_mm": patch_mm},
    )


def collate_profiles(cases: Sequence[Case], spec: ProfileSpec) -> Collated:
    """The cases' expression, (case, 1, gene)."""
    profiles = [case.inputs.get("rna") for case in cases]
    available = torch.tensor([isinstance(profile, Profile) for profile in profiles])
    values = torch.zeros(len(cases), 1, len(spec.genes))
    for row, profile in enumerate(profiles):
        if isinstance(profile, Profile):
            values[row, 0] = torch.tensor(profile.values)
    return Collated(inputs=values if bool(available.any()) else None, valid=available[:, None], present=available)


def _real(counts: Sequence[int]) -> Tensor:
    """Bool (case, item): what is not padding; at least one column."""
    return torch.arange(max(1, *counts, 1))[None] < torch.tensor(counts)[:, None]


def channels(volume: Volume, contrasts: tuple[str, ...]) -> Tensor:
    """A prepared volume as (slice, contrast, y, x) in the model's order; a contrast that is not there is zeros."""
    out = torch.zeros(volume.voxels.shape[1], len(contrasts), *volume.voxels.shape[2:])
    for channel, name in enumerate(contrasts):
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
