"""From a fused map to what is said of a case: lesion, bone and destroyed cortex, their signs, tumour, severity."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.blocks.layers import ConvNormReLU
from cmssd_core.blocks.passes import SLICES_AT_ONCE
from cmssd_core.blocks.severity import severity_pct
from cmssd_core.types import Batch, ModelOutput

SIGNS = 2
SIGN_MM2 = 100.0  # a sign of malignancy on the MRI is averaged over its surest pixels of this area


class Decoder(nn.Module):
    """The regression head of section 2.4: fused map, case context and the image's own detail -> three maps.

    Lesion, bone, destroyed cortex; the last is learned where the cohort has its mask, and then is a sign.
    widths: channels at strides 4, 2 and 1. context: channels of the case context.
    """

    def __init__(self, channels: int, *, fused: int, widths: tuple[int, int, int], context: int) -> None:
        super().__init__()
        coarse, middle, fine = widths
        self.context = nn.Linear(context, fused)
        self.coarse = nn.Sequential(ConvNormReLU(fused, coarse), ConvNormReLU(coarse, coarse))
        self.detail = ConvNormReLU(channels, middle // 2, stride=2)
        self.middle = nn.Sequential(ConvNormReLU(coarse + middle // 2, middle), ConvNormReLU(middle, middle))
        self.fine = ConvNormReLU(middle + channels, fine)
        self.maps = nn.Conv2d(fine, 3, 1)

    def forward(self, fused: Tensor, context: Tensor, slices: Tensor) -> Tensor:
        """fused (slice, fused, h, w), context (slice, context), slices (slice, channel, y, x) -> (slice, 3, y, x)."""
        x = self.coarse(fused + self.context(context)[:, :, None, None])
        detail = self.detail(slices)
        x = F.interpolate(x, size=detail.shape[-2:], mode="bilinear", align_corners=False)
        x = self.middle(torch.cat([x, detail], dim=1))
        x = F.interpolate(x, size=slices.shape[-2:], mode="bilinear", align_corners=False)
        out: Tensor = self.maps(self.fine(torch.cat([x, slices], dim=1)))
        return out


def decode(decoder: Decoder, fused: Tensor, context: Tensor, flat: Tensor) -> Tensor:
    """fused (case * slice, fused, h, w), context (case, context), flat (case * slice, channel, y, x) -> maps.

    Maps are logits (case, slice, 3, y, x) in float32.
    """
    cases = len(context)
    by_slice = context.repeat_interleave(len(flat) // cases, dim=0)
    parts = zip(*(x.split(SLICES_AT_ONCE) for x in (fused, by_slice, flat)), strict=True)
    maps: Tensor = torch.cat([decoder(*part) for part in parts]).float().unflatten(0, (cases, -1))
    return maps


def signs(maps: Tensor, batch: Batch) -> Tensor:
    """Maps (case, slice, 3, y, x) -> (case, SIGNS): destroyed cortex, and lesion outside the bone, where surest.

    Each is the mean logit of its surest SIGN_MM2, limited to +-8 and divided by 4; 0 for a case without MRI.
    """
    lesion, bone, destruction = maps.unbind(2)
    outside = torch.minimum(lesion, -bone)
    hidden = ~batch.valid["mri"][:, :, None, None]
    wanted = (
        (SIGN_MM2 / batch.geometry["mri.spacing_mm"] ** 2).round().clamp(1, outside[0].numel()).long()
    )  # pixels, case by case
    counted = torch.arange(int(wanted.max()), device=wanted.device) < wanted[:, None]
    out = []
    for logits in (destruction, outside):
        limited = logits.clamp(-8, 8).masked_fill(hidden, -8.0).flatten(1)
        surest = limited.topk(counted.shape[1], dim=1).values
        out.append((surest * counted).sum(1) / wanted / 4)
    return torch.stack(out, dim=1) * batch.present["mri"][:, None]


def both(one: Tensor, other: Tensor) -> Tensor:
    """Logit of the product of two probabilities given as logits; their shapes broadcast."""
    log_p = F.logsigmoid(one) + F.logsigmoid(other)
    out: Tensor = log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))
    return out


def finish(maps: Tensor, malignant: Tensor, batch: Batch, *, attention: Mapping[str, Tensor]) -> ModelOutput:
    """Maps (case, slice, 3, y, x) and malignancy (case,), both logits -> P(tumour here) = P(lesion here) P(malignant).

    Severity is equation 4 on the soft maps of the slices that are not padding.
    """
    lesion, bone, destruction = maps.unbind(2)
    tumour = both(lesion, malignant.float()[:, None, None, None])
    real = batch.valid["mri"][:, :, None, None]
    score = severity_pct(tumour.sigmoid() * real, bone.sigmoid() * real)
    heads = {"tumour": tumour, "bone": bone, "malignant": malignant, "severity_pct": score}
    return ModelOutput(heads=heads, attention=attention, also={"lesion": lesion, "destruction": destruction})
