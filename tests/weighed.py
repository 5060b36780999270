"""A model whose every pixel has a known weight."""

from __future__ import annotations

import torch
from torch import nn

from cmssd_core.batches import device_of
from cmssd_core.models.base import Model
from cmssd_core.models.spec import PatchSpec, VolumeSpec
from cmssd_core.types import Batch, ModelOutput


class Weighed(Model):
    """A sum of pixels, each by its weight, to a power: what every method must say of it is known by hand."""

    needs = ("mri", "he")
    optional = ("mri", "he")
    tasks = ("malignant",)
    sizes = ("only",)

    def __init__(self, power: int = 1, px: int = 32, slices: int = 2, patches: int = 2) -> None:
        super().__init__()
        self.spec = {"mri": VolumeSpec(contrasts=("t1", "t2"), px=px, spacing_mm=1.0), "he": PatchSpec(px=px)}
        rng = torch.Generator().manual_seed(3)
        self.mri = nn.Parameter(torch.randn(slices, 2, px, px, generator=rng) / px)
        self.he = nn.Parameter(torch.randn(patches, 3, px, px, generator=rng) / px)
        self.power = power

    def forward(self, batch: Batch) -> ModelOutput:
        out = torch.zeros(len(batch.ids), device=device_of(batch))
        if "mri" in batch.inputs:
            out = out + (batch.inputs["mri"][:, :, 1] ** self.power * self.mri).flatten(1).sum(1)
        if "he" in batch.inputs:
            out = out + (batch.inputs["he"] ** self.power * self.he).flatten(1).sum(1)
        return ModelOutput(heads={"malignant": out})
