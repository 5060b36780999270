"""What a method of explaining is asked and what it answers, both for a whole Batch; and the settings of all methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cmssd_core.batches import select_case
from cmssd_core.explain.forward import Bridge
from cmssd_core.types import Share

Progress = Callable[[float, str], None]
BYTES_A_PIXEL = 1500  # what a forward without gradient needs at most, for each pixel of a slice or a patch


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """Settings of all methods; each reads its own.

    baseline_mri, baseline_he: where Integrated Gradients' path starts; fill_mri, fill_he: what stands in for a part
    that a method takes away; names in explain.baselines. memory_mb: bound on what a method holds at once.
    seed: of whatever is drawn.
    Integrated Gradients: steps = None halves pieces of the path until the residual is at most `tolerance` of the
    difference, at most `max_steps` points; a number takes that many Gauss-Legendre points, as Captum does.
    Occlusion: windows of window_px, stride_px apart; window_slices deep (None = as deep as keeps to max_windows); on
    `modalities`, and there on `slices` of the prepared MRI and `patches` of the bag alone (None = all).
    SmoothGrad: samples, noise as a part of the image's own deviation (noise_mri in z-scores, noise_he of [0, 1]).
    KernelShap and LIME: superpixels of both images together, passes = None takes three a superpixel.
    Criterion ablation: controls = how many shifted regions of the same shape are blanked beside.
    """

    baseline_mri: str = "blur"
    baseline_he: str = "blur"
    fill_mri: str = "mean"
    fill_he: str = "white"
    memory_mb: int = 1536
    seed: int = 0
    steps: int | None = None
    tolerance: float = 0.05
    max_steps: int = 65
    modalities: tuple[str, ...] | None = None
    slices: tuple[int, ...] | None = None
    patches: tuple[int, ...] | None = None
    window_px: int = 16
    stride_px: int = 8
    window_slices: int | None = None
    max_windows: int = 2000
    samples: int = 20
    noise_mri: float = 0.15
    noise_he: float = 0.05
    superpixels: int = 96
    passes: int | None = None
    controls: int = 20


@dataclass(frozen=True, eq=False)
class Mark:
    """Where a criterion lies in the explained inputs of one modality: bool (case, slice or patch, y, x)."""

    name: str
    modality: str
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Question:
    """What a method gets. marks: criteria of the case. tell(share done, what is being done) may raise to cancel."""

    bridge: Bridge
    settings: ExplainSettings
    tell: Progress
    marks: tuple[Mark, ...] = ()

    def copies(self, names: tuple[str, ...] | None = None) -> int:
        """How many copies of the batch a forward without gradient may hold, when only `names` are computed anew."""
        bridge = self.bridge
        sizes = {
            n: x.shape[0] * x.shape[1] * x.shape[-1] * x.shape[-2]
            for n, x in zip(bridge.names, bridge.inputs, strict=True)
        }
        pixels = sum(size for name, size in sizes.items() if names is None or name in names)
        return int(min(32, max(1, self.settings.memory_mb * 2**19 // (BYTES_A_PIXEL * max(pixels, 1)))))

    def wanted(self) -> tuple[str, ...]:
        """The modalities that are there and asked for."""
        asked = self.settings.modalities
        return tuple(name for name in self.bridge.names if asked is None or name in asked)


@dataclass(frozen=True, eq=False)
class Found:
    """What a method answers, case first.

    maps: "mri" float32 (case, slice, contrast or 1, y, x), "he" (case, patch, y, x); a modality may be left out.
    value, baseline_value: f(x) and f(baseline), (case,). gap: relative completeness residual (case,), NaN where the
    difference is too small to divide by; None where the method promises none. shares: case by case.
    """

    maps: Mapping[str, Tensor]
    value: Tensor
    effort: str
    baseline: str | None = None
    baseline_value: Tensor | None = None
    gap: Tensor | None = None
    shares: tuple[tuple[Share, ...], ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def as_maps(names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Tensors with the shapes of a Bridge's inputs as a Found's maps: neighbours and colours summed, float32."""
    maps = {}
    for name, tensor in zip(names, tensors, strict=True):
        found = tensor.detach().float()
        if name == "he" or found.ndim == 6:
            found = found.sum(2)
        maps[name] = found
    return maps


def one_by_one(question: Question, run: Callable[[Question], Found]) -> Found:
    """A method that takes one case, on all cases of the batch in turn."""
    cases = question.bridge.cases
    if cases == 1:
        return run(question)
    answers = []
    for case in range(cases):
        bridge = Bridge(question.bridge.model, select_case(question.bridge.batch, case), question.bridge.target)
        marks = tuple(replace(mark, mask=mark.mask[case : case + 1]) for mark in question.marks)

        def tell(share: float, what: str, case: int = case) -> None:
            question.tell((case + share) / cases, what)

        answers.append(run(replace(question, bridge=bridge, marks=marks, tell=tell)))
    first = answers[0]
    shapes = {(name, values.shape) for one in answers for name, values in one.maps.items()}
    if len(shapes) != len(first.maps):
        raise ValueError("cases of one batch lack different modalities; explain them one by one")

    def joined(name: str) -> Tensor | None:
        parts = [getattr(one, name) for one in answers]
        return None if parts[0] is None else torch.cat(parts)

    value = joined("value")
    assert value is not None
    return Found(
        maps={name: torch.cat([one.maps[name] for one in answers]) for name in first.maps},
        value=value,
        effort=first.effort,
        baseline=first.baseline,
        baseline_value=joined("baseline_value"),
        gap=joined("gap"),
        shares=tuple(shares for one in answers for shares in one.shares),
        notes=first.notes,
    )
