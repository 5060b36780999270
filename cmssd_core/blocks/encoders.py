"""Encoders of an MRI slice and of an H&E patch (Phi_MRI and Phi_H&E of seed paper 000, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.blocks.layers import ConvNormReLU, Trunk

Widths = tuple[int, int, int, int]


class MRIEncoder(nn.Module):
    """Phi_MRI of equation 1: a residual trunk whose stages are joined top-down into one map at stride 4.

    trunk gives four maps of `widths` channels at strides 4, 8, 16 and 32 (after Lin et al., CVPR 2017).
    """

    def __init__(self, trunk: nn.Module, widths: Widths, fused: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.lateral = nn.ModuleList(nn.Conv2d(width, fused, 1) for width in widths)
        self.smooth = ConvNormReLU(fused, fused)

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

    def __init__(self, widths: Widths, depths: Widths, fused: int) -> None:
        super().__init__()
        self.trunk = Trunk(3, widths, depths)
        self.project = nn.Linear(sum(widths), fused)
        self.activation = nn.ReLU(inplace=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(patch, 3, y, x) RGB in [0, 1], white = 1 -> (patch, fused). White glass becomes 0 before the trunk."""
        out: Tensor = self.activation(self.project(self._averages(patches)))
        return out

    def _averages(self, patches: Tensor) -> Tensor:
        return torch.cat([stage.mean(dim=(2, 3)) for stage in self.trunk(1.0 - patches)], dim=1)

    @torch.no_grad()
    def standardise(self, patches: Tensor) -> None:
        """Start the projection on the scale of these patches."""
        standardise(self.project, self._averages(patches))


@torch.no_grad()
def standardise(project: nn.Linear, averages: Tensor) -> None:
    """Rescale a projection so that on these averages (patch, width) its inputs count in (nearly) standard deviations.

    A data-dependent start (after Mishkin and Matas, ICLR 2016): averages over a patch differ between cases by a
    few percent of their size, and from there training did not find the difference in hundreds of steps.
    """
    mean, deviation = averages.mean(0), averages.std(0) + 0.05  # without a floor small inputs explode later
    scale = averages.shape[1] ** -0.5
    project.weight.copy_(torch.randn_like(project.weight) * scale / deviation)
    project.bias.copy_(-(project.weight @ mean))
