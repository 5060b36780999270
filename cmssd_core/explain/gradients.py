"""Methods that follow gradients: Integrated Gradients, SmoothGrad, GradCAM; and the gate, which is not evidence."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from torch.nn import functional as F

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.explain.baselines import path_start
from cmssd_core.explain.forward import Bridge, Tap, clone
from cmssd_core.explain.memory import Slopes
from cmssd_core.explain.question import Found, Question, as_maps
from cmssd_core.types import InputError

SMALL = 0.1  # a difference of the target, in its unit, below which the residual is not divided by it
START = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST_CELLS = 8  # a map of GradCAM has at least this many rows, where a branch has a map that fine


@dataclass(eq=False)
class _Node:
    """One point of the path: f and the derivative along the path, (case,), and the gradients."""

    value: Tensor
    along: Tensor
    slopes: tuple[Tensor, ...]


def integrated_gradients(question: Question) -> Found:
    """Sundararajan et al., ICML 2017: the gradient averaged from the baseline to the image, times their difference.

    Adaptive: f is known at every point, so each piece of the path has a completeness residual of its own (trapezoid
    rule); the pieces that miss most are halved until what is left is at most `tolerance` of f(x) - f(baseline). All
    points are used. With settings.steps it is Captum's Gauss-Legendre rule.
    """
    bridge, settings = question.bridge, question.settings
    base, words = path_start(bridge, settings)
    if settings.steps is not None:
        return _fixed(question, base, words)
    slopes = Slopes(bridge, memory_mb=settings.memory_mb)
    ways = tuple(x - b for x, b in zip(bridge.inputs, base, strict=True))
    path: dict[float, _Node] = {}
    wanted = list(START)
    while wanted:
        for first in range(0, len(wanted), slopes.copies):
            some = wanted[first : first + slopes.copies]
            rows = [tuple(b + a * way for b, way in zip(base, ways, strict=True)) for a in some]
            values, found = slopes(rows)
            for a, reached, slope in zip(some, values, found, strict=True):
                along = [(s * way).flatten(1).sum(1) for s, way in zip(slope, ways, strict=True)]
                path[a] = _Node(reached, torch.stack(along).sum(0).double(), slope)
            question.tell(min(0.95, len(path) / 24), f"following the path from the baseline, {len(path)} points")
        wanted = _halved(path, settings.tolerance, settings.max_steps)
    at = sorted(path)
    total = tuple(torch.zeros_like(way) for way in ways)
    for index, a in enumerate(at):
        weight = (at[min(index + 1, len(at) - 1)] - at[max(index - 1, 0)]) / 2
        for summed, part in zip(total, path[a].slopes, strict=True):
            summed += weight * part
    maps = tuple(summed * way for summed, way in zip(total, ways, strict=True))
    return Found(
        maps=as_maps(bridge.names, maps),
        value=path[1.0].value,
        effort=f"{len(at)} points of the path" + (", in parts to save memory" if slopes.thrifty else ""),
        baseline=words,
        baseline_value=path[0.0].value,
        gap=gap(maps, path[1.0].value, path[0.0].value),
    )


def _residuals(path: dict[float, _Node], at: list[float]) -> Tensor:
    """By how much the trapezoid misses f(end) - f(start) on each piece of the path: (piece, case)."""
    missed = [
        path[b].value.double() - path[a].value.double() - (b - a) / 2 * (path[a].along + path[b].along)
        for a, b in itertools.pairwise(at)
    ]
    return torch.stack(missed)


def _halved(path: dict[float, _Node], tolerance: float, most: int) -> list[float]:
    """The midpoints to look at next; none where the residual is small enough, or no more points are allowed."""
    at = sorted(path)
    missed = _residuals(path, at)
    span = (path[1.0].value - path[0.0].value).double().abs().clamp(min=SMALL)
    share = missed.abs() / (tolerance * span)  # (piece, case): 1 = as much as the whole path may miss
    values = torch.stack([path[a].value for a in at]).double()
    moved = values.diff(dim=0).abs().sum(0).clamp(min=SMALL)  # up and down along the path
    # Errors of pieces may cancel by luck: what they come to without cancelling is held to four times the tolerance.
    open_cases = (missed.sum(0).abs() > tolerance * span) | (missed.abs().sum(0) > 4 * tolerance * moved)
    if not bool(open_cases.any()) or len(at) >= most:
        return []
    worst = share[:, open_cases].amax(1)
    chosen = torch.nonzero(worst >= 0.5 * worst.max()).flatten().tolist()
    chosen = sorted(chosen, key=lambda piece: -float(worst[piece]))[: most - len(at)]
    return [(at[piece] + at[piece + 1]) / 2 for piece in sorted(chosen)]


def _fixed(question: Question, base: tuple[Tensor, ...], words: str) -> Found:
    bridge, settings = question.bridge, question.settings
    assert settings.steps is not None
    copies = Slopes(bridge, memory_mb=settings.memory_mb).copies
    question.tell(0.05, f"following the path from the baseline, {settings.steps} points")
    with torch.enable_grad():
        maps = IntegratedGradients(bridge).attribute(
            bridge.inputs,
            baselines=base,
            n_steps=settings.steps,
            method="gausslegendre",
            internal_batch_size=copies * bridge.cases,
        )
    with torch.no_grad():
        value, empty = bridge(*bridge.inputs), bridge(*base)
    return Found(
        maps=as_maps(bridge.names, maps),
        value=value,
        effort=f"{settings.steps} points of the path (Gauss-Legendre)",
        baseline=words,
        baseline_value=empty,
        gap=gap(maps, value, empty),
    )


def gap(maps: tuple[Tensor, ...], value: Tensor, empty: Tensor) -> Tensor:
    """|sum of the maps - (f(x) - f(baseline))| / |f(x) - f(baseline)| (case,); NaN where that difference is < SMALL."""
    total = sum(m.detach().double().flatten(1).sum(1) for m in maps)
    span = (value - empty).double()
    return torch.where(span.abs() >= SMALL, (total - span).abs() / span.abs(), torch.nan)


def smoothgrad(question: Question) -> Found:
    """Smilkov et al., 2017: the gradient's magnitude averaged over noisy copies of the images. Knows no sign."""
    bridge, settings = question.bridge, question.settings
    slopes = Slopes(bridge, memory_mb=settings.memory_mb)
    rng = torch.Generator().manual_seed(settings.seed)
    spreads = {"mri": settings.noise_mri, "he": settings.noise_he}
    for name in bridge.names:
        if name not in spreads:
            raise InputError(f"noise is not offered for {MODALITIES[name].label}; choose another method")
    noise = [spreads[name] for name in bridge.names]
    total = tuple(torch.zeros_like(x) for x in bridge.inputs)
    done = 0
    while done < settings.samples:
        some = min(slopes.copies, settings.samples - done)
        rows = [
            tuple(
                x + s * torch.randn(x.shape, generator=rng).to(x.device)
                for x, s in zip(bridge.inputs, noise, strict=True)
            )
            for _ in range(some)
        ]
        for found in slopes(rows)[1]:
            for kept, slope in zip(total, found, strict=True):
                kept += slope.abs() / settings.samples
        done += some
        question.tell(done / settings.samples, f"gradients of noisy copies, {done} of {settings.samples}")
    with torch.no_grad():
        value = bridge(*bridge.inputs)
    words = f"{settings.samples} noisy copies (MRI {settings.noise_mri:g} z-scores, H&E {settings.noise_he:g} of white)"
    return Found(maps=as_maps(bridge.names, total), value=value, effort=words)


def gradcam(question: Question) -> Found:
    """Selvaraju et al., ICCV 2017, for each branch: ReLU of its last map's channels weighed by their mean gradients.

    Of a branch with maps at several strides, the coarsest of at least LEAST_CELLS rows. Enlarged bilinearly: as blurred
    as its cells, it misses what is smaller.
    """
    bridge = question.bridge
    paths = {name: _layer(bridge, name) for name in bridge.names}
    taps: dict[str, Tap] = {}

    def tapped(path: str, part: nn.Module) -> Tap:
        taps[path] = Tap(part)
        return taps[path]

    looked = clone(bridge.model, {path: partial(tapped, path) for path in paths.values()})
    inputs = tuple(x.detach().requires_grad_() for x in bridge.inputs)
    with torch.enable_grad():
        value = bridge.read(looked, inputs)
        kept = {name: [_finest(maps) for maps in taps[path].seen] for name, path in paths.items()}
        flat = [m for maps in kept.values() for m in maps]
        slopes = iter(torch.autograd.grad(value.sum(), flat, allow_unused=True))
    found = {}
    for name, given in zip(bridge.names, bridge.inputs, strict=True):
        cams = []
        for m in kept[name]:
            slope = next(slopes)
            weights = torch.zeros_like(m) if slope is None else slope
            cams.append((weights.mean(dim=(2, 3), keepdim=True) * m.detach()).sum(1, keepdim=True).relu())
        cells = torch.cat(cams).float()
        large = F.interpolate(cells, size=given.shape[-2:], mode="bilinear", align_corners=False)
        large = large.unflatten(0, given.shape[:2]) * bridge.real[name][:, :, None, None, None]
        found[name] = large if name == "mri" else large.squeeze(2)
    sizes = ", ".join(
        f"{MODALITIES[name].label} {maps[0].shape[-2]} x {maps[0].shape[-1]} cells"
        for name, maps in kept.items()
        if maps
    )
    return Found(maps=found, value=value.detach(), effort=f"one pass there and back; {sizes}")


def _layer(bridge: Bridge, name: str) -> str:
    """The path of the last part of a branch that still gives maps: the encoder, or its trunk where it gives vectors."""
    path = bridge.model.encoders.get(name)
    if path is None:
        label = MODALITIES[name].label
        raise InputError(f"this model has no {label} branch with maps of its own; choose another method")
    encoder = bridge.model.get_submodule(path)
    rows = next(x for n, x in zip(bridge.names, bridge.inputs, strict=True) if n == name)[:1, :1]
    with torch.no_grad():
        batch = bridge.batch.inputs[name][:1, :1]
        gives = encoder(batch.flatten(2, 3).flatten(0, 1) if name == "mri" else rows.flatten(0, 1))
    return path if gives.ndim == 4 else f"{path}.trunk"


def _finest(maps: list[Tensor]) -> Tensor:
    fine = [m for m in maps if m.shape[-2] >= LEAST_CELLS]
    return min(fine, key=lambda m: m.shape[-2]) if fine else max(maps, key=lambda m: m.shape[-2])


def gate(question: Question) -> Found:
    """Equation 2's gate over the MRI (1 = all MRI) and the pooling weights of the patches: where the model weighted.

    Not evidence: a gate says nothing of what was read there.
    """
    bridge = question.bridge
    with torch.no_grad():
        output = bridge.model(bridge.batch_of(bridge.inputs))
        value = bridge(*bridge.inputs)
    found = {}
    for name, given in zip(bridge.names, bridge.inputs, strict=True):
        real = bridge.real[name]
        if name == "mri" and "cross" in output.attention:
            large = F.interpolate(
                output.attention["cross"].float(), size=given.shape[-2:], mode="bilinear", align_corners=False
            )
            found[name] = (large * real[:, :, None, None])[:, :, None]
        if name == "he" and "patch" in output.attention:
            weights = output.attention["patch"].float() * real
            found[name] = weights[:, :, None, None].expand(*weights.shape, *given.shape[-2:]).contiguous()
    if not found:
        raise InputError("this model has no gate and no attention; choose another method")
    return Found(maps=found, value=value, effort="read off the model's own pass")
