"""Fine-tuning on a handful of scans: any network that draws one map is taught it, slice by slice, heavily varied.

What a few patients cannot show is how much side, size, angle and coil may vary. So each step draws slices anew and
turns, scales, mirrors and shades them; the weights that are kept are a running mean of those of the last steps (Polyak
and Juditsky, SIAM J. Control Optim. 30, 1992).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.losses import soft_dice_loss

#: slices (case, slice, 3, y, x) -> logits (case, slice, y, x)
Drawer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Scan:
    """A prepared scan of one contrast: image float32, its mask bool, and what is known before one looks:
    log odds float32 that are added to the network's logits, 0 = nothing; all (slice, y, x).
    """

    image: Tensor
    mask: Tensor
    known: Tensor


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """steps of `slices` slices each; half of them show tumour. learning_rate: at the top of the cosine.

    turn_deg, scale, shift: largest rotation, spread of the logarithm of the size, shift as a share of the slice. gamma,
    shade, noise: spread of the exponent, of the smooth field and of the noise on intensities. mean_over: steps the
    running mean of the weights remembers. clip: largest norm of the gradient. amp: "bf16" or "off", as in training.
    """

    steps: int = 1200
    slices: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 50
    clip: float = 1.0
    mean_over: int = 100
    turn_deg: float = 30.0
    scale: float = 0.2
    shift: float = 0.06
    gamma: float = 0.3
    shade: float = 0.3
    noise: float = 0.1
    amp: str = "bf16"
    seed: int = 1


def fine_tune(
    network: nn.Module,
    drawer: Drawer,
    scans: list[Scan],
    *,
    settings: FineTuneSettings,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Teach `network`, which `drawer` calls, the masks of the scans, in place; gives the loss of each step.

    Loss: binary cross-entropy and 1 - Dice over the slices of a step, of the logits and what was known. What step n
    draws depends on (seed, n) alone.
    """
    groups = [
        {"params": [p for p in network.parameters() if (p.ndim < 2) == free], "weight_decay": decay}
        for free, decay in ((True, 0.0), (False, settings.weight_decay))
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    kept = copy.deepcopy(network).requires_grad_(False)
    curve = []
    device = next(network.parameters()).device
    network.train()
    for step in range(settings.steps):
        rng = np.random.default_rng([settings.seed, step])
        images, masks, known = (part.to(device) for part in draw(scans, rng=rng, settings=settings))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp == "bf16"):
            logits = drawer(images)
        logits = logits.float() + known
        flat = masks.flatten(0, 1)
        overlap = soft_dice_loss(logits.sigmoid().reshape(1, -1), flat.reshape(1, -1)).mean()
        value = F.binary_cross_entropy_with_logits(logits.flatten(0, 1), flat) + overlap
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        share = 1.0 / min(step + 1, settings.mean_over)
        with torch.no_grad():
            for mean, now in zip(kept.parameters(), network.parameters(), strict=True):
                mean.lerp_(now, share)
            for held, current in zip(kept.buffers(), network.buffers(), strict=True):
                held.copy_(current)
        curve.append(float(value.detach()))
        if progress:
            progress(step + 1, settings.steps, curve[-1])
    network.load_state_dict(kept.state_dict())
    network.eval()
    return curve


def _rate(step: int, settings: FineTuneSettings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup) / max(1, settings.steps - settings.warmup)))


def draw(scans: list[Scan], *, rng: np.random.Generator, settings: FineTuneSettings) -> tuple[Tensor, Tensor, Tensor]:
    """A step's images (case, slice, 3, y, x), masks and known log odds (case, slice, y, x), each case varied in a way.

    How many slices come from one case changes from step to step, from one to all: a network that looks at a case as a
    whole must not learn how many slices a case has.
    """
    together = int(rng.choice([n for n in (1, 2, 4, 8) if settings.slices % n == 0]))
    cases = [scans[i] for i in _evenly(rng, len(scans), settings.slices // together)]
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []
    for scan in cases:
        with_tumour = np.flatnonzero(scan.mask.flatten(1).any(1).numpy())
        chosen = [
            int(rng.choice(with_tumour))
            if len(with_tumour) and rng.random() < 0.5
            else int(rng.integers(len(scan.mask)))
            for _ in range(together)
        ]
        index = torch.tensor(chosen)[:, None] + torch.tensor([-1, 0, 1])
        image = scan.image[index.clamp(0, len(scan.image) - 1)]  # (slice, 3, y, x)
        maps = torch.stack([scan.mask[index[:, 1]].float(), scan.known[index[:, 1]]], dim=1)
        image, maps = _turned(image, maps, rng, settings)
        drawn.append((_shaded(image, rng, settings), (maps[:, 0] >= 0.5).float(), maps[:, 1]))
    images, masks, known = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    return images, masks, known


def _evenly(rng: np.random.Generator, count: int, wanted: int) -> list[int]:
    rounds = [rng.permutation(count) for _ in range(-(-wanted // count))]
    return [int(i) for i in np.concatenate(rounds)[:wanted]]


def _turned(image: Tensor, maps: Tensor, rng: np.random.Generator, settings: FineTuneSettings) -> tuple[Tensor, Tensor]:
    """Both mirrored, rotated, scaled and shifted in the plane alike; beyond the slice stands each channel's least."""
    angle = math.radians(settings.turn_deg) * float(rng.uniform(-1, 1))
    size = math.exp(settings.scale * float(rng.standard_normal()))
    mirror = [float(rng.choice([-1.0, 1.0])) for _ in range(2)]
    shift = [2 * settings.shift * float(rng.uniform(-1, 1)) for _ in range(2)]
    cos, sin = math.cos(angle) / size, math.sin(angle) / size
    theta = torch.tensor([[cos * mirror[0], -sin * mirror[1], shift[0]], [sin * mirror[0], cos * mirror[1], shift[1]]])
    grid = F.affine_grid(theta.expand(len(image), 2, 3), [len(image), 1, *image.shape[-2:]], align_corners=False)
    air, least = image.min(), maps.amin((0, 2, 3), keepdim=True)
    moved = F.grid_sample(image - air, grid, align_corners=False) + air
    return moved, F.grid_sample(maps - least, grid, align_corners=False) + least


def _shaded(image: Tensor, rng: np.random.Generator, settings: FineTuneSettings) -> Tensor:
    """Another contrast curve, a smooth field of the coil, noise; on the scale the image came in."""
    low, high = float(image.min()), float(image.quantile(0.995))
    span = max(high - low, 1e-3)
    unit = ((image - low) / span).clamp(min=0)
    unit = unit ** math.exp(settings.gamma * float(rng.standard_normal()))
    coarse = torch.tensor(rng.standard_normal((1, 1, 4, 4)), dtype=torch.float32)
    field = F.interpolate(coarse, size=image.shape[-2:], mode="bicubic", align_corners=False)[0]
    unit = unit * torch.exp(settings.shade * field)
    gain, offset = 1 + 0.1 * float(rng.standard_normal()), 0.1 * float(rng.standard_normal())
    noise = torch.tensor(rng.standard_normal(image.shape), dtype=torch.float32)
    level = settings.noise * float(rng.random())
    return (unit * span + low) * gain + offset + level * noise
