"""Baselines: what an image without content is, by name. Each is a choice, so each is shown beside the map.

A path of Integrated Gradients starts at the blurred image, not at an even one: group normalisation blows up what is
left of an image at a thousandth of its contrast, so on the way from an even image the whole answer changes within the
first thousandth, and a map would tell of that whisper (docs/explainability.md has the measurement).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.explain.forward import Bridge
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.types import InputError

BLUR = 1 / 8  # of the edge: what is left of an image after blurring away its detail


def _mean_intensity(mri: Tensor, real: Tensor) -> Tensor:
    return torch.zeros_like(mri)


def _air(mri: Tensor, real: Tensor) -> Tensor:
    low = mri.flatten(-2).amin(-1)  # (case, slice, contrast) or with neighbours before contrast
    shown = real.view(*real.shape, *[1] * (low.ndim - 2))
    low = low.masked_fill(~shown, torch.inf).amin(dim=1, keepdim=True)
    return low.masked_fill(low.isinf(), 0.0)[..., None, None].expand_as(mri)


def _white(he: Tensor, real: Tensor) -> Tensor:
    return torch.ones_like(he)


def _mean_colour(he: Tensor, real: Tensor) -> Tensor:
    share = real[:, :, None].float()
    colour = (he.mean(dim=(-2, -1)) * share).sum(1) / share.sum(1).clamp(min=1)  # (case, 3)
    return colour[:, None, :, None, None].expand_as(he)


def _blurred(image: Tensor, real: Tensor) -> Tensor:
    size = image.shape[-2:]
    flat = image.reshape(-1, 1, *size)
    small = F.adaptive_avg_pool2d(flat, (max(1, round(size[0] * BLUR / 2)), max(1, round(size[1] * BLUR / 2))))
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False).reshape(image.shape)


#: By modality: name -> words and the image. Never black for H&E: black is ink, white is glass.
BASELINES: dict[str, dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]]] = {
    "mri": {
        "mean": ("the body's mean intensity everywhere", _mean_intensity),
        "air": ("the darkest value of each contrast everywhere", _air),
        "blur": ("the image without its detail", _blurred),
    },
    "he": {
        "white": ("empty glass (white)", _white),
        "mean": ("the mean colour of the patches", _mean_colour),
        "blur": ("the patches without their detail", _blurred),
    },
}


def path_start(bridge: Bridge, settings: ExplainSettings) -> tuple[tuple[Tensor, ...], str]:
    """Where a path to the images starts: `baselines` of settings.baseline_mri and baseline_he."""
    return baselines(bridge, {"mri": settings.baseline_mri, "he": settings.baseline_he})


def fill(bridge: Bridge, settings: ExplainSettings) -> tuple[tuple[Tensor, ...], str]:
    """What stands in for a part that is taken away: `baselines` of settings.fill_mri and fill_he."""
    return baselines(bridge, {"mri": settings.fill_mri, "he": settings.fill_he})


def baselines(bridge: Bridge, chosen: Mapping[str, str]) -> tuple[tuple[Tensor, ...], str]:
    """The baseline of each of a Bridge's inputs, with their shapes, and what they are in words.

    chosen: names in BASELINES by modality.
    Padding, and a contrast that is not there (all zeros), are as they are. Raises InputError for an unknown name.
    """
    found, words = [], []
    for name, given in zip(bridge.names, bridge.inputs, strict=True):
        if name not in BASELINES:
            raise InputError(
                f"explaining by a baseline is not offered for {MODALITIES[name].label}; choose another method"
            )
        asked = chosen[name]
        if asked not in BASELINES[name]:
            raise InputError(
                f"baseline {asked!r} came for {MODALITIES[name].label}, expected one of {', '.join(BASELINES[name])}; "
                "choose one"
            )
        text, make = BASELINES[name][asked]
        real = bridge.real[name]
        image = make(given, real)
        keep = ~real.view(*real.shape, *[1] * (given.ndim - 2)).expand_as(given)
        if name == "mri":
            present = given.flatten(-2).abs().amax(-1).amax(1, keepdim=True) > 0  # contrast by contrast of a case
            keep = keep | ~present[..., None, None].expand_as(given)
        found.append(torch.where(keep, given, image).contiguous())
        words.append(f"{MODALITIES[name].label}: {text}")
    return tuple(found), "; ".join(words)
