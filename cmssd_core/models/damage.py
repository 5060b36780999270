"""How damaged an input looks, from its own texture: an option of CM-SSD's gate, and what it is taught to make of it.

Section 3.7 of seed paper 000 says that the gate turns to the MRI where the slide is damaged. Group-normalised features
hardly show damage, and nothing in equation 5 teaches a gate to mind it. With the option the concatenation of equation 2
has two more channels, how damaged the MRI and the slide look, and two terms join the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.batches import device_of
from cmssd_core.blocks.encoders import standardise
from cmssd_core.blocks.passes import NEIGHBOURS
from cmssd_core.types import Batch

BANDS = 4
A_CHANNEL = 4 + 2 * BANDS  # figures that `texture` gives of each channel
CHANNELS = 2  # beside the features of equation 2: damage of the MRI and of the slide
LEAN = 1.5  # how much a wholly damaged input moves the logit of the gate when training starts
#: Wanted mean of equation 2's gate: of sound inputs, and what a wholly damaged MRI and slide add to it.
GATE = (0.75, -0.25, 0.20)


def texture(images: Tensor) -> Tensor:
    """Images (n, channel, y, x) -> figures (n, A_CHANNEL * channel), float32.

    Of each channel mean, least, greatest and log spread; of each band of its Laplacian pyramid (Burt and Adelson, IEEE
    Trans. Commun. 1983) the log of the mean amount, and the log of how unevenly that is spread. Blur, noise, ink and
    wash-out change these by factors.
    """
    x = images.float()
    summary = [x.mean((2, 3)), x.amin((2, 3)), x.amax((2, 3)), 0.5 * (x.var((2, 3)) + 1e-8).log()]
    for _ in range(BANDS):
        half = F.avg_pool2d(x, 2)
        band = x - F.interpolate(half, size=x.shape[-2:], mode="bilinear", align_corners=False)
        amount = (band.abs().mean((2, 3)) + 1e-4).log()
        summary += [amount, (band.square().mean((2, 3)) + 1e-8).log() - 2 * amount]
        x = half
    return torch.cat(summary, dim=1)


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


def select_images(batch: Batch, modality: str) -> Tensor | None:
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
        images = select_images(batch, name)
        sound = torch.full((len(batch.ids),), -8.0, device=device_of(batch))
        words = sound if images is None else judge(images, batch.valid[name]).float()
        out.append(torch.where(batch.present[name], words, sound))
    return torch.stack(out, dim=1)


@torch.no_grad()
def lean_away(w_cross: nn.Conv2d) -> None:
    """Start the gate of equation 2 leaning away from what looks damaged; its last CHANNELS inputs say how much."""
    lean = torch.tensor([-LEAN, LEAN]).view(2, 1, 1)
    w_cross.weight[:, -CHANNELS:] = lean / w_cross.weight[0, 0].numel()


def damage_term(logits: Tensor, spoilt: Tensor, batch: Batch, *, cases: int) -> Tensor:
    """Cross-entropy of the judged damage (case, 2) with the true one, over the modalities that are shown."""
    seen = torch.stack([batch.present["mri"], batch.present["he"]], dim=1)
    wrong = F.binary_cross_entropy_with_logits(logits.float(), spoilt, reduction="none")
    return (wrong * seen).sum() / cases


def gate_term(cross: Tensor, spoilt: Tensor, batch: Batch, *, cases: int) -> Tensor:
    """Draws the gate's mean over a case, cross (case, slice, h, w), to GATE by how badly either input was spoilt."""
    fused = batch.present["mri"] & batch.present["he"]
    cells = cross.float() * batch.valid["mri"][:, :, None, None]
    found = cells.mean(dim=(1, 2, 3)) / batch.valid["mri"].float().mean(1).clamp(min=1e-6)
    wanted = GATE[0] + spoilt @ spoilt.new_tensor(GATE[1:])
    away = F.binary_cross_entropy(found.clamp(1e-6, 1 - 1e-6), wanted, reduction="none")
    return (away * fused).sum() / cases


def spoilt_of(spoilt: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """How badly training spoilt the MRI and the slide, (case, 2); 0 where nobody in the batch has one."""
    none = torch.zeros(len(batch.ids), device=device_of(batch))
    return torch.stack([spoilt.get("mri", none), spoilt.get("he", none)], dim=1)
