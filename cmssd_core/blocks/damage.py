"""How damaged an input looks, from its own texture: what the gate of equation 2 is told beside the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmssd_core.blocks.encoders import standardise
from cmssd_core.blocks.passes import flat_slices
from cmssd_core.types import Batch

AT_ONCE = 64  # images


class Damage(nn.Module):
    """Images of one modality -> one damage a case, a logit.

    Blur, noise, ink or a wash-out are texture and absolute intensity, which the encoders normalise away (group
    normalisation), so this looks with a few strided convolutions without any. An image is described by the mean and the
    spread of their answers, a case by the mean over its images.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int] = (12, 16, 24), hidden: int = 32) -> None:
        super().__init__()
        first, second, third = widths
        self.texture = nn.Sequential(
            nn.Conv2d(channels, first, 3, stride=2, padding=1), nn.ReLU(inplace=False),
            nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU(inplace=False),
            nn.Conv2d(second, third, 3, stride=2, padding=1), nn.ReLU(inplace=False),
        )  # fmt: skip
        self.describe = nn.Linear(2 * third, hidden)
        self.activation = nn.ReLU(inplace=False)
        self.score = nn.Linear(hidden, 1)

    def forward(self, images: Tensor, valid: Tensor) -> Tensor:
        """images (case * image, channel, y, x), valid bool (case, image) -> (case,) logits."""
        each = self.activation(self.describe(self._moments(images))).unflatten(0, valid.shape)
        mean = (each * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
        out: Tensor = self.score(mean).squeeze(1)
        return out

    def _moments(self, images: Tensor) -> Tensor:
        parts = []
        for some in images.split(AT_ONCE):
            seen = self.texture(some).float().flatten(2)
            parts.append(torch.cat([seen.mean(2), (seen.var(2, unbiased=False) + 1e-6).sqrt()], dim=1))
        return torch.cat(parts)

    @torch.no_grad()
    def fit_start(self, images: Tensor) -> None:
        """Start on the scale of these images."""
        standardise(self.describe, self._moments(images))


def damages(mri: Damage, he: Damage, batch: Batch) -> Tensor:
    """Damage of the MRI and of the slide (case, 2) as logits; a modality that is missing has the logit of a sound one.

    Its number counts for nothing: with one modality the gate has nothing to weigh.
    """
    out = batch.spacing_mm.new_full((len(batch.ids), 2), -8.0)
    flat = flat_slices(batch)
    if flat is not None:
        found = mri(flat, batch.valid["mri"]).float()
        out[:, 0] = torch.where(batch.present["mri"], found, out[:, 0])
    patches = batch.inputs.get("he")
    if patches is not None and bool(batch.present["he"].any()):
        found = he(patches.flatten(0, 1), batch.valid["he"]).float()
        out[:, 1] = torch.where(batch.present["he"], found, out[:, 1])
    return out
