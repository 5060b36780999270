"""Three models the house must take without a fake: a map alone, a slide's survival, an RNA profile as third input.

Each is what an addition costs: one class and one row of MODELS. They learn nothing worth knowing.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from cmssd_core.models import MODELS
from cmssd_core.models.base import Model, check_present
from cmssd_core.models.spec import PatchSpec, ProfileSpec, VolumeSpec
from cmssd_core.models.weights import WeightsInfo, save
from cmssd_core.types import Batch, ModelOutput

GENES = ("TP53", "RB1", "MYC")
PX = 64


class SegmentOnly(Model):
    """A tumour map from T1 and CT, and nothing else."""

    needs: ClassVar[tuple[str, ...]] = ("mri",)
    optional: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("tumour",)
    sizes: ClassVar[tuple[str, ...]] = ("only",)

    def __init__(self, size: str = "only") -> None:
        super().__init__(size)
        self.spec = {"mri": VolumeSpec(contrasts=("t1", "ct"), px=PX, spacing_mm=3.0)}
        self.maps = nn.Sequential(nn.Conv2d(3 * 2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, batch: Batch) -> ModelOutput:
        """Logits of the tumour. Raises InputError if a case has no volume."""
        check_present(batch, self.spec, optional=self.optional)
        slices = batch.inputs["mri"]  # (case, slice, neighbour, contrast, y, x)
        maps = self.maps(slices.flatten(2, 3).flatten(0, 1)).squeeze(1)
        return ModelOutput(heads={"tumour": maps.unflatten(0, slices.shape[:2])})


def pooled(features: Tensor, valid: Tensor) -> Tensor:
    """(case, item, width) and bool (case, item) -> the mean over what is not padding, (case, width)."""
    return (features * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


class SlideSurvival(Model):
    """A log hazard from the slide alone."""

    needs: ClassVar[tuple[str, ...]] = ("he",)
    optional: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("risk",)
    sizes: ClassVar[tuple[str, ...]] = ("only",)

    def __init__(self, size: str = "only") -> None:
        super().__init__(size)
        self.spec = {"he": PatchSpec(px=PX, mpp=2.0)}
        self.phi = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU())
        self.hazard = nn.Linear(8, 1)

    def forward(self, batch: Batch) -> ModelOutput:
        """Log hazard (case,). Raises InputError if a case has no slide."""
        check_present(batch, self.spec, optional=self.optional)
        patches = batch.inputs["he"]
        features = self.phi(patches.flatten(0, 1)).mean((2, 3)).unflatten(0, patches.shape[:2])
        return ModelOutput(heads={"risk": self.hazard(pooled(features, batch.valid["he"])).squeeze(1)})


class RnaThird(Model):
    """Malignancy from an MRI, a slide and a profile, any of which may be missing."""

    needs: ClassVar[tuple[str, ...]] = ("mri", "he", "rna")
    optional: ClassVar[tuple[str, ...]] = ("mri", "he", "rna")
    tasks: ClassVar[tuple[str, ...]] = ("malignant",)
    sizes: ClassVar[tuple[str, ...]] = ("only",)

    def __init__(self, size: str = "only") -> None:
        super().__init__(size)
        self.spec = {
            "mri": VolumeSpec(contrasts=("t1", "t2"), px=PX, spacing_mm=3.0),
            "he": PatchSpec(px=PX, mpp=2.0),
            "rna": ProfileSpec(genes=GENES),
        }
        self.phi_mri = nn.Sequential(nn.Conv2d(3 * 2, 8, 8, stride=8), nn.ReLU())
        self.phi_he = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU())
        self.phi_rna = nn.Linear(len(GENES), 8)
        self.malignancy = nn.Linear(8, 1)

    def forward(self, batch: Batch) -> ModelOutput:
        """Malignancy (case,). Raises InputError if a case has nothing."""
        check_present(batch, self.spec, optional=self.optional)
        total = torch.zeros(len(batch.ids), 8)
        for name, images in batch.inputs.items():
            if name == "rna":
                seen = self.phi_rna(images[:, 0])
            else:
                flat = images.flatten(2, 3) if name == "mri" else images
                encoder = self.phi_mri if name == "mri" else self.phi_he
                features = encoder(flat.flatten(0, 1)).mean((2, 3)).unflatten(0, images.shape[:2])
                seen = pooled(features, batch.valid[name])
            total = total + seen * batch.present[name][:, None]
        return ModelOutput(heads={"malignant": self.malignancy(total).squeeze(1)})


TOYS: dict[str, type[Model]] = {"segment_only": SegmentOnly, "slide_survival": SlideSurvival, "rna_third": RnaThird}


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give MODELS its three rows, for one test."""
    for name, kind in TOYS.items():
        monkeypatch.setitem(MODELS, name, kind)


def save_toy(name: str, folder: Path) -> Path:
    """Random weights of a toy; it must be registered to be loaded."""
    torch.manual_seed(1)
    model = TOYS[name]("only")
    path = folder / f"{name}.safetensors"
    info = WeightsInfo(model=name, size="only", trained="nothing: random weights for tests", spec=model.spec)
    save(model, path, info=info)
    return path
