"""Late averaging: one network for the MRI, one for the slide, and the mean of their two probabilities.

The baseline of two diagnostic "silos" (seed paper 000, section 1) whose answers are put together at the end. The
encoders are CM-SSD's; the branches share nothing. Tumour is lesion times malignant, as in CM-SSD, with the averaged
probability. Training goes through the average; the stages with one modality and modality dropout teach each branch by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cmssd_core.blocks.branches import head, mri_alone, slide_alone
from cmssd_core.blocks.encoders import HEEncoder, MRIEncoder
from cmssd_core.blocks.layers import AttentionPool, Trunk
from cmssd_core.blocks.maps import SIGNS, Decoder, finish
from cmssd_core.blocks.passes import NEIGHBOURS, flat_slices, real_patches
from cmssd_core.models.base import Model, check_present
from cmssd_core.models.cmssd import CONFIGS, SPECS
from cmssd_core.models.spec import contrasts_of
from cmssd_core.types import Batch, ModelOutput


class Late(Model):
    """Two independent branches; a missing modality leaves the other's answer as it is."""

    needs: ClassVar[tuple[str, ...]] = ("mri", "he")
    optional: ClassVar[tuple[str, ...]] = ("mri", "he")
    tasks: ClassVar[tuple[str, ...]] = ("tumour", "bone", "malignant", "severity_pct")
    sizes: ClassVar[tuple[str, ...]] = tuple(CONFIGS)
    encoders: ClassVar[Mapping[str, str]] = {"mri": "phi_mri", "he": "phi_he"}
    slow: ClassVar[tuple[str, ...]] = ("phi_he.",)

    def __init__(self, size: str = "reference") -> None:
        super().__init__(size)
        config = CONFIGS[size]
        self.spec = SPECS[size]
        channels = NEIGHBOURS * len(contrasts_of(SPECS[size]))
        trunk = Trunk(channels, config.mri_widths, config.depths)
        width = self.width = config.fused
        self.phi_mri = MRIEncoder(trunk, config.mri_widths, width)
        self.pool_cells = AttentionPool(width, width // 2)
        self.decoder = Decoder(channels, fused=width, widths=config.decoder, context=width)
        self.malignancy_mri = head(2 * width + SIGNS, width)
        self.phi_he = HEEncoder(config.he_widths, config.depths, width)
        self.pool_patches = AttentionPool(width, width // 2)
        self.malignancy_he = head(width, width)

    def fit_start(self, batch: Batch) -> None:
        """Start the H&E projection on the scale of the batch's patches, as CM-SSD does."""
        if (patches := real_patches(batch)) is not None:
            self.phi_he.standardise(patches)

    def forward(self, batch: Batch) -> ModelOutput:
        """Without any MRI in the batch there are no maps. Raises InputError if a case has neither modality."""
        check_present(batch, self.spec, optional=self.optional)
        flat = flat_slices(batch)
        from_slide, weights = slide_alone(
            batch, phi_he=self.phi_he, pool=self.pool_patches, malignancy=self.malignancy_he, width=self.width
        )
        attention = {"patch": weights}
        if flat is None:
            return ModelOutput(heads={"malignant": from_slide}, attention=attention)
        maps, from_mri = mri_alone(
            flat,
            batch,
            phi_mri=self.phi_mri,
            pool=self.pool_cells,
            decoder=self.decoder,
            malignancy=self.malignancy_mri,
        )
        malignant = torch.where(batch.present["he"], average_logits(from_mri, from_slide), from_mri)
        malignant = torch.where(batch.present["mri"], malignant, from_slide)
        return finish(maps, malignant, batch, attention=attention)


def average_logits(one: Tensor, other: Tensor) -> Tensor:
    """Logit of the mean of two probabilities given as logits."""
    p = torch.logaddexp(F.logsigmoid(one), F.logsigmoid(other)) - math.log(2)
    not_p = torch.logaddexp(F.logsigmoid(-one), F.logsigmoid(-other)) - math.log(2)
    return p - not_p
