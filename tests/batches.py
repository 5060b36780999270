"""Random batches for tests of models: shapes as types.Batch says, numbers without meaning."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cmssd_core.models.spec import InputSpec, PatchSpec, Spec, VolumeSpec
from cmssd_core.types import Batch

#: MRI and slide as a model of all four contrasts reads them: for tests of parts, which have no spec of their own.
PAIR: Spec = {"mri": VolumeSpec(px=128, spacing_mm=1.5), "he": PatchSpec(px=128)}


def random_batch(
    spec: Spec,
    *,
    cases: int = 2,
    slices: int = 3,
    patches: int = 4,
    px: int = 64,
    site: bool = True,
    seed: int = 0,
) -> Batch:
    """A batch of small random images, or profiles, of the modalities of the spec, with everything present."""
    rng = torch.Generator().manual_seed(seed)
    there = torch.ones(cases, dtype=torch.bool)
    inputs, geometry = {}, {}
    for name, one in spec.items():
        inputs[name] = _inputs(one, cases, slices, patches, px, rng)
        if name == "he":
            geometry["he.patch_mm"] = torch.randn(cases, patches, 2, generator=rng)
        if name == "mri":
            geometry |= {
                "mri.spacing_mm": torch.full((cases,), 1.5),
                "mri.site_voxel": torch.tensor([[1.0, px / 2, px / 3]]).repeat(cases, 1) * site,
                "mri.site_known": there & site,
            }
    return Batch(
        ids=tuple(f"case-{i}" for i in range(cases)),
        inputs=inputs,
        valid={name: there[:, None].repeat(1, given.shape[1]) for name, given in inputs.items()},
        present={name: there.clone() for name in inputs},
        geometry=geometry,
    )


def _inputs(one: InputSpec, cases: int, slices: int, patches: int, px: int, rng: torch.Generator) -> Tensor:
    if isinstance(one, VolumeSpec):
        return torch.randn(cases, slices, 3, len(one.contrasts), px, px, generator=rng)
    if isinstance(one, PatchSpec):
        return torch.rand(cases, patches, 3, px, px, generator=rng)
    return torch.randn(cases, 1, len(one.genes), generator=rng)


def placed(batch: Batch, **geometry: Tensor) -> Batch:
    """The batch with some of its geometry replaced, by names without their modality."""
    names = {"patch_mm": "he.patch_mm", "site_voxel": "mri.site_voxel", "site_known": "mri.site_known"}
    return replace(batch, geometry={**batch.geometry, **{names[name]: value for name, value in geometry.items()}})
