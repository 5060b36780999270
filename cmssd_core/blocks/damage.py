"""How damaged an input looks, from its own texture: what the gate of equation 2 is told beside the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.blocks.encoders import standardise
from cmssd_core.blocks.passes import NEIGHBOURS
from cmssd_core.types import Batch

BANDS = 4
A_CHANNEL = 4 + 2 * BANDS  # figures that `texture` gives of each channel


def texture(images: Tensor) -> Tensor:
    """Images (n, channel, y, x) -> figures (n, A_CHANNEL * channel), float32.

    Of each channel mean, least, greatest and log spread; of each band of its Laplacian pyramid (Burt and Adelson, IEEE
    Trans. Commun. 1983) the log of the mean amount, and the log of how unevenly that is spread. Blur, noise, ink and
    wash-out change these by factors.
    """
    x = images.float()
    told = [x.mean((2, 3)), x.amin((2, 3)), x.amax((2, 3)), 0.5 * (x.var((2, 3)) + 1e-8).log()]
    for _ in range(BANDS):
        half = F.avg_pool2d(x, 2)
        band = x - F.interpolate(half, size=x.shape[-2:], mode="bilinear", align_corners=False)
        amount = (band.abs().mean((2, 3)) + 1e-4).log()
        told += [amount, (band.square().mean((2, 3)) + 1e-8).log() - 2 * amount]
        x = half
    return torch.cat(told, dim=1)


class Damage(nn.Module):
    """Images of one modality -> one damage a case, a logit: each image judged by its texture, the case by their mean.

    The encoders cannot say it: their group normalisation takes away just what blur, noise or ink change.
    """

    def __init__(self, channels: int, hidden: int = 48) -> None:
        super().__init__()
        self.describe = nn.Linear(A_CHANNEL * channels, hidden)
        self.activation = nn.ReLU(inplace=False)
        self.score = nn.Linear(hidden, 1)

    def forward(self, images: Tensor, valid: Tensor) -> Tensor:
        """images (case * image, channel, y, x), valid bool (case, image) -> (case,) logits."""
        each = self.activation(self.describe(texture(images))).unflatten(0, valid.shape)
        mean = (each * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
        out: Tensor = self.score(mean).squeeze(1)
        return out

    @torch.no_grad()
    def fit_start(self, images: Tensor) -> None:
        """Start on the scale of these images."""
        standardise(self.describe, texture(images))


def shown(batch: Batch, modality: str) -> Tensor | None:
    """What a modality's damage is judged on: slices without their neighbours, or patches; None where no case has it."""
    if modality not in batch.inputs or not bool(batch.present[modality].any()):
        return None
    images = batch.inputs[modality]
    return (images[:, :, NEIGHBOURS // 2] if modality == "mri" else images).flatten(0, 1)


def damages(mri: Damage, he: Damage, batch: Batch) -> Tensor:
    """Damage of the MRI and of the slide (case, 2) as logits; a modality that is missing has the logit of a sound one.

    Its number counts for nothing: with one modality the gate has nothing to weigh.
    """
    out = []
    for name, judge in (("mri", mri), ("he", he)):
        images = shown(batch, name)
        sound = batch.spacing_mm.new_full((len(batch.ids),), -8.0)
        said = sound if images is None else judge(images, batch.valid[name]).float()
        out.append(torch.where(batch.present[name], said, sound))
    return torch.stack(out, dim=1)
