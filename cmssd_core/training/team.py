"""The processes that share a training step: one, or those torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cmssd_core.machine.workers import die_with_parent


def is_first() -> bool:
    """Whether this process is the one that writes, of those torchrun started or alone."""
    return os.environ.get("RANK", "0") == "0"


class Team:
    """The processes that share a step: one, or those torchrun started (gloo on CPUs, NCCL on GPUs)."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.first = is_first()
        if self.size > 1 and not dist.is_initialized():
            die_with_parent()  # torchrun, killed, would leave them waiting for one another
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    def in_turn(self, work: Callable[[], object]) -> None:
        """The first process does it, the others wait for it."""
        if self.size > 1:
            if self.first:
                work()
            dist.barrier()

    def same(self, value: list[float]) -> list[float]:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        held: list[Any] = [value]
        dist.broadcast_object_list(held)
        return list(held[0])

    def sum_gradients(self, model: nn.Module, sums: Tensor) -> None:
        """Add up the gradients and the loss terms of all processes: each divided by the whole step's cases already."""
        if self.size == 1:
            return
        dist.all_reduce(sums)
        parameters = list(model.parameters())
        # What no process used keeps no gradient, as in one process: AdamW would decay it on a gradient of zeros.
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=sums.device)
        dist.all_reduce(used)
        parameters = [p for p, u in zip(parameters, used.tolist(), strict=True) if u > 0]
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)
