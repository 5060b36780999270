"""Artefacts for training: what a scanner or a slide preparation does wrong, at random strength, on prepared inputs.

Cheaper cousins of the corruptions the evaluation puts on raw inputs, so that a model is not tested on the very
functions it was trained with. Each takes a strength in [0, 1] and a generator that decides the rest.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torchio as tio
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Artefact = Callable[[Tensor, float, np.random.Generator], Tensor]


def spoil_mri(slices: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """One artefact of MRI on z-scored slices (slice, neighbour, contrast, y, x); absent contrasts stay zeros."""
    name = str(rng.choice(list(MRI)))
    present = slices.flatten(3).any(-1).any(0).any(0)  # (contrast,)
    flat = slices.flatten(0, 1)[:, present]  # (slice * neighbour, contrast, y, x)
    out = slices.clone()
    out[:, :, present] = MRI[name](flat, strength, rng).unflatten(0, slices.shape[:2])
    return out


def spoil_slide(patches: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """One artefact of slides on patches (patch, 3, y, x) in [0, 1]."""
    name = str(rng.choice(list(SLIDE)))
    return SLIDE[name](patches, strength, rng).clamp(0, 1)


def _noise(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    sigma = 0.4 * strength
    noise = torch.from_numpy(rng.standard_normal((2, *x.shape), dtype=np.float32)) * sigma
    floor = x.amin(dim=(0, 2, 3), keepdim=True)
    return torch.hypot(x - floor + noise[0], noise[1]) + floor


def _low_resolution(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    factor = 1 + 3 * strength
    height, width = x.shape[-2:]
    small = F.interpolate(x, size=(round(height / factor), round(width / factor)), mode="area")
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def _bias(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    y, xx = torch.meshgrid(torch.linspace(-1, 1, x.shape[-2]), torch.linspace(-1, 1, x.shape[-1]), indexing="ij")
    terms = torch.stack([y, xx, y * xx, y**2, xx**2])
    weights = torch.tensor(rng.uniform(-0.5, 0.5, len(terms)) * strength, dtype=torch.float32)
    floor = x.amin(dim=(0, 2, 3), keepdim=True)
    return (x - floor) * torch.exp((weights[:, None, None] * terms).sum(0)) + floor


def _gamma(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    low, high = x.amin(dim=(0, 2, 3), keepdim=True), x.amax(dim=(0, 2, 3), keepdim=True)
    exponent = float(np.exp(rng.choice([-0.5, 0.5]) * strength))
    return ((x - low) / (high - low).clamp(min=1e-6)) ** exponent * (high - low) + low


def _motion(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A shift in the plane half-way through the acquisition: lines of k-space from two places."""
    y, xx = (int(v) for v in np.round(rng.uniform(-6, 6, 2) * strength))
    lines = torch.fft.fftshift(torch.arange(x.shape[-2]) >= int(rng.integers(x.shape[-2] // 4, 3 * x.shape[-2] // 4)))
    still, moved = torch.fft.fft2(x), torch.fft.fft2(torch.roll(x, (y, xx), (-2, -1)))
    mixed: Tensor = torch.fft.ifft2(torch.where(lines[:, None], moved, still)).real
    return mixed


def _torchio(make: Callable[[float], tio.Transform]) -> Artefact:
    def apply(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):  # TorchIO draws from torch's global generator
            torch.manual_seed(int(rng.integers(2**31)))
            changed: Tensor = make(strength)(x.permute(1, 2, 3, 0).contiguous())
        return changed.permute(3, 0, 1, 2).to(x.dtype)

    return apply


MRI: dict[str, Artefact] = {
    "noise": _noise,
    "low resolution": _low_resolution,
    "bias": _bias,
    "gamma": _gamma,
    "motion": _motion,
    "ghosting": _torchio(lambda s: tio.RandomGhosting(num_ghosts=(2, 8), axes=(0, 1), intensity=(0.6 * s, 0.6 * s))),
    "spike": _torchio(lambda s: tio.RandomSpike(num_spikes=1, intensity=(0.5 * s, 0.5 * s))),
}


def _defocus(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    radius = round(1 + 4 * strength)
    y, xx = torch.meshgrid(*[torch.arange(-radius, radius + 1)] * 2, indexing="ij")
    disk = (y**2 + xx**2 <= radius**2).float()
    kernel = (disk / disk.sum()).expand(3, 1, -1, -1)
    return F.conv2d(F.pad(x, [radius] * 4, mode="reflect"), kernel, groups=3)


def _jpeg(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    out = []
    for patch in (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        held = io.BytesIO()
        Image.fromarray(patch).save(held, "jpeg", quality=round(40 - 34 * strength))
        out.append(np.asarray(Image.open(held)))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255


def _pixelate(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    size = [max(8, round(n * (0.7 - 0.45 * strength))) for n in x.shape[-2:]]
    return F.interpolate(F.interpolate(x, size=size, mode="area"), size=x.shape[-2:], mode="nearest")


def _stain(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    density = -torch.log(x.clamp(min=1 / 255))
    scale = torch.tensor(1 + 0.5 * strength * rng.uniform(-1, 1, (1, 3, 1, 1)), dtype=torch.float32)
    shift = torch.tensor(0.15 * strength * rng.uniform(-1, 1, (1, 3, 1, 1)), dtype=torch.float32)
    return torch.exp(-(density * scale + shift).clamp(min=0))


def _brightness(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    grey = x.mean(1, keepdim=True)
    saturated = grey + (x - grey) * float(1 + rng.uniform(-0.6, 0.6) * strength)
    return saturated + 0.25 * strength * float(rng.choice([-1.0, 1.0]))


def _band(x: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """A straight band across each patch it touches, (patch, 1, y, x) bool, over about `share` of it."""
    height, width = x.shape[-2:]
    turn = rng.uniform(0, np.pi)
    y, xx = np.mgrid[:height, :width]
    across = (y - height / 2) * np.cos(turn) + (xx - width / 2) * np.sin(turn)
    offsets = rng.uniform(-height / 2, height / 2, (len(x), 1, 1, 1))
    touched = rng.random((len(x), 1, 1, 1)) < 0.7
    return torch.from_numpy((np.abs(across - offsets) < share * height / 2) & touched)


def _pen(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    ink = [(0.25, 0.45, 0.95), (0.2, 0.7, 0.3), (0.15, 0.15, 0.15)][int(rng.integers(3))]
    return torch.where(_band(x, 0.1 + 0.5 * strength, rng), x * torch.tensor(ink).view(1, 3, 1, 1), x)


def _fold(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    return torch.where(_band(x, 0.1 + 0.4 * strength, rng), x**2, x)


def _tear(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    coarse = torch.from_numpy(rng.standard_normal((len(x), 1, 5, 5)).astype(np.float32))
    field = F.interpolate(coarse, size=x.shape[-2:], mode="bicubic", align_corners=False)
    return torch.where(field > float(np.quantile(field.numpy(), 1 - 0.05 - 0.5 * strength)), torch.ones_like(x), x)


def _bubble(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    height, width = x.shape[-2:]
    y, xx = np.mgrid[:height, :width]
    cy, cx = (rng.uniform(0, n, (len(x), 1, 1, 1)) for n in (height, width))
    away = np.hypot(y - cy, xx - cx) / (rng.uniform(0.3, 0.7, (len(x), 1, 1, 1)) * height)
    inside, rim = torch.from_numpy(away < 1), torch.from_numpy(np.abs(away - 1) < 0.06)
    return torch.where(rim, x * 0.3, torch.where(inside, x + strength * (0.95 - x), x))


SLIDE: dict[str, Artefact] = {
    "defocus": _defocus,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
    "stain": _stain,
    "brightness": _brightness,
    "pen": _pen,
    "fold": _fold,
    "tear": _tear,
    "bubble": _bubble,
}
