"""Early concatenation: CM-SSD's encoders, their features side by side, no gate and no mapping.

The baseline that shows what the gate (equations 2 and 3) and patch-to-region mapping (section 2.6) of seed paper 000
add: the slide's pooled vector lies in every cell beside F_MRI, and a 1x1 convolution mixes the two. All else is
CM-SSD's. With 1x1 cells the answer does not depend on the grid, so a case without MRI needs no grid of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from cmssd_core.blocks.branches import head, judge
from cmssd_core.blocks.encoders import HEEncoder, MRIEncoder
from cmssd_core.blocks.layers import AttentionPool, ConvNormReLU, Trunk
from cmssd_core.blocks.maps import SIGNS, Decoder, decode, finish, signs
from cmssd_core.blocks.passes import NEIGHBOURS, encode_bag, encode_slices, flat_slices, pool_cells, real_patches
from cmssd_core.models.base import Model, check_present
from cmssd_core.models.cmssd import CONFIGS, SPECS
from cmssd_core.models.spec import contrasts_of
from cmssd_core.types import Batch, ModelOutput


class Early(Model):
    """Both modalities' features concatenated channel by channel before one decoder and one head."""

    needs: ClassVar[tuple[str, ...]] = ("mri", "he")
    optional: ClassVar[tuple[str, ...]] = ("mri", "he")
    tasks: ClassVar[tuple[str, ...]] = ("tumour", "bone", "malignant", "severity_pct")
    sizes: ClassVar[tuple[str, ...]] = tuple(CONFIGS)
    encoders: ClassVar[Mapping[str, str]] = {"mri": "phi_mri", "he": "phi_he"}
    fused: ClassVar[str | None] = "pool_fused"
    slow: ClassVar[tuple[str, ...]] = ("phi_he.",)

    def __init__(self, size: str = "reference") -> None:
        super().__init__(size)
        config = CONFIGS[size]
        self.spec = SPECS[size]
        self.width = config.fused
        channels = NEIGHBOURS * len(contrasts_of(SPECS[size]))
        trunk = Trunk(channels, config.mri_widths, config.depths)
        self.phi_mri = MRIEncoder(trunk, config.mri_widths, self.width)
        self.phi_he = HEEncoder(config.he_widths, config.depths, self.width)
        self.pool_patches = AttentionPool(self.width, self.width // 2)
        self.join = ConvNormReLU(2 * self.width, self.width, kernel=1)
        self.pool_fused = AttentionPool(self.width, self.width // 2)
        self.decoder = Decoder(channels, fused=self.width, widths=config.decoder, context=self.width)
        self.malignancy = head(2 * self.width + SIGNS, self.width)

    def fit_start(self, batch: Batch) -> None:
        """Start the H&E projection on the scale of the batch's patches, as CM-SSD does."""
        if (patches := real_patches(batch)) is not None:
            self.phi_he.standardise(patches)

    def forward(self, batch: Batch) -> ModelOutput:
        """A modality that is missing has zero features; without any MRI in the batch there are no maps.

        Raises InputError if a case has neither modality.
        """
        check_present(batch, self.spec, optional=self.optional)
        flat = flat_slices(batch)
        bag = encode_bag(self.phi_he, self.pool_patches, batch, width=self.width)
        fused = self._concatenate(None if flat is None else encode_slices(self.phi_mri, flat, batch), bag.pooled)
        valid = batch.valid["mri"] if flat is not None else batch.present["he"][:, None]
        valid = valid | ~batch.present["mri"][:, None]  # without MRI, the map still speaks for the slide
        context = pool_cells(self.pool_fused, fused, valid)
        attention = {"patch": bag.weights}
        if flat is None:
            return ModelOutput(heads={"malignant": judge(self.malignancy, context)}, attention=attention)
        maps = decode(self.decoder, fused, context[:, : self.width], flat)
        return finish(maps, judge(self.malignancy, context, signs(maps, batch)), batch, attention=attention)

    def _concatenate(self, f_mri: Tensor | None, pooled: Tensor) -> Tensor:
        """F_MRI (case * slice, width, h, w) or None, pooled (case, width) -> (case * slice, width, h, w)."""
        if f_mri is None:
            f_mri = torch.zeros_like(pooled)[:, :, None, None]
        f_he = pooled.repeat_interleave(len(f_mri) // len(pooled), dim=0)[:, :, None, None].expand_as(f_mri)
        out: Tensor = self.join(torch.cat([f_mri, f_he.to(f_mri.dtype)], dim=1))
        return out
