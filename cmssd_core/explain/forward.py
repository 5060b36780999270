"""The one bridge from a model and a target to what Captum wants: inputs by modality -> one number a case.

The forward that predicts is the forward that is explained: a Bridge puts (changed) inputs back into the Batch they came
from and calls the model. It never alters the model, so nothing has to be undone and two threads cannot disturb one
another: what has to look inside is done on a clone that shares the weights (`clone`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from cmssd_core.batches import device_of, repeat_batch
from cmssd_core.cases.tensors import neighbours
from cmssd_core.explain import targets
from cmssd_core.explain.targets import Target
from cmssd_core.models.base import Model
from cmssd_core.types import Batch, InputError

Part = TypeVar("Part", bound=nn.Module)
CENTRE = 1  # of the neighbours slice before, slice, slice after


class Bridge:
    """One model, one Batch and one Target as a function of the inputs that are there.

    names: the modalities explained, in the order of the model's needs; inputs: their tensors in that order.
    "mri": (case, slice, contrast, y, x), each voxel once though the network reads it in three neighbouring slices
    (where the Batch's neighbours are not those of a whole volume: (case, slice, neighbour, contrast, y, x) as given).
    "he": (case, patch, 3, y, x). real: bool (case, slice or patch), what is not padding, by modality.
    Called with n copies of each input, copy by copy, it gives (n * case,).
    """

    def __init__(self, model: Model, batch: Batch, target: Target) -> None:
        if model.training:
            raise ValueError("a model is explained as it predicts: call eval() first")
        self.model, self.batch, self.target = model, batch, target
        available = [name for name in model.needs if name in batch.inputs and bool(batch.present[name].any())]
        if not available:
            raise InputError("a case came with nothing that this model reads; add the missing file")
        self.names = tuple(available)
        self.cases = len(batch.ids)
        self.real = {name: batch.valid[name] & batch.present[name][:, None] for name in self.names}
        self.whole_volume = False
        given = {name: batch.inputs[name].detach().clone() for name in self.names}
        if "mri" in given:
            centre = given["mri"][:, :, CENTRE]
            self.whole_volume = torch.equal(neighbours(centre, batch.valid["mri"]), given["mri"])
            given["mri"] = centre.contiguous() if self.whole_volume else given["mri"]
        self.inputs = tuple(given[name] for name in self.names)
        region = target.region
        self.region = None if region is None else torch.tensor(region, device=device_of(batch))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Inputs (copy * case, ...) in the order of `names` -> the target (copy * case,)."""
        return self.read(self.model, inputs)

    def read(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """The same of another model, such as a clone."""
        return targets.read(self.target, model(self.batch_of(inputs)), self.region)

    def batch_of(self, inputs: tuple[Tensor, ...]) -> Batch:
        """Inputs (copy * case, ...) as the Batch the model takes."""
        copies, rest = divmod(len(inputs[0]), self.cases)
        if rest or not copies:
            raise ValueError(f"{len(inputs[0])} rows came for a batch of {self.cases}; expected whole copies of it")

        whole = repeat_batch(replace(self.batch, inputs={}), copies)
        given = dict(zip(self.names, inputs, strict=True))
        if self.whole_volume:
            given["mri"] = neighbours(given["mri"], whole.valid["mri"])
        present = {
            name: available if name in self.names else torch.zeros_like(available)
            for name, available in whole.present.items()
        }
        return replace(whole, inputs=given, present=present)

    def pixels(self) -> int:
        """Pixels of one copy, those of each slice and patch: what time and memory go with."""
        return sum(tensor.shape[0] * tensor.shape[1] * tensor.shape[-1] * tensor.shape[-2] for tensor in self.inputs)


def clone(model: Model, inside: Mapping[str, Callable[[nn.Module], nn.Module]]) -> Model:
    """The model with some of its modules wrapped, by path; weights and all other modules are shared, nothing is copied.

    Raises InputError where the model has no module of that path.
    """
    twin = _shallow(model)
    for path, wrap in inside.items():
        *parents, name = path.split(".")
        at: nn.Module = twin
        for parent in parents:
            fresh = _shallow(_child(at, parent, path))
            at._modules[parent] = fresh
            at = fresh
        at._modules[name] = wrap(_child(at, name, path))
    return twin


def _child(module: nn.Module, name: str, path: str) -> nn.Module:
    child = module._modules.get(name)
    if child is None:
        raise InputError(f"this model has no part {path} to look at; choose another method of explaining")
    return child


def _shallow(module: Part) -> Part:
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


class Tap(nn.Module):
    """A module that keeps what it gave, call by call, with its graph. It may give one map or a list of maps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[list[Tensor]] = []

    def forward(self, *given: Tensor) -> Tensor | list[Tensor]:
        """What the module gives."""
        found: Tensor | list[Tensor] = self.inner(*given)
        self.seen.append(list(found) if isinstance(found, list | tuple) else [found])
        return found


class Remembered(nn.Module):
    """A module that is not asked again about rows it has answered: those that equal the reference's at their place.

    The first forward after `learning()` is the reference; `start()` before every later one. Rows are compared, so the
    answer is the module's own whatever the model does with it. Without gradients only.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.known: list[tuple[tuple[Tensor, ...], Tensor]] = []
        self.learns, self.usable, self.at = True, True, 0
        self.asked = 0  # rows that were computed since the reference

    def start(self) -> None:
        """Before a forward pass."""
        self.at = 0
        if self.learns and self.known and self.usable:
            given = tuple(torch.cat(parts) for parts in zip(*(rows for rows, _ in self.known), strict=True))
            self.known = [(given, torch.cat([answers for _, answers in self.known]))]
            self.learns = False

    def forward(self, *given: Tensor) -> Tensor:
        """What the module gives of given (row, ...)."""
        rows = len(given[0])
        if self.learns or not self.usable:
            answers: Tensor = self.inner(*given)
            by_row = isinstance(answers, Tensor) and all(len(x) == rows for x in (*given, answers))
            self.usable = self.usable and by_row
            if self.usable:
                self.known.append((given, answers))
            return answers
        reference, known = self.known[0]
        place = [(self.at + row) % len(known) for row in range(rows)]
        self.at += rows
        fresh = [
            row
            for row, present in enumerate(place)
            if not all(torch.equal(x[row], y[present]) for x, y in zip(given, reference, strict=True))
        ]
        self.asked += len(fresh)
        if len(fresh) == rows:
            every: Tensor = self.inner(*given)
            return every
        found = known[place]
        if fresh:
            found[fresh] = self.inner(*(x[fresh] for x in given))
        return found
