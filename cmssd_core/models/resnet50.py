"""ResNet-50 on the MRI alone: the baseline of seed paper 000, section 3.4.

The trunk is He et al. (CVPR 2016), table 1, 50 layers: bottlenecks 3-4-6-3, the stride in the 3x3 convolution as most
implementations have it, with group for batch normalisation. The paper compares Dice and severity too and says nothing
of how a classifying network gave them, so the trunk takes the place of Phi_MRI in CM-SSD's MRI branch: its stages are
joined top-down, decoded to maps, and pooled over all slices for the malignancy head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from cmssd_core.blocks.branches import head, mri_alone
from cmssd_core.blocks.encoders import MRIEncoder, Widths
from cmssd_core.blocks.layers import AttentionPool, ConvNormReLU, norm
from cmssd_core.blocks.maps import SIGNS, Decoder, finish
from cmssd_core.blocks.passes import NEIGHBOURS, flat_slices
from cmssd_core.models.base import Model, check_present
from cmssd_core.models.cmssd import SPECS
from cmssd_core.models.spec import contrasts_of
from cmssd_core.types import Batch, ModelOutput

EXPANSION = 4
DEPTHS: Widths = (3, 4, 6, 3)


@dataclass(frozen=True, kw_only=True)
class ResNet50Config:
    """Widths of one size: base is the width of the first stage's 3x3 convolutions, 64 in the paper."""

    base: int
    fused: int
    decoder: tuple[int, int, int]  # channels at strides 4, 2, 1


CONFIGS = {
    "reference": ResNet50Config(base=64, fused=128, decoder=(104, 64, 16)),
    "compact": ResNet50Config(base=16, fused=64, decoder=(64, 32, 16)),
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around an identity (He et al., CVPR 2016, figure 5 right)."""

    def __init__(self, inputs: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.reduce = ConvNormReLU(inputs, width, kernel=1)
        self.middle = ConvNormReLU(width, width, stride=stride)
        self.expand = nn.Sequential(nn.Conv2d(width, outputs, 1, bias=False), norm(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))
        self.activation = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, y, x) -> (n, 4 * width, y / stride, x / stride)."""
        out: Tensor = self.activation(self.expand(self.middle(self.reduce(x))) + self.shortcut(x))
        return out


class ResNet50Trunk(nn.Module):
    """Table 1 of He et al. without its classifier: maps of 4, 8, 16 and 32 times `base` channels."""

    def __init__(self, inputs: int, base: int) -> None:
        super().__init__()
        self.stem = ConvNormReLU(inputs, base, kernel=7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        before, stages = base, []
        for stage, depth in enumerate(DEPTHS):
            width = base * 2**stage
            blocks = [Bottleneck(before, width, stride=1 if stage == 0 else 2)]
            before = EXPANSION * width
            blocks += [Bottleneck(before, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, inputs, y, x) -> four maps at strides 4, 8, 16 and 32; y and x divisible by 32."""
        x = self.pool(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class ResNet50(Model):
    """The MRI-only baseline; a slide that comes along is not read."""

    needs: ClassVar[tuple[str, ...]] = ("mri",)
    optional: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("tumour", "bone", "malignant", "severity_pct")
    sizes: ClassVar[tuple[str, ...]] = tuple(CONFIGS)
    encoders: ClassVar[Mapping[str, str]] = {"mri": "phi_mri"}

    def __init__(self, size: str = "reference") -> None:
        super().__init__(size)
        config = CONFIGS[size]
        self.spec = {name: SPECS[size][name] for name in self.needs}
        channels = NEIGHBOURS * len(contrasts_of(SPECS[size]))
        first = EXPANSION * config.base
        widths = (first, 2 * first, 4 * first, 8 * first)
        self.phi_mri = MRIEncoder(ResNet50Trunk(channels, config.base), widths, config.fused)
        self.pool_cells = AttentionPool(config.fused, config.fused // 2)
        self.decoder = Decoder(channels, fused=config.fused, widths=config.decoder, context=config.fused)
        self.malignancy = head(2 * config.fused + SIGNS, config.fused)

    def forward(self, batch: Batch) -> ModelOutput:
        """Maps and malignancy from the MRI. Raises InputError if a case has none."""
        check_present(batch, self.spec, optional=self.optional)
        flat = flat_slices(batch)
        assert flat is not None  # every case has an MRI
        maps, malignant = mri_alone(
            flat,
            batch,
            phi_mri=self.phi_mri,
            pool=self.pool_cells,
            decoder=self.decoder,
            malignancy=self.malignancy,
        )
        return finish(maps, malignant, batch, attention={})
