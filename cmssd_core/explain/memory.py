"""Gradients of a case that would not fit: how much a pass keeps, and a clone that keeps less and computes twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from cmssd_core.explain.forward import Bridge, clone
from cmssd_core.explain.targets import Target
from cmssd_core.models.base import Model


class Thrifty(nn.Module):
    """A module whose rows pass a few at a time and are computed anew on the way back, so little is kept."""

    def __init__(self, inner: nn.Module, rows: int) -> None:
        super().__init__()
        self.inner, self.rows = inner, rows

    def forward(self, *given: Tensor) -> Tensor:
        """What the module gives of given (row, ...)."""
        parts = zip(*(x.split(self.rows) for x in given), strict=True)
        return torch.cat([checkpoint(self.inner, *part, use_reentrant=False) for part in parts])


def _first(name: str, geometry: Tensor) -> Tensor:
    """The geometry of one case with one patch and no biopsy site."""
    if name == "mri.site_known":
        return torch.zeros_like(geometry[:1])
    return geometry[:1, :1] if name == "he.patch_mm" else geometry[:1]


def _light_target(bridge: Bridge) -> Target:
    """A target that reads the whole network on one slice and one patch."""
    if "malignant" in bridge.model.tasks:
        return Target("malignant")
    if bridge.target.region is None:
        return bridge.target
    return replace(bridge.target, region=np.ones((1, *bridge.target.region.shape[1:]), dtype=bool))


def bytes_a_pixel(bridge: Bridge) -> float:
    """What a forward pass with gradients keeps, for each pixel of its slices and patches: measured on one of each."""
    whole = bridge.batch
    small = replace(
        whole,
        ids=whole.ids[:1],
        inputs={name: whole.inputs[name][:1, :1] for name in bridge.names},
        valid={name: torch.ones_like(valid[:1, :1]) for name, valid in whole.valid.items()},
        present={name: available[:1] for name, available in whole.present.items()},
        geometry={name: _first(name, value) for name, value in whole.geometry.items()},
    )
    one = Bridge(bridge.model, small, _light_target(bridge))
    kept: dict[int, int] = {}

    def weigh(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(weigh, lambda tensor: tensor):
        one(*(given.requires_grad_() for given in one.inputs))
    weights = {p.untyped_storage().data_ptr() for p in bridge.model.parameters()}
    return sum(size for at, size in kept.items() if at not in weights) / one.pixels()


class Slopes:
    """f and its gradient at changed inputs, as many at once as memory allows.

    A case that does not fit by itself passes through a Thrifty clone, which takes a third longer.
    """

    def __init__(self, bridge: Bridge, *, memory_mb: int) -> None:
        self.bridge, self.model = bridge, bridge.model
        each = bytes_a_pixel(bridge)
        whole = each * bridge.pixels()
        room = memory_mb * 2.0**20
        self.copies = int(max(1, min(32, room // max(whole, 1))))
        self.thrifty = whole > room
        if self.thrifty:
            biggest = max(x.shape[-1] * x.shape[-2] for x in bridge.inputs)
            rows = int(max(1, room / 2 // (each * biggest)))
            self.model = clone(bridge.model, {path: lambda part: Thrifty(part, rows) for path in heavy(bridge.model)})

    def __call__(self, rows: list[tuple[Tensor, ...]]) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """rows: changed inputs, each a tuple of (case, ...) -> f (row, case), and for each row its gradients."""
        stacked = tuple(torch.cat(parts).requires_grad_() for parts in zip(*rows, strict=True))
        with torch.enable_grad():
            values = self.bridge.read(self.model, stacked)
            slopes = torch.autograd.grad(values.sum(), stacked, allow_unused=True)
        known = [torch.zeros_like(x) if slope is None else slope for x, slope in zip(stacked, slopes, strict=True)]
        by_row = [tuple(parts) for parts in zip(*(k.split(self.bridge.cases) for k in known), strict=True)]
        return values.detach().unflatten(0, (len(rows), self.bridge.cases)), by_row


#: Parts that take image rows, one answer a row, and hold nearly all of what a pass keeps.
HEAVY = ("phi_mri", "phi_he", "decoder")


def heavy(model: Model) -> tuple[str, ...]:
    """Those parts of HEAVY that the model has."""
    return tuple(name for name in HEAVY if name in model._modules)
