"""Occlusion: what the target loses when a window of one image is covered (Zeiler and Fergus, ECCV 2014).

The values are Captum's; the work is less: parts of the network whose input rows a window leaves as they were are not
computed again. For an MRI window that is the whole slide branch and the encoder of all slices that do not see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cmssd_core.explain.baselines import fill
from cmssd_core.explain.forward import Remembered, clone
from cmssd_core.explain.memory import heavy
from cmssd_core.explain.question import ExplainSettings, Found, Question
from cmssd_core.models.base import Model
from cmssd_core.types import InputError


@dataclass(frozen=True)
class Window:
    """Images first to last (slices or patches) and, in each, a square from (y, x), edge `px`; cut off at the border."""

    first: int
    last: int
    y: int
    x: int
    px: int

    def part(self, ndim: int) -> tuple[slice, ...]:
        """Its index in (case, slice or patch, ..., y, x) of so many dimensions."""
        square = slice(self.y, self.y + self.px), slice(self.x, self.x + self.px)
        return (slice(None), slice(self.first, self.last), *[slice(None)] * (ndim - 4), *square)


def starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin so that the last one reaches the border, as Captum lays them."""
    return [i * stride for i in range(max(0, -(-(size - window) // stride)) + 1)]


def windows(name: str, shape: tuple[int, ...], settings: ExplainSettings) -> tuple[list[Window], str]:
    """Windows over (image, ..., y, x) of one modality, and what they are in words.

    MRI windows grow deeper, then windows of both modalities wider, by doubling until at most max_windows are left.
    Raises InputError where a slice or patch asked for is not there.
    """
    count, height, width = shape[0], shape[-2], shape[-1]
    chosen = settings.slices if name == "mri" else settings.patches
    images = list(range(count)) if chosen is None else list(chosen)
    if not images or min(images) < 0 or max(images) >= count:
        what = "slices" if name == "mri" else "patches"
        raise InputError(f"{what} {chosen} came, there are {count}, counted from 0; choose among these")
    px, stride, deep = settings.window_px, settings.stride_px, settings.window_slices or 1
    free = name == "mri" and settings.window_slices is None and chosen is None
    while True:
        rows, columns = starts(height, px, stride), starts(width, px, stride)
        blocks = [images[i : i + deep] for i in range(0, len(images), deep)] if name == "mri" else [[i] for i in images]
        total = len(blocks) * len(rows) * len(columns)
        if total <= settings.max_windows or (px >= max(height, width) and not (free and deep < count)):
            break
        if free and deep < count:
            deep *= 2
        else:
            px, stride = px * 2, stride * 2
    found = [Window(block[0], block[-1] + 1, y, x, px) for block in blocks for y in rows for x in columns]
    depth = f" through {deep} slices" if name == "mri" and deep > 1 else ""
    return found, f"{total} windows of {min(px, width)} px{depth}, {stride} px apart"


class Occluder:
    """f of a case with windows of one modality covered; what they leave untouched is computed once."""

    def __init__(self, question: Question) -> None:
        self.question, bridge = question, question.bridge
        self.kept: list[Remembered] = []
        self.model = clone(bridge.model, {path: partial(self._remember) for path in rowwise(bridge.model)})
        with torch.no_grad():
            self.value = bridge.read(self.model, bridge.inputs)

    def _remember(self, part: nn.Module) -> Remembered:
        self.kept.append(Remembered(part))
        return self.kept[-1]

    def __call__(self, name: str, changed: list[Tensor]) -> Tensor:
        """changed: images of modality `name`, each (case, ...) -> f (row, case)."""
        bridge = self.question.bridge
        inputs = tuple(
            torch.cat(changed) if n == name else x.expand(len(changed), *x.shape[1:]) if bridge.cases == 1
            else x.repeat(len(changed), *[1] * (x.ndim - 1))
            for n, x in zip(bridge.names, bridge.inputs, strict=True)
        )  # fmt: skip
        for part in self.kept:
            part.start()
        with torch.no_grad():
            found: Tensor = bridge.read(self.model, inputs).unflatten(0, (len(changed), bridge.cases))
        return found


def rowwise(model: Model) -> tuple[str, ...]:
    """Parts of a model that give one answer for each image row they take, and cost most of its time."""
    present = {path for path, _ in model.named_modules()}
    return (*heavy(model), *(path for path in ("damage_mri.texture", "damage_he.texture") if path in present))


def occlusion(question: Question) -> Found:
    """f(x) - f(x with a window covered), averaged over the windows that cover a pixel. Covered by `baselines.fill`."""
    bridge, settings = question.bridge, question.settings
    covers, words = fill(bridge, settings)
    occluder = Occluder(question)
    overlay = {
        name: windows(name, (*x.shape[1:],), settings)
        for name, x in zip(bridge.names, bridge.inputs, strict=True)
        if name in question.wanted()
    }
    total, done = sum(len(some) for some, _ in overlay.values()), 0
    maps: dict[str, Tensor] = {}
    for name, given, cover in zip(bridge.names, bridge.inputs, covers, strict=True):
        if name not in overlay:
            continue
        # One value a pixel, whatever its contrast or colour: all of them are covered together.
        lost = given.new_zeros(*given.shape[:2], *given.shape[-2:])
        seen = torch.zeros_like(lost)
        at_once = question.copies((name,))
        for some in _grouped(overlay[name][0], at_once):
            rows = []
            for window in some:
                row = given.clone()
                row[window.part(row.ndim)] = cover[window.part(row.ndim)]
                rows.append(row)
            differences = occluder.value - occluder(name, rows)
            for window, difference in zip(some, differences, strict=True):
                lost[window.part(4)] += difference.view(-1, 1, 1, 1)
                seen[window.part(4)] += 1
            done += len(some)
            question.tell(done / total, f"covering windows, {done} of {total}")
        mean = lost / seen.clamp(min=1)
        maps[name] = mean[:, :, None] if name == "mri" else mean
    effort = "; ".join(f"{LABELS[name]}: {text}" for name, (_, text) in overlay.items())
    return Found(maps=maps, value=occluder.value, effort=effort, baseline=words)


LABELS = {"mri": "MRI", "he": "H&E"}


def _grouped(items: list[Window], size: int) -> Iterator[list[Window]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
