"""The contract of a model: what it needs, what it answers, and one forward from Batch to ModelOutput."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmssd_core.models.spec import Spec
from cmssd_core.types import Batch, InputError, ModelOutput


class Model(nn.Module):
    """Base of every model in MODELS.

    needs: modalities it reads, in the order attribution methods get them. optional: those that may be missing (not all
    at once). tasks: names in TASKS, the heads it promises. sizes: names of its sizes. encoders: modality -> module path
    of its encoder. fused: module path of what pools the fused features, None where nothing is fused. slow, undecayed:
    beginnings of parameter names that learn slowly beside others, and that weight decay leaves alone. extra_terms:
    names of the loss terms that `extra_loss` gives.
    """

    needs: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]]
    tasks: ClassVar[tuple[str, ...]]
    sizes: ClassVar[tuple[str, ...]]
    encoders: ClassVar[Mapping[str, str]] = {}
    fused: ClassVar[str | None] = None
    slow: ClassVar[tuple[str, ...]] = ()
    undecayed: ClassVar[tuple[str, ...]] = ()
    extra_terms: ClassVar[tuple[str, ...]] = ()
    spec: Spec

    def __init__(self, size: str = "reference") -> None:
        super().__init__()

    def fit_start(self, batch: Batch) -> None:
        """Fit what the start of training takes from training data; nothing unless a model says otherwise."""

    def extra_loss(
        self, output: ModelOutput, batch: Batch, spoilt: Mapping[str, Tensor], *, cases: int
    ) -> Mapping[str, Tensor]:
        """Loss terms of this one paper beside those of its tasks, by names of `extra_terms`; none by itself.

        spoilt: (case,) in [0, 1] by modality, how badly training damaged an input. cases: of the whole step, which each
        term is divided by.
        """
        return {}

    def part(self, name: str, batch: Batch) -> ModelOutput:
        """What the extra term `name` reads, computed alone: for stages of training that learn nothing else."""
        raise ValueError(f"{type(self).__name__} computes no {name} alone; its extra terms are {self.extra_terms}")

    def forward(self, batch: Batch) -> ModelOutput:
        """The forward that predicts is the forward that is explained."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")


def check_present(batch: Batch, spec: Spec, *, optional: tuple[str, ...]) -> None:
    """Raises InputError where a case lacks a modality the model cannot do without, or has none of those it reads.

    spec: of the model, whose keys are what it reads. optional: those that may be missing.
    """
    for name in set(spec) - set(optional):
        if name not in batch.inputs or not bool(batch.present[name].all()):
            raise InputError(
                f"a case came without {spec[name].label}, which this model cannot do without; add the file, or choose "
                "a model that needs another modality"
            )
    if not bool(torch.stack([batch.present[name] for name in spec]).any(0).all()):
        words = " nor ".join(one.label for one in spec.values())
        raise InputError(f"a case came with neither {words}; this model needs at least one; add the missing file")
