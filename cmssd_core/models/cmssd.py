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
- Section 3.7 says that the gate turns to the MRI where the slide is damaged; what that takes is an option that every
  size switches on (CMSSDConfig.damage, models/damage.py). Without it equations 2 and 3 are what stands here.
- The malignancy head reads the fused vector pooled over all slices and two signs a radiologist measures on the maps:
  how sure the decoder is of destroyed cortex, and of lesion outside the bone, where it is surest (`signs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmssd_core.blocks.branches import head, judge
from cmssd_core.blocks.encoders import HEEncoder, MRIEncoder
from cmssd_core.blocks.layers import AttentionPool, Trunk
from cmssd_core.blocks.maps import SIGNS, Decoder, decode, finish, signs
from cmssd_core.blocks.passes import NEIGHBOURS, encode_bag, encode_slices, flat_slices, pool_cells, real_patches
from cmssd_core.models import damage
from cmssd_core.models.base import Model, check_present
from cmssd_core.models.spec import PatchSpec, Spec, VolumeSpec, contrasts_of
from cmssd_core.types import Batch, ModelOutput

STRIDE = 4  # of the grid on which the modalities meet


@dataclass(frozen=True, kw_only=True)
class CMSSDConfig:
    """Widths of one size of the network; the code is the same for all.

    damage: whether the gate is told how damaged either input looks (models/damage.py).
    """

    mri_widths: tuple[int, int, int, int]
    he_widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    fused: int  # channels of F_MRI, F_H&E and F_fused
    decoder: tuple[int, int, int]  # channels at strides 4, 2, 1
    damage: bool = False


CONFIGS = {
    "reference": CMSSDConfig(
        mri_widths=(64, 128, 256, 512),
        he_widths=(64, 128, 256, 552),
        depths=(2, 2, 2, 2),
        fused=128,
        decoder=(104, 64, 16),
        damage=True,
    ),
    "compact": CMSSDConfig(
        mri_widths=(24, 48, 80, 128),
        he_widths=(24, 48, 96, 144),
        depths=(2, 2, 2, 2),
        fused=64,
        decoder=(64, 32, 16),
        damage=True,
    ),
    "tiny": CMSSDConfig(  # trains in minutes: for tests of the audit, not for patients
        mri_widths=(8, 12, 16, 24),
        he_widths=(8, 12, 16, 24),
        depths=(1, 1, 1, 1),
        fused=16,
        decoder=(12, 8, 8),
        damage=True,
    ),
}
SPECS: dict[str, Spec] = {
    "reference": {"mri": VolumeSpec(px=256, spacing_mm=1.0), "he": PatchSpec(px=256, mpp=1.0)},
    "compact": {"mri": VolumeSpec(px=128, spacing_mm=1.5), "he": PatchSpec(px=128, mpp=1.0)},
    "tiny": {"mri": VolumeSpec(contrasts=("t1", "t2"), px=64, spacing_mm=3.0), "he": PatchSpec(px=64, mpp=2.0)},
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
        if not bool(batch.geometry["mri.site_known"].any()):
            return everywhere
        moved_mm = batch.geometry["he.patch_mm"] @ self.matrix.T + self.shift_mm  # (case, patch, 2) as x, y
        site_voxel, spacing_mm = batch.geometry["mri.site_voxel"], batch.geometry["mri.spacing_mm"]
        site_yx = site_voxel[:, None, 1:]
        yx = (site_yx + moved_mm.flip(-1) / spacing_mm[:, None, None] + 0.5) / STRIDE - 0.5
        corner = yx.floor()
        part = yx - corner
        local = yx.new_zeros(cases, height * cols, width)  # fp32 whatever the encoders ran in
        weight = yx.new_zeros(cases, height * cols, 1)
        usable = batch.valid["he"] & (batch.geometry["mri.site_known"] & batch.present["he"])[:, None]
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
        here = (index[None] == site_voxel[:, :1].round()) & batch.geometry["mri.site_known"][:, None]
        return torch.where(here[:, :, None, None, None], at_site, everywhere)


class CrossModalGate(nn.Module):
    """Equations 2 and 3: one attention map from the concatenation, and the sum it weights.

    beside: channels that the concatenation holds besides the paper's two feature maps; none in the paper.
    """

    def __init__(self, fused: int, *, beside: int = 0) -> None:
        super().__init__()
        self.w_cross = nn.Conv2d(2 * fused + beside, 1, 3, padding=1)
        # Start at alpha = 0.88 everywhere, whatever the size of the features: maps are learned through the MRI, and
        # what the slide says of a case still comes through.
        nn.init.zeros_(self.w_cross.weight)
        if self.w_cross.bias is not None:
            nn.init.constant_(self.w_cross.bias, 2.0)
        self.sigmoid = nn.Sigmoid()

    def forward(self, f_mri: Tensor, f_he: Tensor, only: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """F_MRI, F_H&E (n, fused, h, w), only (n,), beside (n, channel) -> F_fused and alpha_cross.

        F_fused (n, fused, h, w), alpha_cross (n, 1, h, w) in [0, 1].

        only: 1 where there is the MRI alone, 0 where there is the slide alone, NaN where there are both. With one
        modality there is nothing to weigh, so alpha is `only`: a gate that had to learn this would saturate, and
        then shut out the slide where there are both.
        """
        joined = [f_mri, f_he]
        if beside is not None:
            joined.append(beside[:, :, None, None].to(f_mri.dtype).expand(-1, -1, *f_mri.shape[2:]))
        alpha = self.sigmoid(self.w_cross(torch.cat(joined, dim=1)))  # equation 2
        alpha = torch.where(only.isnan()[:, None, None, None], alpha, only[:, None, None, None].to(alpha.dtype))
        return alpha * f_mri + (1 - alpha) * f_he, alpha  # equation 3


class CMSSD(Model):
    """The network of the paper's figure 1; `size` is one of CONFIGS."""

    needs: ClassVar[tuple[str, ...]] = ("mri", "he")
    optional: ClassVar[tuple[str, ...]] = ("mri", "he")
    tasks: ClassVar[tuple[str, ...]] = ("tumour", "bone", "malignant", "severity_pct")
    sizes: ClassVar[tuple[str, ...]] = tuple(CONFIGS)
    encoders: ClassVar[Mapping[str, str]] = {"mri": "phi_mri", "he": "phi_he"}
    fused: ClassVar[str | None] = "pool_fused"
    slow: ClassVar[tuple[str, ...]] = ("phi_he.", "gate.")  # they burst or saturate at rates the MRI needs
    undecayed: ClassVar[tuple[str, ...]] = ("mapping.",)  # starts where it should stay unless data says otherwise
    extra_terms: ClassVar[tuple[str, ...]] = ("gate", "damage")

    def __init__(self, size: str = "reference", *, config: CMSSDConfig | None = None) -> None:
        super().__init__(size)
        config = config or CONFIGS[size]
        self.spec = SPECS[size]
        contrasts = len(contrasts_of(SPECS[size]))
        channels = NEIGHBOURS * contrasts
        self.fused_width = config.fused
        trunk = Trunk(channels, config.mri_widths, config.depths)
        self.phi_mri = MRIEncoder(trunk, config.mri_widths, config.fused)
        self.phi_he = HEEncoder(config.he_widths, config.depths, config.fused)
        self.pool_patches = AttentionPool(config.fused, config.fused // 2)
        self.mapping = PatchToRegion()
        self.damage_mri = damage.Damage(contrasts) if config.damage else None
        self.damage_he = damage.Damage(3) if config.damage else None
        self.gate = CrossModalGate(config.fused, beside=damage.CHANNELS if config.damage else 0)
        if config.damage:
            damage.lean_away(self.gate.w_cross)
        self.pool_fused = AttentionPool(config.fused, config.fused // 2)
        self.decoder = Decoder(channels, fused=config.fused, widths=config.decoder, context=config.fused)
        self.malignancy = head(2 * config.fused + SIGNS, config.fused)

    def fit_start(self, batch: Batch) -> None:
        """Start the H&E projection and the looks for damage on the scale of the batch."""
        if (patches := real_patches(batch)) is not None:
            self.phi_he.standardise(patches)
        for name, judge_of in (("mri", self.damage_mri), ("he", self.damage_he)):
            if judge_of is not None and (images := damage.select_images(batch, name)) is not None:
                judge_of.fit_start(images[batch.valid[name].flatten()])

    def judge_damage(self, batch: Batch) -> Tensor | None:
        """How damaged the MRI and the slide look, (case, 2) as logits; None without the option."""
        if self.damage_mri is None or self.damage_he is None:
            return None
        return damage.damages(self.damage_mri, self.damage_he, batch)

    def part(self, name: str, batch: Batch) -> ModelOutput:
        """The judgement of damage alone. Raises ValueError for another name, or without the option."""
        damaged = self.judge_damage(batch) if name == "damage" else None
        return super().part(name, batch) if damaged is None else ModelOutput(heads={}, also={"damage": damaged})

    def extra_loss(
        self, output: ModelOutput, batch: Batch, spoilt: Mapping[str, Tensor], *, cases: int
    ) -> Mapping[str, Tensor]:
        """Two terms: "gate", which section 3.7 asks of equation 2's mean, and "damage", how well damage is judged."""
        summary = damage.spoilt_of(spoilt, batch)
        terms = {}
        if "cross" in output.attention and bool((batch.present["mri"] & batch.present["he"]).any()):
            terms["gate"] = damage.gate_term(output.attention["cross"], summary, batch, cases=cases)
        if "damage" in output.also:
            terms["damage"] = damage.damage_term(output.also["damage"], summary, batch, cases=cases)
        return terms

    def forward(self, batch: Batch) -> ModelOutput:
        """Section 2 from input to severity. A modality that is missing has zero features (section 3.3).

        Without any MRI in the batch there are no maps and no severity. Raises InputError if a case has neither.
        """
        check_present(batch, self.spec, optional=self.optional)
        flat = flat_slices(batch)
        cases = len(batch.ids)
        slices, height, width = (1, 1, 1)
        if flat is not None:
            slices, height, width = len(flat) // cases, *(size // STRIDE for size in flat.shape[-2:])
        bag = encode_bag(self.phi_he, self.pool_patches, batch, width=self.fused_width)
        f_he = self.mapping(bag.vectors, bag.pooled, batch, (slices, height, width)).flatten(0, 1)
        f_mri = torch.zeros_like(f_he) if flat is None else encode_slices(self.phi_mri, flat, batch)
        only = torch.where(batch.present["mri"] & batch.present["he"], torch.nan, batch.present["mri"].float())
        damaged = self.judge_damage(batch)
        beside = None if damaged is None else damaged.sigmoid().repeat_interleave(slices, 0)
        fused, alpha = self.gate(f_mri, f_he, only.repeat_interleave(slices), beside)

        valid = batch.present["he"][:, None] if flat is None else batch.valid["mri"]
        valid = valid | ~batch.present["mri"][:, None]  # without MRI, F_fused still speaks for the slide
        context = pool_cells(self.pool_fused, fused, valid)
        attention = {"patch": bag.weights}
        also = {} if damaged is None else {"damage": damaged}
        if flat is None:
            return ModelOutput(heads={"malignant": judge(self.malignancy, context)}, attention=attention, also=also)
        maps = decode(self.decoder, fused, context[:, : self.fused_width], flat)
        malignant = judge(self.malignancy, context, signs(maps, batch))
        attention["cross"] = alpha.squeeze(1).unflatten(0, (cases, slices))
        output = finish(maps, malignant, batch, attention=attention)
        return replace(output, also={**output.also, **also})
