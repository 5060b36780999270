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
- The malignancy head reads the fused vector pooled over all slices and two signs a radiologist measures on the maps:
  how sure the decoder is of destroyed cortex, and of lesion outside the bone, where it is surest (`signs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.blocks.layers import AttentionPool, ConvNormReLU, Trunk
from cmssd_core.blocks.severity import severity_pct
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.types import Batch, InputError, ModelOutput

STRIDE = 4  # of the grid on which the modalities meet
SLICES_AT_ONCE = 8  # bounds memory: a volume's slices and a bag's patches pass the encoders in such groups
NEIGHBOURS = 3  # the slice before, this one and the one after
SIGN_MM2 = 100.0  # a sign of malignancy on the MRI is averaged over its surest pixels of this area


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
}
SPECS = {
    "reference": InputSpec(mri_px=256, mri_spacing_mm=1.0, patch_px=256, patch_mpp=1.0),
    "compact": InputSpec(mri_px=128, mri_spacing_mm=1.5, patch_px=128, patch_mpp=1.0),
}


class MRIEncoder(nn.Module):
    """Phi_MRI of equation 1: a residual trunk whose stages are joined top-down into one map at stride 4."""

    def __init__(self, channels: int, config: CMSSDConfig) -> None:
        super().__init__()
        self.trunk = Trunk(channels, config.mri_widths, config.depths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, config.fused, 1) for width in config.mri_widths)
        self.smooth = ConvNormReLU(config.fused, config.fused)

    def forward(self, slices: Tensor) -> Tensor:
        """(slice, channel, y, x) -> F_MRI (slice, fused, y/4, x/4)."""
        maps = [lateral(m) for lateral, m in zip(self.lateral, self.trunk(slices), strict=True)]
        joined = maps[-1]
        for finer in reversed(maps[:-1]):
            joined = finer + F.interpolate(joined, size=finer.shape[-2:], mode="bilinear", align_corners=False)
        out: Tensor = self.smooth(joined)
        return out


class HEEncoder(nn.Module):
    """Phi_H&E of equation 1: a residual trunk whose stages, averaged over the patch, give one vector a patch."""

    def __init__(self, config: CMSSDConfig) -> None:
        super().__init__()
        self.trunk = Trunk(3, config.he_widths, config.depths)
        self.project = nn.Linear(sum(config.he_widths), config.fused)
        self.activation = nn.ReLU(inplace=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(patch, 3, y, x) RGB in [0, 1], white = 1 -> (patch, fused). White glass becomes 0 before the trunk."""
        out: Tensor = self.activation(self.project(self._averages(patches)))
        return out

    def _averages(self, patches: Tensor) -> Tensor:
        return torch.cat([stage.mean(dim=(2, 3)) for stage in self.trunk(1.0 - patches)], dim=1)

    @torch.no_grad()
    def standardise(self, patches: Tensor) -> None:
        """Rescale the projection so that on these patches each of its inputs counts in (nearly) standard deviations.

        A data-dependent start (after Mishkin and Matas, ICLR 2016): averages over a patch differ between cases by a
        few percent of their size, and from there training did not find the difference in hundreds of steps.
        """
        averages = self._averages(patches)
        mean, deviation = averages.mean(0), averages.std(0) + 0.05  # without a floor small inputs explode later
        scale = averages.shape[1] ** -0.5
        self.project.weight.copy_(torch.randn_like(self.project.weight) * scale / deviation)
        self.project.bias.copy_(-(self.project.weight @ mean))


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
    """Equations 2 and 3: one attention map from the concatenation, and the sum it weights."""

    def __init__(self, fused: int) -> None:
        super().__init__()
        self.w_cross = nn.Conv2d(2 * fused, 1, 3, padding=1)
        # Start at alpha = 0.88 everywhere, whatever the size of the features: maps are learned through the MRI, and
        # what the slide says of a case still comes through.
        nn.init.zeros_(self.w_cross.weight)
        if self.w_cross.bias is not None:
            nn.init.constant_(self.w_cross.bias, 2.0)
        self.sigmoid = nn.Sigmoid()

    def forward(self, f_mri: Tensor, f_he: Tensor, only: Tensor) -> tuple[Tensor, Tensor]:
        """F_MRI, F_H&E (n, fused, h, w), only (n,) -> F_fused (n, fused, h, w), alpha_cross (n, 1, h, w) in [0, 1].

        only: 1 where there is the MRI alone, 0 where there is the slide alone, NaN where there are both. With one
        modality there is nothing to weigh, so alpha is `only`: a gate that had to learn this would saturate, and
        then shut out the slide where there are both.
        """
        alpha = self.sigmoid(self.w_cross(torch.cat([f_mri, f_he], dim=1)))  # equation 2
        alpha = torch.where(only.isnan()[:, None, None, None], alpha, only[:, None, None, None].to(alpha.dtype))
        return alpha * f_mri + (1 - alpha) * f_he, alpha  # equation 3


class Decoder(nn.Module):
    """The regression head of section 2.4: fused map, case context and the image's own detail -> three maps.

    Lesion, bone, destroyed cortex; the last is learned where the cohort has its mask, and then is a sign.
    """

    def __init__(self, channels: int, config: CMSSDConfig) -> None:
        super().__init__()
        coarse, middle, fine = config.decoder
        self.context = nn.Linear(config.fused, config.fused)
        self.coarse = nn.Sequential(ConvNormReLU(config.fused, coarse), ConvNormReLU(coarse, coarse))
        self.detail = ConvNormReLU(channels, middle // 2, stride=2)
        self.middle = nn.Sequential(ConvNormReLU(coarse + middle // 2, middle), ConvNormReLU(middle, middle))
        self.fine = ConvNormReLU(middle + channels, fine)
        self.maps = nn.Conv2d(fine, 3, 1)

    def forward(self, fused: Tensor, context: Tensor, slices: Tensor) -> Tensor:
        """fused (slice, fused, h, w), context (slice, fused), slices (slice, channel, y, x) -> (slice, 3, y, x)."""
        x = self.coarse(fused + self.context(context)[:, :, None, None])
        detail = self.detail(slices)
        x = F.interpolate(x, size=detail.shape[-2:], mode="bilinear", align_corners=False)
        x = self.middle(torch.cat([x, detail], dim=1))
        x = F.interpolate(x, size=slices.shape[-2:], mode="bilinear", align_corners=False)
        out: Tensor = self.maps(self.fine(torch.cat([x, slices], dim=1)))
        return out


def both(one: Tensor, other: Tensor) -> Tensor:
    """Logit of the product of two probabilities given as logits; their shapes broadcast."""
    log_p = nn.functional.logsigmoid(one) + nn.functional.logsigmoid(other)
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))


def signs(lesion: Tensor, bone: Tensor, destruction: Tensor, batch: Batch) -> Tensor:
    """Logits (case, slice, y, x) -> (case, 2): destroyed cortex, and lesion outside the bone, each as the mean logit
    of its surest SIGN_MM2, limited to +-8 and divided by 4; 0 for a case without MRI.
    """
    outside = torch.minimum(lesion, -bone)
    hidden = ~batch.valid["mri"][:, :, None, None]
    wanted = (SIGN_MM2 / batch.spacing_mm**2).round().clamp(1, outside[0].numel()).long()  # pixels, case by case
    counted = torch.arange(int(wanted.max()), device=wanted.device) < wanted[:, None]
    out = []
    for logits in (destruction, outside):
        limited = logits.clamp(-8, 8).masked_fill(hidden, -8.0).flatten(1)
        surest = limited.topk(counted.shape[1], dim=1).values
        out.append((surest * counted).sum(1) / wanted / 4)
    return torch.stack(out, dim=1) * batch.present["mri"][:, None]


class CMSSD(Model):
    """The network of the paper's figure 1; `size` is one of CONFIGS."""

    needs: ClassVar[tuple[str, ...]] = ("mri", "he")
    optional: ClassVar[tuple[str, ...]] = ("mri", "he")
    produces: ClassVar[tuple[str, ...]] = ("tumour_logits", "bone_logits", "malignant_logit", "severity_pct")
    sizes: ClassVar[tuple[str, ...]] = tuple(CONFIGS)

    def __init__(self, size: str = "reference") -> None:
        super().__init__(size)
        config = CONFIGS[size]
        self.spec = SPECS[size]
        channels = NEIGHBOURS * len(self.spec.contrasts)
        self.fused_width = config.fused
        self.phi_mri = MRIEncoder(channels, config)
        self.phi_he = HEEncoder(config)
        self.pool_patches = AttentionPool(config.fused, config.fused // 2)
        self.mapping = PatchToRegion()
        self.gate = CrossModalGate(config.fused)
        self.pool_fused = AttentionPool(config.fused, config.fused // 2)
        self.decoder = Decoder(channels, config)
        self.malignancy = nn.Sequential(
            nn.Linear(2 * config.fused + 2, config.fused), nn.ReLU(inplace=False), nn.Linear(config.fused, 1)
        )

    def fit_start(self, batch: Batch) -> None:
        """Start the H&E projection on the scale of the batch's patches."""
        if "he" in batch.inputs:
            self.phi_he.standardise(batch.inputs["he"].flatten(0, 1))

    def forward(self, batch: Batch) -> ModelOutput:
        """Section 2 from input to severity. A modality that is missing has zero features (section 3.3).

        Without any MRI in the batch the maps and the severity are None. Raises InputError if a case has neither.
        """
        if not bool((batch.present["mri"] | batch.present["he"]).all()):
            raise InputError("a case came with neither MRI nor H&E; CM-SSD needs at least one; add the missing file")
        mri = batch.inputs.get("mri")
        if mri is not None and not bool(batch.present["mri"].any()):
            mri = None
        cases = len(batch.ids)
        slices, height, width = (1, 1, 1) if mri is None else (mri.shape[1], *[s // STRIDE for s in mri.shape[-2:]])
        pooled_he, vectors, patch_attention = self._encode_bag(batch)
        f_he = self.mapping(vectors, pooled_he, batch, (slices, height, width)).flatten(0, 1)
        flat = None if mri is None else mri.flatten(2, 3).flatten(0, 1)  # (case * slice, channel, y, x)
        f_mri = self._encode_volume(flat, batch, f_he)
        only = torch.where(batch.present["mri"] & batch.present["he"], torch.nan, batch.present["mri"].float())
        fused, alpha = self.gate(f_mri, f_he, only.repeat_interleave(slices))

        valid = torch.ones(cases, 1, dtype=torch.bool, device=fused.device) if mri is None else batch.valid["mri"]
        valid = valid | ~batch.present["mri"][:, None]  # without MRI, F_fused still speaks for the slide
        context = self._pool(fused, valid, cases)
        if flat is None:
            no_signs = context.new_zeros(cases, 2)
            malignant = self.malignancy(torch.cat([context, no_signs], dim=1)).squeeze(1)
            return ModelOutput(None, None, malignant, None, attention={"patch": patch_attention})
        maps = self._decode(fused, context[:, : self.fused_width].repeat_interleave(slices, dim=0), flat).float()
        lesion, bone, destruction = maps.unflatten(0, (cases, slices)).unbind(2)
        found = signs(lesion, bone, destruction, batch)
        malignant = self.malignancy(torch.cat([context, found.to(context.dtype)], dim=1)).squeeze(1)
        tumour = both(lesion, malignant.float()[:, None, None, None])
        real = batch.valid["mri"][:, :, None, None]
        score = severity_pct(tumour.sigmoid() * real, bone.sigmoid() * real)
        attention = {"patch": patch_attention, "cross": alpha.squeeze(1).unflatten(0, (cases, slices))}
        auxiliary = {"lesion": lesion, "destruction": destruction}
        return ModelOutput(tumour, bone, malignant, score, attention=attention, auxiliary=auxiliary)

    def _encode_bag(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Equation 1 for the slide -> pooled (case, fused), vectors (case, patch, fused), weights (case, patch)."""
        patches = batch.inputs.get("he")
        if patches is None or not bool(batch.present["he"].any()):
            weight = self.gate.w_cross.weight
            none = weight.new_zeros(len(batch.ids), 1)
            return none.expand(-1, self.fused_width), none[..., None].expand(-1, -1, self.fused_width), none
        flat = patches.flatten(0, 1)
        vectors = torch.cat([self.phi_he(part) for part in flat.split(SLICES_AT_ONCE * 4)])
        vectors = vectors.unflatten(0, patches.shape[:2]) * batch.present["he"][:, None, None]
        pooled, weights = self.pool_patches(vectors, batch.valid["he"] & batch.present["he"][:, None])
        return pooled, vectors, weights

    def _encode_volume(self, flat: Tensor | None, batch: Batch, like: Tensor) -> Tensor:
        """Equation 1 for the MRI -> F_MRI (case * slice, fused, h, w), zero where a case has no MRI."""
        if flat is None:
            return torch.zeros_like(like)
        f_mri = torch.cat([self.phi_mri(part) for part in flat.split(SLICES_AT_ONCE)])
        there = batch.present["mri"].repeat_interleave(len(flat) // len(batch.ids))
        return f_mri * there[:, None, None, None]

    def _pool(self, fused: Tensor, valid: Tensor, cases: int) -> Tensor:
        """F_fused of all slices -> (case, 2 * fused): attention-pooled and averaged over the valid cells."""
        if fused.shape[-1] > 1:
            fused = F.avg_pool2d(fused, 2)
        cells = fused.flatten(2).transpose(1, 2)  # (case * slice, cell, fused)
        per_slice = cells.shape[1]
        cells = cells.reshape(cases, -1, self.fused_width)
        mask = valid.repeat_interleave(per_slice, dim=1)
        pooled, _ = self.pool_fused(cells, mask)
        mean = (cells * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([pooled, mean], dim=1)

    def _decode(self, fused: Tensor, context: Tensor, flat: Tensor) -> Tensor:
        parts = zip(fused.split(SLICES_AT_ONCE), context.split(SLICES_AT_ONCE), flat.split(SLICES_AT_ONCE), strict=True)
        return torch.cat([self.decoder(*part) for part in parts])
