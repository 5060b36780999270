"""OSNet on the H&E slide alone: the baseline of seed paper 000, section 3.4.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, with group for batch normalisation:
residual blocks of four streams that see 3, 5, 7 and 9 pixels (figure 4), weighed channel by channel by one gate they
share (equation 3), built of lite 3x3 convolutions (section 3.1). One vector a patch, attention pooled over the bag.

A slide cannot say how much of the bone is tumour, so there are no maps and severity is None; the paper's severity
error of the H&E baseline has no counterpart here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmssd_core.blocks.branches import head, slide_alone
from cmssd_core.blocks.encoders import standardise
from cmssd_core.blocks.layers import AttentionPool, ConvNormReLU, norm
from cmssd_core.blocks.passes import real_patches
from cmssd_core.models.base import Model, check_present
from cmssd_core.models.cmssd import SPECS
from cmssd_core.types import Batch, ModelOutput

REDUCTION = 4  # of a block's channels inside its streams
STREAMS = 4
GATE_REDUCTION = 16

#: Channels of the stem and the three stages: x1.0 and x0.5 of the paper's table 7.
WIDTHS = {"reference": (64, 256, 384, 512), "compact": (32, 128, 192, 256)}


class LiteConv(nn.Sequential):
    """A 3x3 convolution in two: one cell, all channels; then 3x3 cells, each channel by itself (figure 3b)."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 1, bias=False),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            norm(width),
            nn.ReLU(inplace=False),
        )


class AggregationGate(nn.Module):
    """Equation 3: the streams' sum, each weighed channel by channel by what one shared small network says of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width // GATE_REDUCTION)
        nn.init.ones_(self.hidden.bias)  # with two to eight units, those that start dead would leave the gate constant
        self.activation = nn.ReLU(inplace=False)
        self.weigh = nn.Linear(width // GATE_REDUCTION, width)
        self.sigmoid = nn.Sigmoid()

    def forward(self, streams: Tensor) -> Tensor:
        """(stream, n, width, y, x) -> (n, width, y, x)."""
        gate = self.sigmoid(self.weigh(self.activation(self.hidden(streams.mean(dim=(3, 4))))))
        out: Tensor = (gate[..., None, None] * streams).sum(0)
        return out


class OmniScaleBlock(nn.Module):
    """Figure 4: streams of one to four lite convolutions between two 1x1 convolutions, around an identity."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        width = outputs // REDUCTION
        self.reduce = ConvNormReLU(inputs, width, kernel=1)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LiteConv(width) for _ in range(length))) for length in range(1, STREAMS + 1)
        )
        self.gate = AggregationGate(width)
        self.expand = nn.Sequential(nn.Conv2d(width, outputs, 1, bias=False), norm(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))
        self.activation = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, y, x) -> (n, outputs, y, x)."""
        reduced = self.reduce(x)
        mixed = self.gate(torch.stack([stream(reduced) for stream in self.streams]))
        out: Tensor = self.activation(self.expand(mixed) + self.shortcut(x))
        return out


class OSNetEncoder(nn.Module):
    """Table 1: stem, three stages of two blocks, a 1x1 convolution, the average over the patch, a projection."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        stem, first, second, third = widths
        self.trunk = nn.Sequential(
            ConvNormReLU(3, stem, kernel=7, stride=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(OmniScaleBlock(stem, first), OmniScaleBlock(first, first)),
            *(ConvNormReLU(first, first, kernel=1), nn.AvgPool2d(2)),
            *(OmniScaleBlock(first, second), OmniScaleBlock(second, second)),
            *(ConvNormReLU(second, second, kernel=1), nn.AvgPool2d(2)),
            *(OmniScaleBlock(second, third), OmniScaleBlock(third, third)),
            ConvNormReLU(third, third, kernel=1),
        )
        self.project = nn.Linear(third, third)
        self.norm = norm(third)
        self.activation = nn.ReLU(inplace=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(patch, 3, y, x) RGB in [0, 1], white = 1 -> (patch, widths[-1]). White glass becomes 0 before the trunk."""
        out: Tensor = self.activation(self.norm(self.project(self._averages(patches))))
        return out

    def _averages(self, patches: Tensor) -> Tensor:
        out: Tensor = self.trunk(1.0 - patches).mean(dim=(2, 3))
        return out

    @torch.no_grad()
    def standardise(self, patches: Tensor) -> None:
        """Start the projection on the scale of these patches."""
        standardise(self.project, self._averages(patches))


class OSNet(Model):
    """The H&E-only baseline; an MRI that comes along is not read."""

    needs: ClassVar[tuple[str, ...]] = ("he",)
    optional: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("malignant",)
    sizes: ClassVar[tuple[str, ...]] = tuple(WIDTHS)
    encoders: ClassVar[Mapping[str, str]] = {"he": "phi_he"}

    def __init__(self, size: str = "reference") -> None:
        super().__init__(size)
        self.spec = {name: SPECS[size][name] for name in self.needs}
        widths = WIDTHS[size]
        self.width = widths[-1]
        self.phi_he = OSNetEncoder(widths)
        self.pool_patches = AttentionPool(self.width, self.width // 4)
        self.malignancy = head(self.width, self.width // 4)

    def fit_start(self, batch: Batch) -> None:
        """Start the projection on the scale of the batch's patches, as CM-SSD does."""
        if (patches := real_patches(batch)) is not None:
            self.phi_he.standardise(patches)

    def forward(self, batch: Batch) -> ModelOutput:
        """Malignancy from the slide. Raises InputError if a case has none."""
        check_present(batch, self.spec, optional=self.optional)
        malignant, weights = slide_alone(
            batch, phi_he=self.phi_he, pool=self.pool_patches, malignancy=self.malignancy, width=self.width
        )
        return ModelOutput(heads={"malignant": malignant}, attention={"patch": weights})
