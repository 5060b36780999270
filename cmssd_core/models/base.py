"""The contract of a model: what it needs, what it produces, and one forward from Batch to ModelOutput."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from cmssd_core.types import Batch, ModelOutput


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How inputs must be prepared for a model; stored with its weights.

    contrasts: MRI contrasts in channel order; a missing one is a channel of zeros.
    mri_px, mri_spacing_mm: a slice is mri_px square at this spacing, or coarser where its field of view is larger.
    patch_px, patch_mpp: H&E patches are patch_px square at patch_mpp microns a pixel.
    """

    contrasts: tuple[str, ...] = ("t1", "t2", "stir", "adc")
    mri_px: int = 256
    mri_spacing_mm: float = 1.0
    patch_px: int = 256
    patch_mpp: float = 1.0


class Model(nn.Module):
    """Base of every model in MODELS.

    needs: modalities in the order attribution methods get them. optional: those that may be missing (not all at
    once). produces: names of the ModelOutput fields that are filled. judges_damage: says how damaged its inputs look.
    """

    needs: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]]
    produces: ClassVar[tuple[str, ...]]
    sizes: ClassVar[tuple[str, ...]]
    judges_damage: ClassVar[bool] = False
    spec: InputSpec

    def __init__(self, size: str = "reference") -> None:
        super().__init__()

    def fit_start(self, batch: Batch) -> None:
        """Fit what the start of training takes from training data; nothing unless a model says otherwise."""

    def damage(self, batch: Batch) -> Tensor:
        """How damaged the MRI and the slide look, (case, 2) as logits; only where the model judges that."""
        raise NotImplementedError(f"{type(self).__name__} does not judge damage")

    def forward(self, batch: Batch) -> ModelOutput:
        """The forward that predicts is the forward that is explained."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")
