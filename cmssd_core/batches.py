"""All that copies a Batch: moved to a device, one case of it, several copies, other inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cmssd_core.types import Batch

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def map_tensors(batch: Batch, change: Callable[[Tensor], Tensor], *, ids: tuple[str, ...] | None = None) -> Batch:
    """The batch with every tensor changed alike; ids: None = as they are."""

    def changed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: change(tensor) for name, tensor in tensors.items()}

    return Batch(
        ids=batch.ids if ids is None else ids,
        inputs=changed(batch.inputs),
        valid=changed(batch.valid),
        present=changed(batch.present),
        geometry=changed(batch.geometry),
    )


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device."""
    return map_tensors(batch, lambda tensor: tensor.to(device))


def select_case(batch: Batch, case: int) -> Batch:
    """One case of a batch, as a batch."""
    row = slice(case, case + 1)
    return map_tensors(batch, lambda tensor: tensor[row], ids=batch.ids[row])


def repeat_batch(batch: Batch, copies: int) -> Batch:
    """The batch `copies` times over, copy by copy."""
    if copies == 1:
        return batch
    return map_tensors(batch, lambda tensor: tensor.repeat(copies, *[1] * (tensor.ndim - 1)), ids=batch.ids * copies)


def with_inputs(batch: Batch, inputs: Mapping[str, Tensor]) -> Batch:
    """The batch with these inputs in place of its own; other modalities stay."""
    return replace(batch, inputs={**batch.inputs, **inputs})


def device_of(batch: Batch) -> torch.device:
    """Where the batch's tensors lie."""
    return next(iter(batch.present.values())).device
