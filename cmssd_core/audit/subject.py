"""A model and one prepared case, asked for its answer to changed inputs: filled regions, noise, other pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cmssd_core.cases.tensors import neighbours
from cmssd_core.explain.forward import Bridge
from cmssd_core.explain.occlusion import Occluder
from cmssd_core.explain.question import ExplainSettings, Question
from cmssd_core.explain.targets import Target
from cmssd_core.models.base import Model
from cmssd_core.types import Batch

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Subject:
    """batch: one case, as collate gives it. The answer is the malignancy logit, by the one bridge to the model."""

    model: Model
    batch: Batch

    @cached_property
    def bridge(self) -> Bridge:
        """What the explaining methods ask too."""
        return Bridge(self.model, self.batch, Target())

    @property
    def images(self) -> dict[str, Tensor]:
        """What can be changed: "mri" (slice, contrast, y, x), "he" (patch, 3, y, x); only what the case has."""
        return {name: given[0] for name, given in zip(self.bridge.names, self.bridge.inputs, strict=True)}

    def grey(self, modality: str) -> Floats:
        """One grey image for each slice or patch, (image, y, x): the mean of contrasts or colours."""
        found: Floats = self.images[modality].mean(1).double().cpu().numpy()
        return found

    @cached_property
    def _occluder(self) -> Occluder:
        return Occluder(self._question)

    @cached_property
    def _question(self) -> Question:
        return Question(self.bridge, ExplainSettings(), lambda share, what: None)

    def answers(self, modality: str, variants: Sequence[Tensor]) -> Floats:
        """The answer with each variant of one modality in the place of the case's own; what it leaves is kept."""
        size = self._question.copies((modality,))
        found = []
        for i in range(0, len(variants), size):
            rows = [variant[None] for variant in variants[i : i + size]]
            found.append(self._occluder(modality, rows)[:, 0])
        return torch.cat(found).double().cpu().numpy()

    def answer(self) -> float:
        """The answer to the case as it is."""
        return float(self._occluder.value[0])

    def filled(self, modality: str, masks: Sequence[Mask], fill: Tensor) -> Floats:
        """Answers with each mask (image, y, x) filled. fill: one value a channel, or an image as the input is."""
        image = self.images[modality]
        with_fill = fill[None, :, None, None] if fill.ndim == 1 else fill
        present = [torch.from_numpy(np.ascontiguousarray(mask)).to(image.device)[:, None] for mask in masks]
        return self.answers(modality, [torch.where(mask, with_fill.to(image.dtype), image) for mask in present])

    def plain(self, modality: str, room: Mask) -> Tensor:
        """What a region is filled with: the mean of the MRI's body, the mean colour of the slide's tissue."""
        image = self.images[modality]
        inside = torch.from_numpy(room).to(image.device)
        return image.movedim(1, -1)[inside].mean(0) if bool(inside.any()) else image.mean((0, 2, 3))

    def noised(self, *, mri: float, he: float, seed: int) -> Batch:
        """The case with Gaussian noise: mri in standard deviations of the image, he in shares of white."""
        rng = torch.Generator().manual_seed(seed)
        inputs = dict(self.batch.inputs)
        for name, image in self.images.items():
            noise = torch.randn(image.shape, generator=rng).to(image.device)
            changed = (image + {"mri": mri, "he": he}[name] * noise)[None]
            inputs[name] = neighbours(changed, self.batch.valid["mri"]) if name == "mri" else changed
        return replace(self.batch, inputs=inputs)
