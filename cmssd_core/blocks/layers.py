"""Convolution units every encoder and decoder is built from: convolution, group normalisation, ReLU.

Group rather than batch normalisation: no statistics are shared between the cases of a batch, so a case gets the
same answer alone and in company, and two training processes equal one. Each ReLU is its own module, not in place,
because attribution methods hook modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with eight channels a group (fewer where `channels` is not divisible)."""
    groups = max(1, channels // 8)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class ConvNormReLU(nn.Sequential):
    """Convolution without bias, group normalisation, ReLU; padding keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            norm(outputs),
            nn.ReLU(inplace=False),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity (He et al., CVPR 2016), with group normalisation."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNormReLU(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), norm(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))
        self.activation = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, y, x) -> (n, outputs, y / stride, x / stride)."""
        out: Tensor = self.activation(self.second(self.first(x)) + self.shortcut(x))
        return out


class Trunk(nn.Module):
    """A residual network's stages: feature maps at strides 4, 8, 16 and 32."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int], depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNormReLU(inputs, widths[0] // 2, kernel=5, stride=2), ConvNormReLU(widths[0] // 2, widths[0], stride=2)
        )
        stages = []
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [ResidualBlock(before, width, stride=1 if stage == 0 else 2)]
            blocks += [ResidualBlock(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, inputs, y, x) -> four maps (n, widths[i], y / 2^(i+2), x / 2^(i+2)); y and x divisible by 32."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class AttentionPool(nn.Module):
    """Gated attention pooling of a bag of vectors (Ilse, Tomczak and Welling, ICML 2018, equation 9)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid())
        self.score = nn.Linear(hidden, 1)

    def forward(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """vectors (case, item, width), valid bool (case, item) -> pooled (case, width), weights (case, item).

        Weights sum to 1 over a case's valid items and are 0 on padding; a case without any valid item pools to 0.
        """
        scores = self.score(self.value(vectors) * self.gate(vectors)).squeeze(-1)
        scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1) * valid
        return torch.einsum("ci,ciw->cw", weights, vectors), weights
