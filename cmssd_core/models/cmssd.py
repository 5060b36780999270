"""CM-SSD: cross-modal spatial-semantic fusion of an MRI and an H&E slide (seed paper 000, equations 1 to 5).

Read it beside the paper: Adit and Priya, "Cross-Model Spatial-Semantic Fusion", IJERST 4(2), 2026. Symbols in the
code are the paper's. "Diffusion" in the network's name has no equation in the paper, so nothing is built for it.

Where the paper is silent we decided:
- Section 2.2 says the encoders keep space and meaning. The MRI encoder joins its stages top-down (Lin et al., CVPR
  2017) into one map at stride 4; the H&E encoder gives one vector a patch.
- Section 2.6 asks for a learnable affine matrix that lays patches on the MRI. A biopsy core covers millimetres, an
  MRI slice tens of centimetres, so the matrix acts on patch positions in mm around the biopsy site, at stride 4;
  cells no patch reaches get the bag's pooled vector, and so do all cells where no site is known.
- Equation 4 needs A_bone, so the decoder has a second map: the envelope of the affected bone.
- Tumour means malignant tumour. Whether tissue is malignant is a statement about the patient, not about a voxel, so
  the decoder maps the lesion, benign or malignant, and P(tumour here) = P(lesion here) P(malignant).
- Section 3.7 says that the gate turns to the MRI where the slide is damaged. Group-normalised features hardly show
  damage, so the concatenation of equation 2 has two more channels: how damaged either input looks (blocks/damage.py).
- The malignancy head reads the fused vector pooled over all slices and two signs a radiologist measures on the maps:
  how sure the decoder is of destroyed cortex, and of lesion outside the bone, where it is surest (`signs`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmssd_core.blocks.branches import head, judge
from cmssd_core.blocks.damage import Damage, damages, shown
from cmssd_core.blocks.encoders import HEEncoder, MRIEncoder
from cmssd_core.blocks.layers import AttentionPool, Trunk
from cmssd_core.blocks.maps import SIGNS, Decoder, decode, finish, signs
from cmssd_core.blocks.passes import (
    NEIGHBOURS,
    check_present,
    encode_bag,
    encode_slices,
    flat_slices,
    pool_cells,
)
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.types import Batch, ModelOutput

STRIDE = 4  # of the grid on which the modalities meet
LEAN = 1.5  # how much a wholly damaged input moves the logit of the gate when training starts


@dataclass(frozen=True, kw_only=True)
class CMSSDConfig:
    """Widths of one size of the network; the code is the same for all."""

    mri_widths: tuple[int, int, int, int]
    he_widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    fused: int  # channels of F_MRI, F_H&E and F_fused
    decoder: tuple[int, int, int]  # channels at strides 4, 2, 1


CONFIGS = {
    "reference": CMSSDConfig(
        mri_widths=(64, 128, 256, 512),
        he_widths=(64, 128, 256, 552),
        depths=(2, 2, 2, 2),
        fused=128,
        decoder=(104, 64, 16),
    ),
    "compact": CMSSDConfig(
        mri_widths=(24, 48, 80, 128),
        he_widths=(24, 48, 96, 144),
        depths=(2, 2, 2, 2),
        fused=64,
        decoder=(64, 32, 16),
    ),
    "tiny": CMSSDConfig(  # trains in minutes: for tests of the audit, not for patients
        mri_widths=(8, 12, 16, 24),
        he_widths=(8, 12, 16, 24),
        depths=(1, 1, 1, 1),
        fused=16,
        decoder=(12, 8, 8),
    ),
}
SPECS = {
    "reference": InputSpec(mri_px=256, mri_spacing_mm=1.0, patch_px=256, patch_mpp=1.0),
    "compact": InputSpec(mri_px=128, mri_spacing_mm=1.5, patch_px=128, patch_mpp=1.0),
    "tiny": InputSpec(contrasts=("t1", "t2"), mri_px=64, mri_spacing_mm=3.0, patch_px=64, patch_mpp=2.0),
}


class PatchToRegion(nn.Module):
    """Section 2.6: lay the patch vectors on the MRI's feature grid by a learnable affine matrix.

    position = site + A p + t, where p is a patch's centre in mm from the centre of the bag. A starts as the
    identity and t as zero, so before training the patches lie around the biopsy site as they lie on the slide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(2))
        self.shift_mm = nn.Parameter(torch.zeros(2))

    def forward(self, vectors: Tensor, pooled: Tensor, batch: Batch, shape: tuple[int, int, int]) -> Tensor:
        """vectors (case, patch, fused), pooled (case, fused), shape (slice, h, w) -> (case, slice, fused, h, w).

        A patch is shared by the four nearest cells of the slice nearest to the site (bilinear weights). The cell
        that gets most of the bag holds its patches' mean; a cell that gets a share of that keeps the rest of the
        pooled vector, so the place does not depend on how many patches were taken.
        """
        cases, _, width = vectors.shape
        slices, height, cols = shape
        everywhere = pooled[:, None, :, None, None].expand(cases, slices, width, height, cols)
        if not bool(batch.present["site"].any()):
            return everywhere
        moved_mm = batch.patch_mm @ self.matrix.T + self.shift_mm  # (case, patch, 2) as x, y
        site_yx = batch.site_voxel[:, None, 1:]
        yx = (site_yx + moved_mm.flip(-1) / batch.spacing_mm[:, None, None] + 0.5) / STRIDE - 0.5
        corner = yx.floor()
        part = yx - corner
        local = yx.new_zeros(cases, height * cols, width)  # fp32 whatever the encoders ran in
        weight = yx.new_zeros(cases, height * cols, 1)
        usable = batch.valid["he"] & (batch.present["site"] & batch.present["he"])[:, None]
        for dy in (0, 1):
            for dx in (0, 1):
                y, x = corner[..., 0] + dy, corner[..., 1] + dx
                share = (part[..., 0] if dy else 1 - part[..., 0]) * (part[..., 1] if dx else 1 - part[..., 1])
                inside = usable & (y >= 0) & (y < height) & (x >= 0) & (x < cols)
                share = (share * inside)[..., None]  # (case, patch, 1)
                cell = (y.clamp(0, height - 1) * cols + x.clamp(0, cols - 1)).long()[..., None]
                local = local.scatter_add(1, cell.expand(-1, -1, width), share * vectors.float())
                weight = weight.scatter_add(1, cell, share)
        cover = weight / weight.amax(dim=1, keepdim=True).clamp(min=1e-6)
        at_site = cover * local / weight.clamp(min=1e-6) + (1 - cover) * pooled[:, None]
        at_site = at_site.transpose(1, 2).reshape(cases, 1, width, height, cols)
        index = torch.arange(slices, device=vectors.device)
        here = (index[None] == batch.site_voxel[:, :1].round()) & batch.present["site"][:, None]
        return torch.where(here[:, :, None, None, None], at_site, everywhere)


class CrossModalGate(nn.Module):
    """Equations 2 and 3: one attention map from the concatenation, and the sum it weights.

    Beside the paper's two feature maps the concatenation holds how damaged the MRI and the slide look.
    """

    def __init__(self, fused: int) -> None:
        super().__init__()
        self.w_cross = nn.Conv2d(2 * fused + 2, 1, 3, padding=1)
        # Start at alpha = 0.88 everywhere, whatever the size of the features: maps are learned through the MRI, and
        # what the slide says of a case still comes through.
        # It starts out leaning away from what looks damaged.
        nn.init.zeros_(self.w_cross.weight)
        with torch.no_grad():
            self.w_cross.weight[:, -2:] = torch.tensor([-LEAN, LEAN]).view(2, 1, 1) / self.w_cross.weight[0, 0].numel()
        if self.w_cross.bias is not None:
            nn.init.constant_(self.w_cross.bias, 2.0)
        self.sigmoid = nn.Sigmoid()

    def forward(self, f_mri: Tensor, f_he: Tensor, damage: Tensor, only: Tensor) -> tuple[Tensor, Tensor]:
        """F_MRI, F_H&E (n, fused, h, w), damage (n, 2) in [0, 1], only (n,) -> F_fused and alpha_cross.

        F_fused (n, fused, h, w), alpha_cross (n, 1, h, w) in [0, 1].

        only: 1 where there is the MRI alone, 0 where there is the slide alone, NaN where there are both. With one
        modality there is nothing to weigh, so alpha is `only`: a gate that had to learn this would saturate, and
        then shut out the slide where there are both.
        """
        damage = damage[:, :, None, None].to(f_mri.dtype).expand(-1, -1, *f_mri.shape[2:])
        alpha = self.sigmoid(self.w_cross(torch.cat([f_mri, f_he, damage], dim=1)))  # equation 2
        alpha = torch.where(only.isnan()[:, None, None, None], alpha, only[:, None, None, None].to(alpha.dtype))
        return alpha * f_mri + (1 - alpha) * f_he, alpha  # equation 3


class CMSSD(Model):
    """The network of the paper's figure 1; `size` is one of CONFIGS."""

    needs: ClassVar[tuple[str, ...]] = ("mri", "he")
    optional: ClassVar[tuple[str, ...]] = ("mri", "he")
    produces: ClassVar[tuple[str, ...]] = ("tumour_logits", "bone_logits", "malignant_logit", "severity_pct")
    sizes: ClassVar[tuple[str, ...]] = tuple(CONFIGS)
    judges_damage: ClassVar[bool] = True

    def __init__(self, size: str = "reference") -> None:
        super().__init__(size)
        config = CONFIGS[size]
        self.spec = SPECS[size]
        channels = NEIGHBOURS * len(self.spec.contrasts)
        self.fused_width = config.fused
        trunk = Trunk(channels, config.mri_widths, config.depths)
        self.phi_mri = MRIEncoder(trunk, config.mri_widths, config.fused)
        self.phi_he = HEEncoder(config.he_widths, config.depths, config.fused)
        self.pool_patches = AttentionPool(config.fused, config.fused // 2)
        self.mapping = PatchToRegion()
        self.damage_mri, self.damage_he = Damage(len(self.spec.contrasts)), Damage(3)
        self.gate = CrossModalGate(config.fused)
        self.pool_fused = AttentionPool(config.fused, config.fused // 2)
        self.decoder = Decoder(channels, fused=config.fused, widths=config.decoder, context=config.fused)
        self.malignancy = head(2 * config.fused + SIGNS, config.fused)

    def fit_start(self, batch: Batch) -> None:
        """Start the H&E projection and the looks for damage on the scale of the batch."""
        if "he" in batch.inputs:
            self.phi_he.standardise(batch.inputs["he"].flatten(0, 1))
        for name, judge_of in (("mri", self.damage_mri), ("he", self.damage_he)):
            if (images := shown(batch, name)) is not None:
                judge_of.fit_start(images)

    def damage(self, batch: Batch) -> Tensor:
        """How damaged the MRI and the slide look, (case, 2) as logits."""
        return damages(self.damage_mri, self.damage_he, batch)

    def forward(self, batch: Batch) -> ModelOutput:
        """Section 2 from input to severity. A modality that is missing has zero features (section 3.3).

        Without any MRI in the batch the maps and the severity are None. Raises InputError if a case has neither.
        """
        check_present(batch, needs=self.needs, optional=self.optional)
        flat = flat_slices(batch)
        cases = len(batch.ids)
        slices, height, width = (1, 1, 1)
        if flat is not None:
            slices, height, width = len(flat) // cases, *(size // STRIDE for size in flat.shape[-2:])
        bag = encode_bag(self.phi_he, self.pool_patches, batch, width=self.fused_width)
        f_he = self.mapping(bag.vectors, bag.pooled, batch, (slices, height, width)).flatten(0, 1)
        f_mri = torch.zeros_like(f_he) if flat is None else encode_slices(self.phi_mri, flat, batch)
        only = torch.where(batch.present["mri"] & batch.present["he"], torch.nan, batch.present["mri"].float())
        damage = self.damage(batch)
        fused, alpha = self.gate(
            f_mri, f_he, damage.sigmoid().repeat_interleave(slices, 0), only.repeat_interleave(slices)
        )

        valid = batch.present["he"][:, None] if flat is None else batch.valid["mri"]
        valid = valid | ~batch.present["mri"][:, None]  # without MRI, F_fused still speaks for the slide
        context = pool_cells(self.pool_fused, fused, valid)
        attention = {"patch": bag.weights}
        if flat is None:
            answer = judge(self.malignancy, context)
            return ModelOutput(None, None, answer, None, attention=attention, damage_logits=damage)
        maps = decode(self.decoder, fused, context[:, : self.fused_width], flat)
        malignant = judge(self.malignancy, context, signs(maps, batch))
        attention["cross"] = alpha.squeeze(1).unflatten(0, (cases, slices))
        return replace(finish(maps, malignant, batch, attention=attention), damage_logits=damage)
